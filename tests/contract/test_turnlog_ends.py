"""How long turns, their entries and leases live, and who is woken: for every implementation of TurnLog."""

import asyncio

import msgspec
import pytest

from gateway.kernel.clock import FakeClock
from gateway.store.keys import Keys
from gateway.store.kv import KVSetOptions
from gateway.store.kv_memory import MemoryKV
from gateway.store.streams_memory import MemoryStreams
from gateway.store.turnlog import TurnLog, TurnState, Write
from gateway.store.turnlog_memory import MemoryTurnLog
from tests.contract.stores import eventually
from tests.contract.turn_logs import (
    ONE,
    OTHER,
    RECORD,
    TURN,
    TWO,
    Backend,
    create,
    finish,
    memory_backend,
    running,
)

# -- how long things live ---------------------------------------------------------------------------------


async def lives(turn_backend: Backend, key: bytes, at_least: float, at_most: float) -> bool:
    left = await turn_backend.ttl_s(key)
    return left is not None and at_least < left <= at_most


async def test_everything_of_a_turn_has_an_end_from_its_start(turn_backend: Backend) -> None:
    """Whoever dies at whatever point, nothing stays for ever."""
    keys = turn_backend.keys
    assert await create(turn_backend.turns, ttl_s=500)
    assert await lives(turn_backend, keys.turn(TURN), 400, 500)
    await turn_backend.turns.decline(TURN, ONE, b"declined")
    assert await lives(turn_backend, keys.frames(TURN), 400, 500)
    await turn_backend.streams.delete(keys.frames(TURN))
    await turn_backend.turns.assign(TURN, expected_attempt=1, fence=TWO, instance="i")
    await turn_backend.turns.accept(TURN, TWO, b"accepted")
    assert await lives(turn_backend, keys.frames(TURN), 400, 500)
    await turn_backend.turns.append(TURN, TWO, b"frame", last_seq=1)
    assert await lives(turn_backend, keys.turn(TURN), 400, 500)
    assert await lives(turn_backend, keys.frames(TURN), 400, 500)


async def test_an_ended_turn_is_kept_for_its_retention(turn_backend: Backend) -> None:
    keys = turn_backend.keys
    assert await create(turn_backend.turns, msgspec.structs.replace(RECORD, retention_s=90))
    assert await turn_backend.turns.accept(TURN, ONE, b"accepted") is Write.OK
    await turn_backend.kv.kv_set(keys.blob(TURN), b"body", KVSetOptions(ex=600))
    assert await finish(turn_backend.turns) is Write.OK
    assert await lives(turn_backend, keys.turn(TURN), 80, 90)
    assert await lives(turn_backend, keys.frames(TURN), 80, 90)
    assert await turn_backend.kv.kv_get(keys.blob(TURN)) is None, "nobody needs the body any more"
    assert await turn_backend.turns.live_leases([TURN]) == [False]


async def test_a_turn_given_up_before_its_first_entry_has_an_end_too(turn_backend: Backend) -> None:
    await create(turn_backend.turns)
    await finish(turn_backend.turns, TurnState.CANCELLED, fence=None, entry=b"cancelled")
    assert await lives(turn_backend, turn_backend.keys.frames(TURN), 50, 60)


@pytest.mark.parametrize("state", [TurnState.FAILED, TurnState.CANCELLED, TurnState.LOST])
async def test_a_turn_that_is_assigned_again_gets_its_time_back(
    turn_backend: Backend, state: TurnState
) -> None:
    keys = turn_backend.keys
    await running(turn_backend.turns)
    await finish(turn_backend.turns, state, fence=None)
    for key in (keys.turn(TURN), keys.frames(TURN)):
        assert await lives(turn_backend, key, 50, 60)
    assert await turn_backend.turns.assign(TURN, expected_attempt=1, fence=TWO, instance="i")
    for key in (keys.turn(TURN), keys.frames(TURN)):
        assert await lives(turn_backend, key, 550, 600)


async def test_an_ended_turn_is_gone_after_its_retention(turn_backend: Backend) -> None:
    await create(turn_backend.turns, msgspec.structs.replace(RECORD, retention_s=0.05))
    await finish(turn_backend.turns)

    async def gone() -> bool:
        return await turn_backend.turns.get(TURN) is None

    await eventually(gone)
    assert await turn_backend.entries() == []
    assert await finish(turn_backend.turns) is Write.GONE


# -- the reader's lease -----------------------------------------------------------------------------------


async def test_a_lease_is_live_from_the_creation_until_its_end(turn_backend: Backend) -> None:
    turns = turn_backend.turns
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


async def test_an_append_wakes_the_reader_of_the_turn(turn_backend: Backend) -> None:
    reader = turn_backend.streams.reader(turn_backend.keys.frames(TURN))
    await running(turn_backend.turns)
    cursors = {turn_backend.keys.frames(TURN): b"0"}
    first = await reader.read(cursors, block_ms=2000, count=10)
    cursors[turn_backend.keys.frames(TURN)] = first[0][1][-1][0]
    async with asyncio.TaskGroup() as tasks:
        read = tasks.create_task(reader.read(cursors, block_ms=5000, count=10))
        await asyncio.sleep(0.02)
        async with asyncio.timeout(1):
            await turn_backend.turns.append(TURN, ONE, b"frame", last_seq=1)
            assert [payload for _, payload in (await read)[0][1]] == [b"frame"]
    await reader.aclose()


async def test_appends_sent_together_keep_their_order(turn_backend: Backend) -> None:
    await running(turn_backend.turns)
    written = await asyncio.gather(
        *(turn_backend.turns.append(TURN, ONE, b"%d" % i, last_seq=i) for i in range(100))
    )
    assert set(written) == {Write.OK}
    assert await turn_backend.entries() == [b"accepted", *(b"%d" % i for i in range(100))]


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
