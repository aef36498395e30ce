"""WebSockets across processes: a conversation on two replicas, each death and its legal end, big frames."""

import asyncio
import signal
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import Fleet
from tests.support.clients import until
from tests.support.processes import pool_ready, up
from tests.support.sockets import LIMIT, Talk, refusal, talking, user

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SLOW = "count slowly from 1 to 150"


async def until_it_talks(on: Talk) -> None:
    while "output_text.delta" not in str(await on.socket.recv()):
        pass


async def test_cv_34_a_conversation_goes_on_at_the_other_replica(fleet: Fleet) -> None:
    """CV-34. Given a connection that is gone, and another replica: the response is not known there, the whole
    conversation is, in the same session of Lingma.
    """
    fleet.start()
    async with talking(fleet.urls[0], "org_auto") as on:
        first = await on.turn("report 1")
    async with talking(fleet.urls[1], "org_auto") as there:
        lost = await there.turn("report 2", previous_response_id=first.response["id"])
        assert lost.error[1] == LIMIT
        assert (await there.closed())[0] == 1000
    async with talking(fleet.urls[1], "org_auto") as again:
        whole = await again.turn(user("report 1"), *first.items, user("report 2"))
        assert "turns=2 isReply=true" in whole.text
        assert "turns=3 isReply=true" in (await again.turn("report 3")).text


async def test_a_lingma_killed_in_mid_answer_ends_it_as_failed(fleet: Fleet) -> None:
    fleet.start(replicas=1, workers=1)
    async with talking(fleet.urls[0], "org_auto") as on:
        await on.create(SLOW)
        await until_it_talks(on)
        children = fleet.workers[0].children()
        next(c for c in children if "workers.simulator" in " ".join(c.cmdline())).kill()
        assert (await on.answer()).response["status"] == "failed"
        fleet.replicas[0].ready("/healthz", pool_ready(1))
        assert "turns=1 " in (await on.turn("report")).text, "the connection goes on"
    await until(lambda: fleet.slots_used() == 0, "every slot to be free")


async def test_a_worker_killed_in_mid_answer_ends_it_as_failed(fleet: Fleet) -> None:
    fleet.start(replicas=1, workers=1)
    async with talking(fleet.urls[0], "org_auto") as on:
        await on.create(SLOW)
        await until_it_talks(on)
        fleet.workers[0].kill()
        assert (await on.answer()).response["status"] == "failed"


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_leaves_frees_its_slot(fleet: Fleet, politely: bool) -> None:
    fleet.start(replicas=1, workers=1)
    async with talking(fleet.urls[0], "org_auto") as on:
        await on.create(SLOW)
        await until_it_talks(on)
        assert fleet.slots_used() == 1
        if politely:
            await on.socket.close()
        else:
            on.socket.transport.abort()
        await until(lambda: fleet.slots_used() == 0, "the slot to be free", within_s=5)


async def test_cv_67_a_replica_that_stops_ends_what_runs_and_says_goodbye(fleet: Fleet) -> None:
    """CV-67. Given SIGTERM during a response: it ends whole, then 1012; an idle connection goes at once, and
    new ones are refused while the response runs.
    """
    fleet.start(replicas=1, workers=1, DRAIN_DEADLINE_S="60")
    async with talking(fleet.urls[0], "org_auto") as idle, talking(fleet.urls[0], "org_auto") as busy:
        await idle.turn("report")
        await busy.create("count slowly from 1 to 80")
        await until_it_talks(busy)
        fleet.replicas[0].send(signal.SIGTERM)
        assert (await idle.closed())[0] == 1012
        status, body, _ = await refusal(fleet.urls[0])
        assert (status, body["error"]["code"]) == (503, "service_unavailable")
        answer = await busy.answer()
        assert answer.response["status"] == "completed"
        assert (await busy.closed())[0] == 1012
    process = fleet.replicas[0].process
    assert process is not None
    assert await asyncio.to_thread(process.wait, 15) == 0


async def test_what_outlives_the_drain_ends_legally(fleet: Fleet) -> None:
    fleet.start(replicas=1, workers=1, DRAIN_DEADLINE_S="0.5")
    async with talking(fleet.urls[0], "org_auto") as on:
        await on.create(SLOW)
        await until_it_talks(on)
        fleet.replicas[0].send(signal.SIGTERM)
        answer = await on.answer()
        assert answer.response["status"] == "failed"
        assert "try again" in answer.response["error"]["message"]
        assert (await on.closed())[0] == 1012
    await until(lambda: fleet.slots_used() == 0, "every slot to be free")


async def test_cv_66_a_frame_of_twenty_mebibytes_is_taken(tmp_path: Path) -> None:
    """CV-66. Given a frame of 20 MiB: taken; above our limit: a 400 frame, no 1009, and the connection stays.
    Several frames that are too much together for a conversation: likewise.
    """
    mebibyte = 1024 * 1024
    limit = 24 * mebibyte
    with up(tmp_path, MAX_BODY_BYTES=str(limit)) as service:
        service.ready("/healthz", pool_ready(1))
        async with talking(service.url, "org_auto") as on:
            warm = await on.turn(user("x" * (20 * mebibyte)), generate=False)
            assert warm.types[-1] == "response.completed"
            for size in (limit, 2 * limit, 10 * limit):
                answer = await on.ask("y" * size, generate=False)
                assert answer.error == (400, "request_too_large", None)
            answer = await on.turn(user("z" * (5 * mebibyte)), generate=False)
            assert answer.error == (400, "request_too_large", "input")
            assert (await on.ask("say still here")).text == "still here"
        assert service.process is not None


async def test_turns_on_sockets_are_counted_like_all_others(tmp_path: Path) -> None:
    with up(tmp_path, METRICS_PUBLIC="true", LOG_LEVEL="INFO") as service:
        service.ready("/healthz", pool_ready(1))
        async with talking(service.url, "org_auto") as on, httpx2.AsyncClient() as client:
            answer = await on.turn("say counted")
            await on.send(type="response.processed", response_id=on.previous)
            await on.socket.send("nonsense")
            await on.answer()
            told = (await client.get(f"{service.url}/metrics")).text
            for line in (
                'gateway_turns_total{dialect="responses",outcome="completed",upstream="lingma"} 1.0',
                'gateway_websocket_messages_total{kind="create"} 1.0',
                'gateway_websocket_messages_total{kind="processed"} 1.0',
                'gateway_websocket_messages_total{kind="refused"} 1.0',
                "gateway_websockets_open 1.0",
            ):
                assert f"\n{line}\n" in told
            assert on.socket.response is not None
            request_id = on.socket.response.headers["x-request-id"]
        finished = next(line for line in service.log.splitlines() if '"turn.finished"' in line)
        assert request_id in finished
        assert answer.response["id"].removeprefix("resp_") in finished
        assert "counted" not in service.log
        await until(lambda: '"websocket.closed"' in service.log, "the end to be logged")
