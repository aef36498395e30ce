"""The outbox of one attempt: numbers, batches, refusals, outages."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.jobs.codec import MAX_BATCH_BYTES, MAX_BATCH_FRAMES
from gateway.jobs.messages import Accepted, Finished, FrameBatch, Heartbeat
from gateway.kernel.aio import Tasks
from gateway.kernel.clock import SystemClock
from gateway.store.backends import Stores, open_memory
from gateway.store.turnlog import Fence, TurnState, Write
from tests.fakes.worker import WORKER, Gateway, Switch, eventually
from workers import publisher as module
from workers.publisher import BacklogFull, Outbox, Publisher, Refused
from workers.stats import WorkerStats

EPOCH = 1_790_000_000_000
OURS = Fence(1, WORKER, EPOCH)


class Bench:
    def __init__(self, stores: Stores, tasks: Tasks) -> None:
        self.stores = stores
        self.gateway = Gateway(stores, SystemClock(), epoch=EPOCH)
        self.turns = Switch(stores.turns, "append", "finish")
        self.stats = WorkerStats()
        self.refused: list[Write] = []
        self.publisher = Publisher(
            self.turns,
            epoch=EPOCH,
            clock=SystemClock(),
            stats=self.stats,
            tasks=tasks,  # type: ignore[arg-type]
        )

    async def accepted(self) -> Outbox:
        await self.gateway.create("t")
        outbox = self.publisher.open(self.gateway.envelope("t"), OURS, self.refused.append)
        assert await outbox.accept(Accepted(worker=WORKER, instance="inst-0")) is Write.OK
        return outbox

    async def batches(self) -> list[FrameBatch]:
        return [reply for reply in await self.gateway.replies("t") if isinstance(reply, FrameBatch)]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    tasks = Tasks()
    async with open_memory(SystemClock()) as stores:
        yield Bench(stores, tasks)
        await tasks.aclose()


async def finish(outbox: Outbox, within_s: float = 1.0) -> Write | None:
    return await outbox.finish(TurnState.COMPLETED, Finished(outcome="completed"), within_s=within_s)


async def test_frames_are_numbered_from_one_without_a_gap(bench: Bench) -> None:
    outbox = await bench.accepted()
    await outbox.put([b"a"])
    await outbox.put([b"b", b"c"])
    assert [(b.seq_first, b.frames) for b in await bench.batches()] == [(1, [b"a"]), (2, [b"b", b"c"])]
    assert await finish(outbox) is Write.OK
    assert (await bench.gateway.finished("t")).last_seq == 3
    assert (bench.stats.frames, bench.stats.batches, bench.stats.frame_bytes) == (3, 2, 3)


async def test_what_waits_goes_together_up_to_the_limits_of_an_entry(bench: Bench) -> None:
    outbox = await bench.accepted()
    frames = [b"%d" % n for n in range(MAX_BATCH_FRAMES + 1)]
    await outbox.put(frames)
    assert [len(b.frames) for b in await bench.batches()] == [MAX_BATCH_FRAMES, 1]
    big = b"x" * (MAX_BATCH_BYTES // 2 + 1)
    await outbox.put([big, big])
    assert [len(b.frames) for b in await bench.batches()] == [MAX_BATCH_FRAMES, 1, 1, 1]
    assert await bench.gateway.frames("t") == [*frames, big, big]


async def test_a_fenced_write_is_refused(bench: Bench) -> None:
    outbox = await bench.accepted()
    await outbox.put([b"a"])
    assert await bench.stores.turns.assign(
        "t", expected_attempt=1, fence=Fence(2, "w-2", 7), instance="inst-0"
    )
    with pytest.raises(Refused):
        await outbox.heartbeat()
    with pytest.raises(Refused) as refused:
        await outbox.put([b"b"])
    assert refused.value.write is Write.FENCED
    assert await finish(outbox) is Write.FENCED
    assert await bench.gateway.frames("t") == [b"a"]


async def test_a_turn_the_store_has_lost_is_refused(bench: Bench) -> None:
    outbox = bench.publisher.open(bench.gateway.envelope("nobody"), OURS, bench.refused.append)
    with pytest.raises(Refused) as refused:
        await outbox.put([b"a"])
    assert refused.value.write is Write.GONE


async def test_an_outage_delays_frames_and_loses_none(bench: Bench) -> None:
    outbox = await bench.accepted()
    await outbox.put([b"a"])
    bench.turns.mode = "off"
    for n in range(100):
        await outbox.put([b"%d" % n])
    await outbox.heartbeat()
    assert await bench.gateway.frames("t") == [b"a"]
    bench.turns.mode = "on"
    await eventually(lambda: bench.stats.frames == 101)
    assert await bench.gateway.frames("t") == [b"a", *(b"%d" % n for n in range(100))]
    assert len(await bench.batches()) == 3
    await outbox.put([b"z"])
    assert (await bench.gateway.frames("t"))[-1] == b"z"
    assert Heartbeat() not in await bench.gateway.replies("t")


async def test_an_outage_that_outlasts_the_backlog_is_told_to_the_caller(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_BYTES", 1000)
    outbox = await bench.accepted()
    bench.turns.mode = "off"
    await outbox.put([b"x" * 900])
    await outbox.put([b"x" * 100])
    with pytest.raises(BacklogFull):
        await outbox.put([b"x"])
    await outbox.aclose()


async def test_a_lost_reply_repeats_frames_that_readers_drop(bench: Bench) -> None:
    outbox = await bench.accepted()
    bench.turns.mode = "deaf"
    await outbox.put([b"a", b"b"])
    await outbox.put([b"c"])
    await eventually(lambda: bench.turns.calls >= 2)
    bench.turns.mode = "on"
    await eventually(lambda: bench.stats.frames == 3)
    assert len(await bench.batches()) > 1
    assert await bench.gateway.frames("t") == [b"a", b"b", b"c"]


async def test_a_refusal_behind_the_callers_back_is_reported(bench: Bench) -> None:
    outbox = await bench.accepted()
    bench.turns.mode = "off"
    await outbox.put([b"a"])
    await bench.stores.turns.assign("t", expected_attempt=1, fence=Fence(2, "w-2", 7), instance="inst-0")
    bench.turns.mode = "on"
    await eventually(lambda: bench.refused)
    assert bench.refused == [Write.FENCED]
    await outbox.aclose()


async def test_the_last_entry_waits_for_the_store_and_comes_after_the_frames(bench: Bench) -> None:
    outbox = await bench.accepted()
    bench.turns.mode = "off"
    await outbox.put([b"a"])
    async with asyncio.TaskGroup() as group:
        ended = group.create_task(finish(outbox, within_s=5))
        calls = bench.turns.calls
        await eventually(lambda: bench.turns.calls > calls)
        bench.turns.mode = "on"
    assert ended.result() is Write.OK
    assert [type(reply) for reply in await bench.gateway.replies("t")] == [Accepted, FrameBatch, Finished]


async def test_the_last_entry_is_given_up_when_the_store_stays_away(bench: Bench) -> None:
    outbox = await bench.accepted()
    bench.turns.mode = "off"
    assert await finish(outbox, within_s=0.1) is None


async def test_an_interrupted_write_is_repeated(bench: Bench) -> None:
    outbox = await bench.accepted()
    gate = asyncio.Event()
    real = bench.stores.turns.append

    async def slow(*args: object, **kwargs: object) -> Write:
        gate.set()
        await asyncio.Event().wait()
        return await real(*args, **kwargs)  # type: ignore[arg-type]

    bench.turns.append = slow  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        put = group.create_task(outbox.put([b"a"]))
        await gate.wait()
        put.cancel()
    del bench.turns.append
    assert await finish(outbox) is Write.OK
    assert await bench.gateway.frames("t") == [b"a"]


async def test_a_heartbeat_says_that_the_worker_lives(bench: Bench) -> None:
    outbox = await bench.accepted()
    await outbox.heartbeat()
    assert Heartbeat() in await bench.gateway.replies("t")
    assert bench.stats.heartbeats == 1


async def test_replies_carry_the_workers_own_epoch(bench: Bench) -> None:
    await bench.gateway.create("t", epoch=EPOCH - 5)
    envelope = bench.gateway.envelope("t", epoch=EPOCH - 5)
    outbox = bench.publisher.open(envelope, Fence(1, WORKER, EPOCH - 5))
    assert await outbox.accept(Accepted(worker=WORKER, instance="inst-0")) is Write.OK
    assert (await bench.gateway.said("t"))[0][0].epoch == EPOCH
