"""Whatever dies, the client sees a legal end or its full answer, slots are free, and nothing runs twice."""

import asyncio
import signal
from collections import Counter

import pytest

from tests.e2e.conftest import Fleet
from tests.support.clients import Stream, openai_client, until
from tests.support.processes import get_json

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SLOW = "count slowly from 1 to 150"
LONG_ENOUGH = " ".join(str(n) for n in range(1, 151))


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.replace(",", " ").split() if word.isdigit()]


async def settled(fleet: Fleet, within_s: float = 15.0) -> None:
    await until(lambda: fleet.slots_used() == 0, "every slot to be free", within_s)


def no_attempt_twice(fleet: Fleet) -> None:
    """Every ask that reached a Lingma names another attempt."""
    counts = Counter(ask["params"]["requestId"] for ask in fleet.asks())  # type: ignore[index]
    assert [request for request, count in counts.items() if count > 1] == []


async def talking(streams: list[Stream]) -> None:
    await until(lambda: all(len(numbers(s.text)) >= 3 or s.error for s in streams), "every stream to talk")


async def test_lv_19_a_lingma_killed_in_mid_stream(fleet: Fleet) -> None:
    """Given kill -9 of the child after some deltas; expect an error at once, nothing cached, slots free."""
    fleet.start(replicas=1, workers=1)
    async with openai_client(fleet.replicas[0].url) as client:
        stream = Stream(client, SLOW).start()
        await talking([stream])
        child = next(c for c in fleet.workers[0].children() if "workers.simulator" in " ".join(c.cmdline()))
        child.kill()
        await stream.done(3)
        assert stream.error is not None
        assert stream.finish is None
        await settled(fleet)
        fleet.replicas[0].ready("/healthz", lambda health: health["pool_ready"] == 1)
        again = await Stream(client, "say back").start().done()
        assert again.text == "back"
    no_attempt_twice(fleet)


async def test_a_worker_killed_in_mid_stream(fleet: Fleet) -> None:
    fleet.start(replicas=1, workers=2)
    async with openai_client(fleet.replicas[0].url) as client:
        streams = [Stream(client, SLOW).start() for _ in range(4)]
        await talking(streams)
        children = fleet.workers[0].children()
        fleet.workers[0].kill()
        for stream in streams:
            await stream.done(60)
            assert stream.ended_legally
            if stream.error is None:
                assert numbers(stream.text) == list(range(1, 151))
        assert any(stream.error for stream in streams)
        assert any(stream.error is None for stream in streams)
        await until(lambda: not any(child.is_running() for child in children), "no orphan of the worker")
        await settled(fleet, 20)
        survivor = await Stream(client, "say still here").start().done()
        assert survivor.text == "still here"
    no_attempt_twice(fleet)


async def test_a_worker_killed_before_it_said_anything_is_replaced_unseen(fleet: Fleet) -> None:
    """No content was sent and the attempt is fenced: the other worker answers, the client notices nothing."""
    fleet.start(replicas=1, workers=2)
    async with openai_client(fleet.replicas[0].url) as client:
        streams = [Stream(client, "wait 4 seconds").start() for _ in range(4)]
        await until(lambda: len(fleet.asks()) == 4, "all asks to reach a Lingma")
        fleet.workers[0].kill()
        for stream in streams:
            await stream.done(60)
            assert stream.error is None
            assert "waited 4 seconds" in stream.text
        await settled(fleet, 20)
    no_attempt_twice(fleet)
    assert len(fleet.asks()) > 4, "nothing was tried again: the test has not tested anything"


async def test_a_replica_killed_in_mid_stream_leaves_nothing_running(fleet: Fleet) -> None:
    fleet.start(replicas=2, workers=1)
    async with openai_client(fleet.replicas[0].url) as client:
        stream = Stream(client, "count slowly from 1 to 3000").start()
        await talking([stream])
        fleet.replicas[0].kill()
        await stream.done(10)
        assert stream.error is not None
    await settled(fleet, 25)
    async with openai_client(fleet.replicas[1].url) as other:
        assert (await Stream(other, "say alive").start().done()).text == "alive"
    no_attempt_twice(fleet)


@pytest.mark.parametrize("pause_s", [1.5, 9.0])
async def test_redis_away_for_a_moment_is_waited_for(fleet: Fleet, pause_s: float) -> None:
    """Its memory survives (it only hangs): every stream gets its full answer, those that were silent, too."""
    fleet.start(replicas=1, workers=1)
    async with openai_client(fleet.replicas[0].url) as client:
        streams = [Stream(client, SLOW).start() for _ in range(3)]
        silent = Stream(client, "wait 15 seconds").start()
        await talking(streams)
        await until(lambda: len(fleet.asks()) == 4, "all asks to reach a Lingma")
        fleet.redis.pause()
        await asyncio.sleep(pause_s)
        fleet.redis.resume()
        for stream in streams:
            await stream.done(60)
            assert stream.error is None
            assert numbers(stream.text) == list(range(1, 151))
        await silent.done(60)
        assert silent.error is None
        assert "waited 15 seconds" in silent.text
        await settled(fleet)
    no_attempt_twice(fleet)


async def test_redis_killed_and_started_empty_ends_streams_legally_and_heals(fleet: Fleet) -> None:
    fleet.start(replicas=2, workers=2)
    async with openai_client(fleet.replicas[0].url) as client:
        streams = [Stream(client, "count slowly from 1 to 1500").start() for _ in range(6)]
        await talking(streams)
        fleet.redis.kill()
        await asyncio.sleep(1.0)
        fleet.redis.start()
        for stream in streams:
            await stream.done(60)
            assert stream.error is not None
            assert stream.finish is None
    await settled(fleet, 20)
    for replica in fleet.replicas:
        replica.ready("/healthz", lambda health: health["pool_ready"] == 2)
        async with openai_client(replica.url) as client:
            assert (await Stream(client, "say healed").start().done()).text == "healed"
    no_attempt_twice(fleet)


async def test_sigterm_lets_twenty_streams_end(fleet: Fleet) -> None:
    fleet.start(replicas=1, workers=2, LINGMA_INSTANCE_MAX_IN_FLIGHT="16")
    replica = fleet.replicas[0]
    async with openai_client(replica.url) as client:
        streams = [Stream(client, SLOW).start() for _ in range(20)]
        await talking(streams)
        replica.send(signal.SIGTERM)
        await until(
            lambda: get_json(f"{replica.url}/readyz") in (None, {"ready": False, "reason": "draining"}),
            "not ready",
        )
        for stream in streams:
            await stream.done(60)
            assert stream.error is None
            assert numbers(stream.text) == list(range(1, 151))
    assert replica.process is not None
    assert await asyncio.to_thread(replica.process.wait, 20) == 0
    await settled(fleet)
    no_attempt_twice(fleet)


async def test_sigterm_with_a_short_deadline_cancels_legally(fleet: Fleet) -> None:
    fleet.start(replicas=1, workers=1, DRAIN_DEADLINE_S="0.5", LINGMA_INSTANCE_MAX_IN_FLIGHT="16")
    replica = fleet.replicas[0]
    async with openai_client(replica.url) as client:
        streams = [Stream(client, "count slowly from 1 to 3000").start() for _ in range(8)]
        await talking(streams)
        replica.send(signal.SIGTERM)
        for stream in streams:
            await stream.done(15)
            assert stream.error is not None
            assert "shutting down" in str(stream.error)
            assert stream.finish is None
    assert replica.process is not None
    assert await asyncio.to_thread(replica.process.wait, 20) == 0
    await settled(fleet)


async def test_sigterm_of_a_worker_lets_its_turns_end(fleet: Fleet) -> None:
    fleet.start(replicas=1, workers=1, LINGMA_INSTANCE_MAX_IN_FLIGHT="16")
    worker = fleet.workers[0]
    async with openai_client(fleet.replicas[0].url) as client:
        streams = [Stream(client, SLOW).start() for _ in range(8)]
        await talking(streams)
        children = worker.children()
        worker.send(signal.SIGTERM)
        for stream in streams:
            await stream.done(60)
            assert stream.error is None
            assert numbers(stream.text) == list(range(1, 151))
    assert worker.process is not None
    assert await asyncio.to_thread(worker.process.wait, 30) == 0
    assert not any(child.is_running() for child in children)
    no_attempt_twice(fleet)


async def test_a_client_that_leaves_frees_its_slot_within_a_second(fleet: Fleet) -> None:
    """LV-28, through the whole path: chat/stop with the same request and session reaches Lingma."""
    fleet.start(replicas=1, workers=1)
    async with openai_client(fleet.replicas[0].url) as client:
        stream = Stream(client, "count slowly from 1 to 3000").start()
        await talking([stream])
        assert stream.task is not None
        stream.task.cancel()
    await settled(fleet, 2.0)
