"""A whole worker over a real Redis with the simulator as its subprocess: turns, faults, restarts."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.jobs.client import JobClient
from gateway.jobs.codec import encode_record
from gateway.jobs.directory import Directory, Placement
from gateway.jobs.hub import Hub
from gateway.jobs.messages import Accepted, Finished, FrameBatch, Reply, WorkerRecord
from gateway.kernel.clock import SystemClock
from gateway.kernel.ids import ReplicaId, new_turn_id
from gateway.store.backends import Stores, open_stores
from gateway.store.kv import KVSetOptions
from gateway.store.turnlog import Fence, TurnState
from gateway.turn.request import RawRequest, Turn
from tests.fakes.worker import Gateway, eventually
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.unit.workers.test_health import get
from workers.assemble import assemble
from workers.settings import WorkerSettings
from workers.supervisor import Worker

SLOW = "count slowly from 1 to 100"
WORKER = "w-1"


def ask_of(request_id: str, text: str) -> dict[str, Any]:
    """The fields of a submit that asks the simulator something."""
    params = {
        "requestId": request_id,
        "sessionId": f"s-{request_id}",
        "sessionType": "chat",
        "chatTask": "FREE_INPUT",
        "mode": "chat",
        "stream": True,
        "source": 1,
        "isReply": False,
        "questionText": text,
    }
    return {
        "params": orjson.dumps(params),
        "upstream_request_id": request_id,
        "session_id": f"s-{request_id}",
    }


class Bench:
    def __init__(self, stores: Stores, redis: RedisServer, directory: Path) -> None:
        self.stores = stores
        self.redis = redis
        self.directory = directory

    def settings(self, **changes: Any) -> WorkerSettings:
        given = {
            "worker_id": WORKER,
            "port": 0,
            "lingma_bin": "simulator",
            "lingma_work_dir": self.directory,
            "lingma_socket_port": 0,
            "lingma_http_port": 0,
            "drain_deadline_s": 5.0,
        }
        return WorkerSettings(**(given | changes))

    @contextlib.asynccontextmanager
    async def working(self, **changes: Any) -> AsyncIterator[tuple[Worker, Gateway]]:
        worker = assemble(self.settings(**changes), self.stores)
        async with worker.running():
            assert await worker.started(30)
            assert await self.ready(worker)
            yield worker, Gateway(self.stores, SystemClock(), epoch=(await self.health(worker))["epoch"])

    async def health(self, worker: Worker) -> Any:
        return orjson.loads((await get(worker.health_port, "/healthz"))[2])

    async def ready(self, worker: Worker) -> bool:
        async with asyncio.timeout(20):
            while (await get(worker.health_port, "/readyz"))[0] != 200:
                await asyncio.sleep(0.02)
        return True

    def journal(self, method: str) -> list[dict[str, Any]]:
        """What the simulator was told, by method."""
        path = self.directory / "sim-asks.jsonl"
        entries = [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
        return [entry for entry in entries if entry["method"] == method]

    async def talking(self, gateway: Gateway, turn_id: str) -> None:
        """Some deltas have come."""
        async with asyncio.timeout(10):
            while sum(b"chat/answer" in frame for frame in await gateway.frames(turn_id)) < 3:
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(redis_server: RedisServer, redis_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_stores(redis_url, SystemClock()) as stores:
        yield Bench(stores, redis_server, tmp_path)


def methods(frames: list[bytes]) -> list[str]:
    return [orjson.loads(frame)["method"] for frame in frames]


async def test_a_turn_from_submit_to_finish(bench: Bench) -> None:
    async with bench.working() as (_, gateway):
        await gateway.submit("t", **ask_of("r1", "say hello"))
        finished = await gateway.finished("t")
        frames = await gateway.frames("t")
        assert (finished.outcome, finished.last_seq, finished.session_id) == (
            "completed",
            len(frames),
            "s-r1",
        )
        assert methods(frames)[0] == "chat/process_step_callback"
        assert methods(frames)[-1] == "chat/finish"
        assert await gateway.state("t") is TurnState.COMPLETED
        assert await gateway.slots() == []
        assert await bench.stores.streams.length(bench.stores.keys.commands(WORKER)) == 0


async def test_many_turns_at_once_keep_their_frames_apart(bench: Bench) -> None:
    async with bench.working(lingma_instance_max_in_flight=40) as (_, gateway):
        names = [f"t{n}" for n in range(40)]
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(gateway.submit(name, **ask_of(f"r-{name}", f"say word-{name}")))
        for name in names:
            assert (await gateway.finished(name, within_s=20)).outcome == "completed"
            frames = [orjson.loads(frame) for frame in await gateway.frames(name)]
            assert {f["params"].get("requestId", f"r-{name}") for f in frames} == {f"r-{name}"}
            assert f"word-{name}" in frames[-1]["params"]["fullAnswer"]


async def test_lv_28_a_cancel_ends_the_turn_and_the_chat_within_a_second(bench: Bench) -> None:
    """LV-28. Given: the client leaves in mid-stream. Expected: chat/stop, same ids, within 1 s; slot free."""
    async with bench.working() as (_, gateway):
        await gateway.submit("t", **ask_of("r1", SLOW))
        await bench.talking(gateway, "t")
        await gateway.cancel("t", "client_gone")
        finished = await gateway.finished("t", within_s=1)
        assert (finished.outcome, finished.reason) == ("cancelled", "client_gone")
        [stop] = bench.journal("chat/stop")
        assert (stop["params"]["requestId"], stop["params"]["sessionId"]) == ("r1", "s-r1")
        assert await gateway.slots() == []


async def test_lv_19_a_killed_process_fails_its_turn_and_comes_back(bench: Bench) -> None:
    """LV-19. Given: kill -9 in mid-stream. Expected: an error within 1 s, in_flight 0, later turns work."""
    async with bench.working() as (worker, gateway):
        await gateway.submit("t", **ask_of("r1", SLOW))
        await bench.talking(gateway, "t")
        os.kill((await bench.health(worker))["instances"][0]["pid"], signal.SIGKILL)
        finished = await gateway.finished("t", within_s=1)
        assert (finished.outcome, finished.error_kind, finished.retryable) == (
            "failed",
            "upstream_eof",
            False,
        )
        assert await gateway.slots() == []
        await bench.ready(worker)
        assert (await bench.health(worker))["instances"][0]["restarts"] == 1
        await gateway.submit("again", **ask_of("r2", "say back"))
        assert (await gateway.finished("again")).outcome == "completed"


async def test_a_turn_nobody_reads_is_cancelled(bench: Bench) -> None:
    async with bench.working() as (_, gateway):
        await gateway.submit("t", lease_ms=300, lease_grace_s=0.5, **ask_of("r1", SLOW))
        finished = await gateway.finished("t", within_s=10)
        assert (finished.outcome, finished.reason) == ("cancelled", "client_gone")
        assert len(bench.journal("chat/stop")) == 1


async def test_a_fenced_turn_is_stopped_in_silence(bench: Bench) -> None:
    async with bench.working() as (_, gateway):
        await gateway.submit("t", **ask_of("r1", SLOW))
        await bench.talking(gateway, "t")
        fence = Fence(2, "w-2", 7)
        assert await bench.stores.turns.assign("t", expected_attempt=1, fence=fence, instance="inst-0")
        await eventually(lambda: bench.journal("chat/stop"))
        assert await gateway.fence("t") == fence
        assert await gateway.state("t") is TurnState.QUEUED


async def test_a_store_that_hangs_loses_no_frame(bench: Bench) -> None:
    async with bench.working() as (worker, gateway):
        await gateway.submit("t", **ask_of("r1", SLOW))
        await bench.talking(gateway, "t")
        bench.redis.pause()
        try:
            await eventually(lambda: worker.stats.store_failures, within_s=15)
        finally:
            bench.redis.resume()
        finished = await gateway.finished("t", within_s=20)
        frames = await gateway.frames("t")
        assert (finished.outcome, finished.last_seq) == ("completed", len(frames))
        answer = orjson.loads(frames[-1])["params"]["fullAnswer"]
        deltas = [orjson.loads(f)["params"]["text"] for f in frames if b'"chat/answer"' in f]
        assert "".join(deltas) == answer


async def test_a_store_that_lost_everything_ends_the_turn_and_takes_new_ones(bench: Bench) -> None:
    async with bench.working() as (worker, gateway):
        await gateway.submit("t", **ask_of("r1", SLOW))
        await bench.talking(gateway, "t")
        bench.redis.kill()
        bench.redis.start()
        await eventually(lambda: bench.journal("chat/stop"), within_s=10)
        await eventually(lambda: worker.stats.turns["fenced"] == 1)
        async with asyncio.timeout(5):
            while await bench.stores.kv.kv_get(bench.stores.keys.worker(WORKER)) is None:
                await asyncio.sleep(0.02)
        await gateway.submit("again", **ask_of("r2", "say back"))
        assert (await gateway.finished("again", within_s=10)).outcome == "completed"


async def test_a_worker_that_starts_takes_up_what_the_one_before_left(bench: Bench) -> None:
    async with bench.working() as (_, gateway):
        pass
    await gateway.submit("queued", **ask_of("r1", "say hello"))
    await gateway.create("ran")
    await bench.stores.turns.accept("ran", await gateway.fence("ran"), b"\xc0")
    async with bench.working():
        assert (await gateway.finished("queued", within_s=10)).outcome == "completed"
        assert await gateway.state("ran") is TurnState.LOST
    assert len(bench.journal("chat/ask")) == 1


async def test_a_gateway_notices_nothing_of_a_quick_restart(bench: Bench) -> None:
    """The attempt was placed on the incarnation before, and pauses for longer than a stranger is trusted."""
    stores, clock = bench.stores, SystemClock()
    async with bench.working() as (_, before):
        epoch = before.epoch
    old = WorkerRecord(worker=WORKER, epoch=epoch, software="x", beat_at_ms=0, instances=[])
    await stores.kv.kv_set(stores.keys.worker(WORKER), encode_record(old), KVSetOptions(ex=10))
    await stores.leases.acquire(stores.keys.workers, WORKER, limit=0, ttl_s=10)
    hub = Hub(stores.streams, stores.turns, stores.keys, "r1", SystemClock())
    directory = Directory(stores.kv, stores.leases, stores.keys, clock)
    client = JobClient(
        streams=stores.streams,
        turns=stores.turns,
        kv=stores.kv,
        keys=stores.keys,
        hub=hub,
        directory=directory,
        clock=clock,
        replica_id=ReplicaId("r1"),
    )
    turn = Turn(
        id=new_turn_id(clock.now_ms()),
        tenant="-",
        created_at_ms=clock.now_ms(),
        model="org_auto",
        items=(),
        raw=RawRequest("chat", {}),
    )
    placement = Placement(
        worker=WORKER, epoch=epoch, instance="inst-0", slots_key=before.slots_key, holder=f"{turn.id}.1"
    )
    async with hub.running(), client.running():
        job = client.turn(turn)
        await job.submit(placement, 1, before.submit_of(**ask_of("r1", "wait 3 seconds")))
        async with bench.working():
            replies: list[Reply] = []
            until = asyncio.get_running_loop().time() + 15
            while not any(isinstance(reply, Finished) for reply in replies):
                replies += await job.next(until=until)
        client.conclude(turn.id)
    assert isinstance(replies[-1], Finished)
    assert replies[-1].outcome == "completed"
    assert len(bench.journal("chat/ask")) == 1


async def test_repeated_and_foreign_commands_do_no_harm(bench: Bench) -> None:
    async with bench.working() as (worker, gateway):
        await gateway.submit("t", **ask_of("r1", "say hello"))
        await gateway.send(gateway.submit_of(**ask_of("r1", "say hello")), "t")
        await gateway.send_raw(b"garbage")
        await gateway.send_raw(b"")
        assert (await gateway.finished("t")).outcome == "completed"
        await gateway.send(gateway.submit_of(**ask_of("r1", "say hello")), "t")
        await gateway.submit("after", **ask_of("r2", "say bye"))
        assert (await gateway.finished("after")).outcome == "completed"
        assert await bench.stores.dead.count() == 2
        assert worker.stats.dead_letters.total() == 2
    assert len(bench.journal("chat/ask")) == 2


async def test_operators_get_answers(bench: Bench) -> None:
    async with bench.working() as (_, gateway):
        await gateway.ask_admin("models_raw", b"lg:v1:reply:1")
        async with asyncio.timeout(5):
            while (reply := await bench.stores.kv.kv_get(b"lg:v1:reply:1")) is None:
                await asyncio.sleep(0.01)
        answer = orjson.loads(reply)
        assert answer["ok"] is True
        assert answer["result"]["chat"][0]["key"] == "org_auto"
        ttl = await bench.stores.kv.kv_ttl(b"lg:v1:reply:1")
        assert 50 < ttl.ttl_s <= 60


# -- as a process -----------------------------------------------------------------------------------------


async def spawn(directory: Path, **environ: str) -> asyncio.subprocess.Process:
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path.cwd()),
        "LINGMA_BIN": "simulator",
        "LINGMA_WORK_DIR": str(directory),
        "LINGMA_SOCKET_PORT": "0",
        "LINGMA_HTTP_PORT": "0",
        "WORKER_ID": WORKER,
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers"),
        env=given | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def output(process: asyncio.subprocess.Process) -> tuple[int, str]:
    async with asyncio.timeout(30):
        text, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, text.decode()


async def test_a_process_of_its_own_refuses_the_memory_store(tmp_path: Path) -> None:
    code, text = await output(await spawn(tmp_path))
    assert code == 2
    assert "REDIS_URL" in text


@pytest.mark.parametrize("signals", [1, 2])
async def test_a_signal_drains_and_a_second_one_hurries(bench: Bench, signals: int) -> None:
    port = free_port()
    process = await spawn(bench.directory, REDIS_URL=bench.redis.url, WORKER_PORT=str(port))
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    if (await get(port, "/readyz"))[0] == 200:
                        break
                await asyncio.sleep(0.05)
        health = orjson.loads((await get(port, "/healthz"))[2])
        gateway = Gateway(bench.stores, SystemClock(), epoch=health["epoch"])
        text = "count slowly from 1 to 60" if signals == 1 else "count slowly from 1 to 3000"
        await gateway.submit("t", **ask_of("r1", text))
        await gateway.until("t", FrameBatch)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            while (await get(port, "/readyz"))[0] == 200:
                await asyncio.sleep(0.01)
        if signals == 2:
            process.send_signal(signal.SIGTERM)
        finished = await gateway.finished("t", within_s=20)
        code, log = await output(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert finished.outcome == ("completed" if signals == 1 else "cancelled"), log
    assert finished.reason == ("" if signals == 1 else "drain")
    assert code == (0 if signals == 1 else 130), log
    assert await bench.stores.kv.kv_get(bench.stores.keys.worker(WORKER)) is None
    with pytest.raises(ProcessLookupError):
        os.kill(health["instances"][0]["pid"], 0)
    assert isinstance((await gateway.replies("t"))[0], Accepted)
