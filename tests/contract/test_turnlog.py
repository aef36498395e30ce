"""The contract of TurnLog, on every implementation."""

import asyncio

import msgspec
import pytest

from gateway.store.turnlog import Fence, TurnLog, TurnRecord, TurnState, Write
from tests.contract.turn_logs import (
    ANY_BYTE,
    ONE,
    OTHER,
    RECORD,
    TURN,
    TWO,
    Backend,
    create,
    finish,
    running,
    state_of,
)

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


async def test_an_attempt_runs_from_accept_to_finish(turn_backend: Backend) -> None:
    turns = turn_backend.turns
    await running(turns)
    assert await state_of(turns) is TurnState.RUNNING
    assert await turns.append(TURN, ONE, ANY_BYTE, last_seq=3) is Write.OK
    assert await turns.append(TURN, ONE, b"", last_seq=4) is Write.OK
    record = await turns.get(TURN)
    assert record is not None
    assert record.last_seq == 4
    assert await finish(turns) is Write.OK
    assert await turns.get(TURN) == msgspec.structs.replace(RECORD, state=TurnState.COMPLETED, last_seq=4)
    assert await turn_backend.entries() == [b"accepted", ANY_BYTE, b"", b"finished"]


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
async def test_another_fence_is_refused_everywhere(turn_backend: Backend, fence: Fence) -> None:
    turns = turn_backend.turns
    await create(turns)
    assert await turns.accept(TURN, fence, b"no") is Write.FENCED
    assert await turns.decline(TURN, fence, b"no") is Write.FENCED
    assert await state_of(turns) is TurnState.QUEUED
    assert await turns.accept(TURN, ONE, b"accepted") is Write.OK
    assert await turns.append(TURN, fence, b"no", last_seq=1) is Write.FENCED
    assert await finish(turns, fence=fence) is Write.FENCED
    assert await turns.append(TURN, ONE, b"yes", last_seq=1) is Write.OK
    assert await turn_backend.entries() == [b"accepted", b"yes"]


async def test_an_attempt_is_accepted_once(turn_backend: Backend) -> None:
    """A command that is delivered twice runs once."""
    await create(turn_backend.turns)
    written = await asyncio.gather(*(turn_backend.turns.accept(TURN, ONE, b"accepted") for _ in range(10)))
    assert sorted(w.value for w in written) == ["fenced"] * 9 + ["ok"]
    assert await turn_backend.entries() == [b"accepted"]


async def test_nothing_is_appended_before_accept(turn_backend: Backend) -> None:
    await create(turn_backend.turns)
    assert await turn_backend.turns.append(TURN, ONE, b"early", last_seq=1) is Write.FENCED
    assert await turn_backend.entries() == []


async def test_only_the_first_finish_counts(turn_backend: Backend) -> None:
    turns = turn_backend.turns
    await running(turns)
    ends = [TurnState.COMPLETED, TurnState.CANCELLED, TurnState.LOST, TurnState.FAILED] * 5
    written = await asyncio.gather(
        *(finish(turns, state, fence=ONE if i % 2 else None, entry=b"%d" % i) for i, state in enumerate(ends))
    )
    won = [i for i, write in enumerate(written) if write is Write.OK]
    assert len(won) == 1
    assert [write for write in written if write is not Write.OK] == [Write.FENCED] * 19
    assert await state_of(turns) is ends[won[0]]
    assert await turn_backend.entries() == [b"accepted", b"%d" % won[0]]


@pytest.mark.parametrize("state", [s for s in TurnState if s.ended])
async def test_an_ended_turn_takes_nothing_more(turn_backend: Backend, state: TurnState) -> None:
    turns = turn_backend.turns
    await running(turns)
    assert await finish(turns, state, fence=None, entry=None) is Write.OK
    assert await turns.accept(TURN, ONE, b"no") is Write.FENCED
    assert await turns.decline(TURN, ONE, b"no") is Write.FENCED
    assert await turns.append(TURN, ONE, b"no", last_seq=9) is Write.FENCED
    assert await finish(turns) is Write.FENCED
    assert await finish(turns, fence=None) is Write.FENCED
    assert await turn_backend.entries() == [b"accepted"]


async def test_a_queued_turn_can_be_given_up(turn_backend: Backend) -> None:
    """The client left before the worker took it; the worker is refused later."""
    turns = turn_backend.turns
    await create(turns)
    assert await finish(turns, TurnState.CANCELLED, fence=None, entry=b"cancelled") is Write.OK
    assert await turns.accept(TURN, ONE, b"no") is Write.FENCED
    assert await turn_backend.entries() == [b"cancelled"]


async def test_a_turn_that_is_not_there_is_gone(turn_backend: Backend) -> None:
    turns = turn_backend.turns
    assert await turns.accept(TURN, ONE, b"no") is Write.GONE
    assert await turns.decline(TURN, ONE, b"no") is Write.GONE
    assert await turns.append(TURN, ONE, b"no", last_seq=1) is Write.GONE
    assert await finish(turns) is Write.GONE
    assert await finish(turns, fence=None) is Write.GONE
    assert not await turns.assign(TURN, expected_attempt=0, fence=ONE, instance="inst-0")
    assert await turn_backend.streams.length(turn_backend.keys.frames(TURN)) == 0, (
        "a refused write leaves nothing behind"
    )


async def test_a_turn_whose_entries_are_lost_is_gone(turn_backend: Backend) -> None:
    """Frames behind a hole would be a stream that its readers must refuse."""
    await running(turn_backend.turns)
    await turn_backend.streams.delete(turn_backend.keys.frames(TURN))
    assert await turn_backend.turns.append(TURN, ONE, b"behind the hole", last_seq=9) is Write.GONE
    assert await turn_backend.entries() == []


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
async def test_assigning_the_next_attempt_fences_the_old_one(turn_backend: Backend, before: str) -> None:
    turns = turn_backend.turns
    await create(turns)
    if before != "queued":
        await turns.accept(TURN, ONE, b"accepted")
        await turns.append(TURN, ONE, b"frame", last_seq=1)
    if before == "lost":
        await finish(turns, TurnState.LOST, fence=None)
    kept = await turn_backend.entries()
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
    assert await turn_backend.entries() == [*kept, b"accepted 2", b"frame 2"]


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


async def test_a_declined_attempt_can_no_longer_be_accepted(turn_backend: Backend) -> None:
    """The worker restarts before it has settled the command, and reads it again."""
    turns = turn_backend.turns
    await create(turns)
    assert await turns.decline(TURN, ONE, b"declined") is Write.OK
    assert await turns.accept(TURN, ONE, b"no") is Write.FENCED
    assert await turns.decline(TURN, ONE, b"again") is Write.FENCED
    assert await state_of(turns) is TurnState.QUEUED
    assert await turns.assign(TURN, expected_attempt=1, fence=TWO, instance="inst-1")
    assert await turns.accept(TURN, TWO, b"accepted") is Write.OK
    assert await turn_backend.entries() == [b"declined", b"accepted"]


async def test_a_declined_turn_can_be_given_up(turns: TurnLog) -> None:
    await create(turns)
    await turns.decline(TURN, ONE, b"declined")
    assert await finish(turns, TurnState.FAILED, fence=None) is Write.OK
