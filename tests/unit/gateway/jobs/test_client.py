import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.jobs import client as client_module
from gateway.jobs.client import JobTurn
from gateway.jobs.directory import Wish
from gateway.jobs.messages import Finished, FrameBatch, Reply, Submit, slot_holder
from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import Internal, StoreDataLoss, StoreUnavailable, WorkerLost
from gateway.kernel.ids import new_turn_id
from gateway.store.backends import Stores, open_memory
from gateway.store.turnlog import TurnState, Write
from gateway.turn.request import RawRequest, Turn
from tests.fakes.scripted_worker import GatewaySide, Job, ScriptedWorker, answers
from tests.support.clients import until

CLOCK = SystemClock()


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    async with open_memory(CLOCK) as stores:
        yield stores


def new_turn(*, resumable: bool = False) -> Turn:
    now = CLOCK.now_ms()
    return Turn(
        id=new_turn_id(now),
        tenant="a",
        created_at_ms=now,
        model="m",
        items=(),
        raw=RawRequest("chat", {}),
        resumable=resumable,
    )


async def submit(gateway: GatewaySide, turn: Turn, attempt: int = 1) -> JobTurn:
    job = gateway.jobs.turn(turn)
    placement = await gateway.directory.place(Wish(), slot_holder(turn.id, attempt))
    assert placement is not None
    command = Submit(
        instance=placement.instance,
        params=b"{}",
        upstream_request_id=f"r{attempt}",
        deadline_ms=CLOCK.now_ms() + 60_000,
    )
    await job.submit(placement, attempt, command)
    return job


async def read(job: JobTurn, enough: Callable[[list[Reply]], bool], within_s: float = 5.0) -> list[Reply]:
    until_time = asyncio.get_running_loop().time() + within_s
    got: list[Reply] = []
    while not enough(got):
        got += await job.next(until=until_time)
    return got


def over(replies: list[Reply]) -> bool:
    return any(isinstance(reply, Finished) for reply in replies)


def numbers(replies: list[Reply]) -> list[int]:
    return [
        reply.seq_first + n
        for reply in replies
        if isinstance(reply, FrameBatch)
        for n in range(len(reply.frames))
    ]


async def test_frames_come_in_order_and_once(stores: Stores) -> None:
    async def repeats(job: Job) -> None:
        await job.accept()
        await job.send(b"1", b"2")
        job._seq = 1
        await job.send(b"2", b"3")
        await job.finish()

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", repeats)) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        assert numbers(await read(job, over)) == [1, 2, 3]
        gateway.jobs.conclude(turn.id)


@pytest.mark.parametrize("resumable", [False, True])
async def test_the_record_says_how_long_the_turn_is_kept(stores: Stores, resumable: bool) -> None:
    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", answers)) as gateway:
        turn = new_turn(resumable=resumable)
        job = await submit(gateway, turn)
        retention = gateway.jobs.retention
        record = await stores.turns.get(turn.id)
        assert record is not None
        assert record.retention_s == (retention.resumable_s if resumable else retention.plain_s)
        await read(job, over)
        gateway.jobs.conclude(turn.id)


async def test_a_gap_is_a_loss_of_data(stores: Stores) -> None:
    async def skips(job: Job) -> None:
        await job.accept()
        await job.send(b"1")
        job._seq = 5
        await job.send(b"6")

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", skips)) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        with pytest.raises(StoreDataLoss):
            await read(job, over)
        gateway.jobs.conclude(turn.id)


async def test_what_a_fenced_attempt_said_is_left_out(stores: Stores) -> None:
    async def first(job: Job) -> None:
        await job.accept()
        await job.send(b"old")

    async def second(job: Job) -> None:
        await job.accept()
        await job.send(b"new")
        await job.finish()

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", first, second)) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        await read(job, lambda got: bool(numbers(got)))
        job = await submit(gateway, turn, 2)
        frames = [r.frames for r in await read(job, over) if isinstance(r, FrameBatch)]
        assert frames == [[b"new"]]
        gateway.jobs.conclude(turn.id)


async def test_nothing_is_read_before_anything_was_submitted(stores: Stores) -> None:
    async with GatewaySide(stores).running() as gateway:
        with pytest.raises(Internal):
            await gateway.jobs.turn(new_turn()).next(until=0)


async def test_waiting_ends_with_its_time(stores: Stores) -> None:
    async def hangs(job: Job) -> None:
        await job.accept()

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", hangs)) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        with pytest.raises(TimeoutError):
            await read(job, over, within_s=0.05)
        gateway.jobs.conclude(turn.id)


async def test_a_worker_without_a_record_is_lost(stores: Stores) -> None:
    async def hangs(job: Job) -> None:
        await job.accept()
        await job.worker.vanish()

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", hangs)) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        with pytest.raises(WorkerLost, match="gone"):
            await read(job, over)
        gateway.jobs.conclude(turn.id)


async def test_a_worker_that_says_nothing_at_all_is_lost(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_ACCEPTED_S", 0.5)

    async def hangs(job: Job) -> None:
        await job.accept()

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", hangs)) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        with pytest.raises(WorkerLost, match="silent"):
            await read(job, over)
        gateway.jobs.conclude(turn.id)


async def test_a_store_that_stays_away_ends_the_wait(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "OUTAGE_LIMIT_S", 0.5)

    async def hangs(job: Job) -> None:
        await job.accept()

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", hangs)) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        gateway.hub._buckets[0]._down_since = asyncio.get_running_loop().time()
        monkeypatch.setattr(gateway.hub._buckets[0], "_read", _always_away)
        with pytest.raises(StoreUnavailable):
            await read(job, over)
        gateway.jobs.conclude(turn.id)


async def _always_away(_reader: object) -> bool:
    raise StoreUnavailable("away")


async def test_leases_of_open_turns_are_renewed(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LEASE_RENEW_S", 0.01)
    monkeypatch.setattr(client_module, "LEASE_MS", 200)

    async def hangs(job: Job) -> None:
        await job.accept()

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", hangs)) as gateway:
        turn = new_turn()
        await submit(gateway, turn)
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.5
        while loop.time() < end:
            assert await stores.turns.live_leases([turn.id]) == [True]
            await asyncio.sleep(0.01)
        gateway.jobs.conclude(turn.id)

        async def gone() -> bool:
            return await stores.turns.live_leases([turn.id]) == [False]

        await until(gone, "the lease to end", 5)


async def test_a_stop_is_sent_once(stores: Stores) -> None:
    cancels: list[str] = []

    async def counts(job: Job) -> None:
        await job.accept()
        await job.cancelled.wait()
        cancels.append(job.cancel_reason)
        await job.finish("cancelled")

    async with GatewaySide(stores).running(ScriptedWorker(stores, "w", counts)) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        await read(job, bool)
        await job.stop("drain")
        await job.stop("drain")
        assert await stores.streams.length(stores.keys.commands("w")) <= 1
        gateway.jobs.conclude(turn.id)
        await until(lambda: gateway.hub.turns == 0, "the turn to be settled")
        assert cancels == ["drain"]


async def test_a_lost_turn_is_ended_by_the_gateway(stores: Stores) -> None:
    writes: list[Write] = []
    late = asyncio.Event()

    async def hangs(job: Job) -> None:
        await job.accept()
        await late.wait()
        writes.append(await job.send(b"late"))

    worker = ScriptedWorker(stores, "w", hangs)
    async with GatewaySide(stores).running(worker) as gateway:
        turn = new_turn()
        job = await submit(gateway, turn)
        await read(job, bool)
        job.lost = True
        gateway.jobs.conclude(turn.id)
        await until(lambda: gateway.hub.turns == 0, "the turn to be settled")
        record = await stores.turns.get(turn.id)
        assert record is not None
        assert record.state is TurnState.LOST
        assert await gateway.slots_used(worker) == 0
        late.set()
        await until(lambda: writes, "the late write")
        assert writes == [Write.FENCED]


async def test_concluding_an_unknown_turn_does_nothing(stores: Stores) -> None:
    async with GatewaySide(stores).running() as gateway:
        gateway.jobs.conclude("nobody")


@pytest.mark.parametrize("step", ["create", "append"])
async def test_a_client_that_leaves_during_the_submit_frees_the_slot(
    stores: Stores, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client left before, and while, the worker was told."""
    target = stores.turns if step == "create" else stores.streams
    original = getattr(target, step)
    reached = asyncio.Event()

    async def late(*args: object, **kwargs: object) -> object:
        result = await original(*args, **kwargs)
        if step == "create" or kwargs.get("max_len") == client_module.COMMANDS_MAX:
            reached.set()
            await asyncio.Event().wait()
        return result

    async def ends_when_told(job: Job) -> None:
        await job.accept()
        await job.cancelled.wait()
        await job.finish("cancelled")

    worker = ScriptedWorker(stores, "w", ends_when_told)
    async with GatewaySide(stores).running(worker) as gateway:
        turn = new_turn()
        monkeypatch.setattr(target, step, late)
        task = asyncio.get_running_loop().create_task(submit(gateway, turn))
        await reached.wait()
        monkeypatch.setattr(target, step, original)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gateway.jobs.turn(turn).stop("client_gone")
        gateway.jobs.conclude(turn.id)
        async with asyncio.timeout(0.9):
            while await gateway.slots_used(worker):
                await asyncio.sleep(0.01)
        record = await stores.turns.get(turn.id)
        assert record is not None
        await until(lambda: gateway.hub.turns == 0, "the turn to be settled")
        record = await stores.turns.get(turn.id)
        assert record is not None
        assert record.state is TurnState.CANCELLED
