"""The contract of TurnLog, on every implementation."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from gateway.kernel.clock import FakeClock, SystemClock
from gateway.store.keys import Keys
from gateway.store.kv import KVClient, KVSetOptions
from gateway.store.kv_memory import MemoryKV
from gateway.store.sealed_streams import SealedStreams, SealedTurnLog
from gateway.store.sealing import SealRing
from gateway.store.streams import Streams
from gateway.store.streams_memory import MemoryStreams
from gateway.store.turnlog import Fence, TurnLog, TurnRecord, TurnState, Write
from gateway.store.turnlog_memory import MemoryTurnLog
from tests.contract.stores import Ttl, eventually, redis_store

TURN = "01jz0000000000000000000001"
OTHER = "01jz0000000000000000000002"
ONE = Fence(1, "worker-0", 1_790_000_000_123)
TWO = Fence(2, "worker-1", 1_790_000_000_456)
ANY_BYTE = bytes(range(256)) + b"\r\n$-1\r\n"

RECORD = TurnRecord(
    turn_id=TURN,
    tenant="acme",
    attempt=1,
    worker=ONE.worker,
    epoch=ONE.epoch,
    instance="inst-0",
    replica="r1",
    created_at_ms=1_790_000_000_000,
    deadline_ms=1_790_000_600_000,
    resumable=True,
    meta=ANY_BYTE,
)


class Backend:
    def __init__(self, turns: TurnLog, streams: Streams, kv: KVClient, keys: Keys, ttl_s: Ttl) -> None:
        self.turns = turns
        self.streams = streams
        self.kv = kv
        self.keys = keys
        self.ttl_s = ttl_s
        """Seconds that a key has left, None without an end or without the key."""

    async def entries(self, turn_id: str = TURN) -> list[bytes]:
        return [payload for _, payload in await self.streams.range(self.keys.frames(turn_id))]


RING = SealRing([("a", b"a" * 32)])


@pytest.fixture(params=["memory", "redis", "cluster", "sealed redis"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param != "memory":
        async with redis_store(request, request.param.removeprefix("sealed ")) as store:
            turns: TurnLog = store.turns
            streams: Streams = store.streams
            if request.param.startswith("sealed"):
                turns = SealedTurnLog(turns, RING, store.keys)
                streams = SealedStreams(streams, RING)
            yield Backend(turns, streams, store.kv, store.keys, store.ttl_s)
        return
    yield memory_backend(SystemClock())


def memory_backend(clock: SystemClock | FakeClock) -> Backend:
    keys = Keys()
    streams, kv = MemoryStreams(clock), MemoryKV(clock)
    turns = MemoryTurnLog(streams, kv, keys, clock)

    async def ttl_s(key: bytes) -> float | None:
        return turns.ttl_s(TURN) if key == keys.turn(TURN) else streams.ttl_s(key)

    return Backend(turns, streams, kv, keys, ttl_s)


@pytest.fixture
def turns(backend: Backend) -> TurnLog:
    return backend.turns


async def create(
    turns: TurnLog, record: TurnRecord = RECORD, *, ttl_s: float = 600, lease_ms: int = 6000
) -> bool:
    return await turns.create(record, ttl_s=ttl_s, lease_ms=lease_ms)


async def running(turns: TurnLog, fence: Fence = ONE) -> None:
    assert await create(turns)
    assert await turns.accept(TURN, fence, b"accepted") is Write.OK


async def finish(
    turns: TurnLog,
    state: TurnState = TurnState.COMPLETED,
    *,
    fence: Fence | None = ONE,
    entry: bytes | None = b"finished",
) -> Write:
    return await turns.finish(TURN, state, fence=fence, entry=entry)


async def state_of(turns: TurnLog) -> TurnState:
    record = await turns.get(TURN)
    assert record is not None
    return record.state


# -- the record -------------------------------------------------------------------------------------------


async def test_a_record_comes_back_as_it_was_written(turns: TurnLog) -> None:
    assert await create(turns)
    assert await turns.get(TURN) == RECORD
    assert await turns.get(OTHER) is None
    assert await turns.exists([OTHER, TURN]) == [False, True]
    assert await turns.exists([]) == []


async def test_a_record_with_defaults_comes_back(turns: TurnLog) -> None:
    record = TurnRecord(turn_id=TURN, tenant="-", created_at_ms=1, deadline_ms=2)
    assert await create(turns, record)
    assert await turns.get(TURN) == record


async def test_a_turn_is_created_once(turns: TurnLog) -> None:
    """A second create, after a lost answer, must not undo what happened meanwhile."""
    await running(turns)
    assert not await create(turns)
    assert await state_of(turns) is TurnState.RUNNING


# -- accept, append, finish -------------------------------------------------------------------------------


async def test_an_attempt_runs_from_accept_to_finish(backend: Backend) -> None:
    turns = backend.turns
    await running(turns)
    assert await state_of(turns) is TurnState.RUNNING
    assert await turns.append(TURN, ONE, ANY_BYTE, last_seq=3) is Write.OK
    assert await turns.append(TURN, ONE, b"", last_seq=4) is Write.OK
    record = await turns.get(TURN)
    assert record is not None
    assert record.last_seq == 4
    assert await finish(turns) is Write.OK
    assert await turns.get(TURN) == msgspec.structs.replace(RECORD, state=TurnState.COMPLETED, last_seq=4)
    assert await backend.entries() == [b"accepted", ANY_BYTE, b"", b"finished"]


@pytest.mark.parametrize(
    "fence",
    [
        ONE._replace(attempt=2),
        ONE._replace(attempt=0),
        ONE._replace(worker="worker-1"),
        ONE._replace(worker=""),
        ONE._replace(epoch=ONE.epoch + 1),
    ],
)
async def test_another_fence_is_refused_everywhere(backend: Backend, fence: Fence) -> None:
    turns = backend.turns
    await create(turns)
    assert await turns.accept(TURN, fence, b"no") is Write.FENCED
    assert await turns.decline(TURN, fence, b"no") is Write.FENCED
    assert await state_of(turns) is TurnState.QUEUED
    assert await turns.accept(TURN, ONE, b"accepted") is Write.OK
    assert await turns.append(TURN, fence, b"no", last_seq=1) is Write.FENCED
    assert await finish(turns, fence=fence) is Write.FENCED
    assert await turns.append(TURN, ONE, b"yes", last_seq=1) is Write.OK
    assert await backend.entries() == [b"accepted", b"yes"]


async def test_an_attempt_is_accepted_once(backend: Backend) -> None:
    """A command that is delivered twice runs once."""
    await create(backend.turns)
    written = await asyncio.gather(*(backend.turns.accept(TURN, ONE, b"accepted") for _ in range(10)))
    assert sorted(w.value for w in written) == ["fenced"] * 9 + ["ok"]
    assert await backend.entries() == [b"accepted"]


async def test_nothing_is_appended_before_accept(backend: Backend) -> None:
    await create(backend.turns)
    assert await backend.turns.append(TURN, ONE, b"early", last_seq=1) is Write.FENCED
    assert await backend.entries() == []


async def test_only_the_first_finish_counts(backend: Backend) -> None:
    turns = backend.turns
    await running(turns)
    ends = [TurnState.COMPLETED, TurnState.CANCELLED, TurnState.LOST, TurnState.FAILED] * 5
    written = await asyncio.gather(
        *(finish(turns, state, fence=ONE if i % 2 else None, entry=b"%d" % i) for i, state in enumerate(ends))
    )
    won = [i for i, write in enumerate(written) if write is Write.OK]
    assert len(won) == 1
    assert [write for write in written if write is not Write.OK] == [Write.FENCED] * 19
    assert await state_of(turns) is ends[won[0]]
    assert await backend.entries() == [b"accepted", b"%d" % won[0]]


@pytest.mark.parametrize("state", [s for s in TurnState if s.ended])
async def test_an_ended_turn_takes_nothing_more(backend: Backend, state: TurnState) -> None:
    turns = backend.turns
    await running(turns)
    assert await finish(turns, state, fence=None, entry=None) is Write.OK
    assert await turns.accept(TURN, ONE, b"no") is Write.FENCED
    assert await turns.decline(TURN, ONE, b"no") is Write.FENCED
    assert await turns.append(TURN, ONE, b"no", last_seq=9) is Write.FENCED
    assert await finish(turns) is Write.FENCED
    assert await finish(turns, fence=None) is Write.FENCED
    assert await backend.entries() == [b"accepted"]


async def test_a_queued_turn_can_be_given_up(backend: Backend) -> None:
    """The client left before the worker took it; the worker is refused later."""
    turns = backend.turns
    await create(turns)
    assert await finish(turns, TurnState.CANCELLED, fence=None, entry=b"cancelled") is Write.OK
    assert await turns.accept(TURN, ONE, b"no") is Write.FENCED
    assert await backend.entries() == [b"cancelled"]


async def test_a_turn_that_is_not_there_is_gone(backend: Backend) -> None:
    turns = backend.turns
    assert await turns.accept(TURN, ONE, b"no") is Write.GONE
    assert await turns.decline(TURN, ONE, b"no") is Write.GONE
    assert await turns.append(TURN, ONE, b"no", last_seq=1) is Write.GONE
    assert await finish(turns) is Write.GONE
    assert await finish(turns, fence=None) is Write.GONE
    assert not await turns.assign(TURN, expected_attempt=0, fence=ONE, instance="inst-0")
    assert await backend.streams.length(backend.keys.frames(TURN)) == 0, (
        "a refused write leaves nothing behind"
    )


async def test_a_turn_whose_entries_are_lost_is_gone(backend: Backend) -> None:
    """Frames behind a hole would be a stream that its readers must refuse."""
    await running(backend.turns)
    await backend.streams.delete(backend.keys.frames(TURN))
    assert await backend.turns.append(TURN, ONE, b"behind the hole", last_seq=9) is Write.GONE
    assert await backend.entries() == []


# -- further attempts -------------------------------------------------------------------------------------


async def test_a_turn_created_unassigned_waits_for_its_first_attempt(turns: TurnLog) -> None:
    await create(turns, TurnRecord(turn_id=TURN, tenant="-", created_at_ms=1, deadline_ms=2))
    assert await turns.accept(TURN, ONE, b"no") is Write.FENCED
    assert await turns.assign(TURN, expected_attempt=0, fence=ONE, instance="inst-3")
    record = await turns.get(TURN)
    assert record is not None
    assert (record.fence, record.instance, record.state) == (ONE, "inst-3", TurnState.QUEUED)
    assert await turns.accept(TURN, ONE, b"accepted") is Write.OK


@pytest.mark.parametrize("before", ["queued", "running", "lost"])
async def test_assigning_the_next_attempt_fences_the_old_one(backend: Backend, before: str) -> None:
    turns = backend.turns
    await create(turns)
    if before != "queued":
        await turns.accept(TURN, ONE, b"accepted")
        await turns.append(TURN, ONE, b"frame", last_seq=1)
    if before == "lost":
        await finish(turns, TurnState.LOST, fence=None)
    kept = await backend.entries()
    assert await turns.assign(TURN, expected_attempt=1, fence=TWO, instance="inst-1")
    record = await turns.get(TURN)
    assert record is not None
    assert (record.fence, record.state, record.instance) == (TWO, TurnState.QUEUED, "inst-1")
    assert record.last_seq == 0, "numbers begin anew"
    assert await turns.accept(TURN, ONE, b"no") is Write.FENCED
    assert await turns.append(TURN, ONE, b"no", last_seq=2) is Write.FENCED
    assert await finish(turns, fence=ONE) is Write.FENCED
    assert await turns.accept(TURN, TWO, b"accepted 2") is Write.OK
    assert await turns.append(TURN, ONE, b"no", last_seq=2) is Write.FENCED
    assert await turns.append(TURN, TWO, b"frame 2", last_seq=1) is Write.OK
    assert await backend.entries() == [*kept, b"accepted 2", b"frame 2"]


async def test_a_completed_turn_is_not_assigned_again(turns: TurnLog) -> None:
    await running(turns)
    await finish(turns, TurnState.COMPLETED)
    assert not await turns.assign(TURN, expected_attempt=1, fence=TWO, instance="inst-1")
    assert await state_of(turns) is TurnState.COMPLETED


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.CANCELLED, TurnState.LOST])
async def test_an_attempt_that_failed_may_be_followed_by_another(turns: TurnLog, state: TurnState) -> None:
    await running(turns)
    await finish(turns, state)
    assert await turns.assign(TURN, expected_attempt=1, fence=TWO, instance="inst-1")
    assert await turns.append(TURN, ONE, b"no", last_seq=2) is Write.FENCED
    assert await turns.accept(TURN, TWO, b"accepted 2") is Write.OK


async def test_only_one_of_many_assigns_wins(turns: TurnLog) -> None:
    await running(turns)
    fences = [TWO._replace(worker=f"worker-{i}") for i in range(20)]
    won = await asyncio.gather(
        *(turns.assign(TURN, expected_attempt=1, fence=fence, instance="i") for fence in fences)
    )
    assert sum(won) == 1
    record = await turns.get(TURN)
    assert record is not None
    assert record.fence == fences[won.index(True)]


async def test_accept_and_assign_race_and_never_both_hold(turns: TurnLog) -> None:
    """Whatever the order, the loser of the race can write nothing."""
    await create(turns)
    accepted, assigned = await asyncio.gather(
        turns.accept(TURN, ONE, b"accepted"),
        turns.assign(TURN, expected_attempt=1, fence=TWO, instance="i"),
    )
    assert assigned
    assert accepted in (Write.OK, Write.FENCED)
    assert await turns.append(TURN, ONE, b"no", last_seq=1) is Write.FENCED
    assert await turns.accept(TURN, TWO, b"accepted") is Write.OK


async def test_a_declined_attempt_can_no_longer_be_accepted(backend: Backend) -> None:
    """The worker restarts before it has settled the command, and reads it again."""
    turns = backend.turns
    await create(turns)
    assert await turns.decline(TURN, ONE, b"declined") is Write.OK
    assert await turns.accept(TURN, ONE, b"no") is Write.FENCED
    assert await turns.decline(TURN, ONE, b"again") is Write.FENCED
    assert await state_of(turns) is TurnState.QUEUED
    assert await turns.assign(TURN, expected_attempt=1, fence=TWO, instance="inst-1")
    assert await turns.accept(TURN, TWO, b"accepted") is Write.OK
    assert await backend.entries() == [b"declined", b"accepted"]


async def test_a_declined_turn_can_be_given_up(turns: TurnLog) -> None:
    await create(turns)
    await turns.decline(TURN, ONE, b"declined")
    assert await finish(turns, TurnState.FAILED, fence=None) is Write.OK


# -- how long things live ---------------------------------------------------------------------------------


async def lives(backend: Backend, key: bytes, at_least: float, at_most: float) -> bool:
    left = await backend.ttl_s(key)
    return left is not None and at_least < left <= at_most


async def test_everything_of_a_turn_has_an_end_from_its_start(backend: Backend) -> None:
    """Whoever dies at whatever point, nothing stays for ever."""
    keys = backend.keys
    assert await create(backend.turns, ttl_s=500)
    assert await lives(backend, keys.turn(TURN), 400, 500)
    await backend.turns.decline(TURN, ONE, b"declined")
    assert await lives(backend, keys.frames(TURN), 400, 500)
    await backend.streams.delete(keys.frames(TURN))
    await backend.turns.assign(TURN, expected_attempt=1, fence=TWO, instance="i")
    await backend.turns.accept(TURN, TWO, b"accepted")
    assert await lives(backend, keys.frames(TURN), 400, 500)
    await backend.turns.append(TURN, TWO, b"frame", last_seq=1)
    assert await lives(backend, keys.turn(TURN), 400, 500)
    assert await lives(backend, keys.frames(TURN), 400, 500)


async def test_an_ended_turn_is_kept_for_its_retention(backend: Backend) -> None:
    keys = backend.keys
    assert await create(backend.turns, msgspec.structs.replace(RECORD, retention_s=90))
    assert await backend.turns.accept(TURN, ONE, b"accepted") is Write.OK
    await backend.kv.kv_set(keys.blob(TURN), b"body", KVSetOptions(ex=600))
    assert await finish(backend.turns) is Write.OK
    assert await lives(backend, keys.turn(TURN), 80, 90)
    assert await lives(backend, keys.frames(TURN), 80, 90)
    assert await backend.kv.kv_get(keys.blob(TURN)) is None, "nobody needs the body any more"
    assert await backend.turns.live_leases([TURN]) == [False]


async def test_a_turn_given_up_before_its_first_entry_has_an_end_too(backend: Backend) -> None:
    await create(backend.turns)
    await finish(backend.turns, TurnState.CANCELLED, fence=None, entry=b"cancelled")
    assert await lives(backend, backend.keys.frames(TURN), 50, 60)


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.CANCELLED, TurnState.LOST])
async def test_a_turn_that_is_assigned_again_gets_its_time_back(backend: Backend, state: TurnState) -> None:
    keys = backend.keys
    await running(backend.turns)
    await finish(backend.turns, state, fence=None)
    for key in (keys.turn(TURN), keys.frames(TURN)):
        assert await lives(backend, key, 50, 60)
    assert await backend.turns.assign(TURN, expected_attempt=1, fence=TWO, instance="i")
    for key in (keys.turn(TURN), keys.frames(TURN)):
        assert await lives(backend, key, 550, 600)


async def test_an_ended_turn_is_gone_after_its_retention(backend: Backend) -> None:
    await create(backend.turns, msgspec.structs.replace(RECORD, retention_s=0.05))
    await finish(backend.turns)

    async def gone() -> bool:
        return await backend.turns.get(TURN) is None

    await eventually(gone)
    assert await backend.entries() == []
    assert await finish(backend.turns) is Write.GONE


# -- the reader's lease -----------------------------------------------------------------------------------


async def test_a_lease_is_live_from_the_creation_until_its_end(backend: Backend) -> None:
    turns = backend.turns
    await create(turns, lease_ms=6000)
    await create(turns, msgspec.structs.replace(RECORD, turn_id=OTHER), lease_ms=50)
    assert (await turns.live_leases([TURN, OTHER, "none"]))[::2] == [True, False]

    async def ended() -> bool:
        return await turns.live_leases([TURN, OTHER]) == [True, False]

    await eventually(ended)
    assert await turns.live_leases([]) == []


async def test_a_lease_can_be_renewed_even_after_its_end(turns: TurnLog) -> None:
    """Another replica takes a resumable turn over within its grace."""
    await create(turns, lease_ms=1)

    async def ended() -> bool:
        return await turns.live_leases([TURN]) == [False]

    await eventually(ended)
    assert await turns.renew_leases([TURN], lease_ms=6000) == [True]
    assert await turns.live_leases([TURN]) == [True]


async def test_a_turn_without_a_lease_can_be_created(turns: TurnLog) -> None:
    await create(turns, lease_ms=0)
    assert await turns.live_leases([TURN]) == [False]


async def test_leases_of_ended_and_absent_turns_are_not_renewed(turns: TurnLog) -> None:
    await running(turns)
    await finish(turns)
    assert await turns.renew_leases([TURN, OTHER], lease_ms=6000) == [False, False]
    assert await turns.live_leases([TURN, OTHER]) == [False, False]
    assert await turns.renew_leases([], lease_ms=6000) == []


# -- readers ----------------------------------------------------------------------------------------------


async def test_an_append_wakes_the_reader_of_the_turn(backend: Backend) -> None:
    reader = backend.streams.reader(backend.keys.frames(TURN))
    await running(backend.turns)
    cursors = {backend.keys.frames(TURN): b"0"}
    first = await reader.read(cursors, block_ms=2000, count=10)
    cursors[backend.keys.frames(TURN)] = first[0][1][-1][0]
    async with asyncio.TaskGroup() as tasks:
        read = tasks.create_task(reader.read(cursors, block_ms=5000, count=10))
        await asyncio.sleep(0.02)
        async with asyncio.timeout(1):
            await backend.turns.append(TURN, ONE, b"frame", last_seq=1)
            assert [payload for _, payload in (await read)[0][1]] == [b"frame"]
    await reader.aclose()


async def test_appends_sent_together_keep_their_order(backend: Backend) -> None:
    await running(backend.turns)
    written = await asyncio.gather(
        *(backend.turns.append(TURN, ONE, b"%d" % i, last_seq=i) for i in range(100))
    )
    assert set(written) == {Write.OK}
    assert await backend.entries() == [b"accepted", *(b"%d" % i for i in range(100))]


# -- memory only ------------------------------------------------------------------------------------------


async def test_memory_turns_past_their_end_are_not_kept() -> None:
    clock = FakeClock()
    keys = Keys()
    streams, kv = MemoryStreams(clock), MemoryKV(clock)
    turns = MemoryTurnLog(streams, kv, keys, clock)
    for i in range(200):
        turn_id = f"turn-{i}"
        await turns.create(msgspec.structs.replace(RECORD, turn_id=turn_id), ttl_s=600, lease_ms=6000)
        await turns.accept(turn_id, ONE, b"accepted")
        if i % 2:
            await turns.finish(turn_id, TurnState.COMPLETED, fence=ONE, entry=b"end")
    assert (len(turns), len(streams)) == (200, 200)
    clock.advance(60)
    assert (len(turns), len(streams)) == (100, 100)
    clock.advance(540)
    assert (len(turns), len(streams)) == (0, 0), "those that nobody ended end too"


async def test_memory_leases_follow_the_clock() -> None:
    clock = FakeClock()
    turns = memory_backend(clock).turns
    await create(turns, lease_ms=6000)
    clock.advance(5.999)
    assert await turns.live_leases([TURN]) == [True]
    clock.advance(0.001)
    assert await turns.live_leases([TURN]) == [False]


async def test_memory_entries_are_bounded() -> None:
    clock = FakeClock()
    keys = Keys()
    streams = MemoryStreams(clock)
    turns = MemoryTurnLog(streams, MemoryKV(clock), keys, clock, max_entries=50)
    await create(turns)
    await turns.accept(TURN, ONE, b"accepted")
    for i in range(1000):
        await turns.append(TURN, ONE, b"%d" % i, last_seq=i)
    assert await streams.length(keys.frames(TURN)) < 200
