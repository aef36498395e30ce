"""Every answer of every upstream through every client encoder."""

import random
from collections.abc import Iterable, Sequence

import pytest

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import Json, loads
from gateway.turn.events import ItemDone, OpaqueEvent
from gateway.turn.frame import Frame
from gateway.turn.grammar import check
from gateway.turn.items import OpaqueItem
from tests.matrix.column import Column
from tests.matrix.gallery import Scenario, failed, framed, started
from tests.matrix.matrix import (
    CELLS,
    COLUMNS,
    SCENARIOS,
    encoded,
    events_of,
    in_bursts,
    not_streamed,
    with_keepalives,
)
from tests.matrix.snapshots import LONG_BYTES, REWRITE, agrees, only, table_agrees


def _each(cells: Sequence[tuple[Column, Scenario]]) -> pytest.MarkDecorator:
    ids = [f"{column.name}-{scenario.name}" for column, scenario in cells]
    return pytest.mark.parametrize(("column", "scenario"), cells, ids=ids)


each_cell = _each(CELLS)
each_resumable_cell = _each([(column, scenario) for column, scenario in CELLS if column.resumable])
each_column = pytest.mark.parametrize("column", COLUMNS, ids=[column.name for column in COLUMNS])


@each_cell
def test_the_answer_keeps_the_grammar(column: Column, scenario: Scenario) -> None:
    check(events_of(scenario.frames(column.turn(scenario.offers))))


@each_cell
def test_the_sdk_reads_the_stream_as_it_reads_the_whole_answer(column: Column, scenario: Scenario) -> None:
    turn = column.turn(scenario.offers)
    frames = scenario.frames(turn)
    read = column.read(encoded(column, turn, frames)[0], rewritten=scenario.rewritten)
    _, whole = not_streamed(column, frames, scenario.offers)
    if scenario.name in column.apart or (scenario.rewritten and not column.takes_back):
        assert read != whole, "they agree: take the scenario out of the list"
    else:
        assert read == whole


@each_cell
def test_the_bytes_are_those_of_the_snapshot(column: Column, scenario: Scenario) -> None:
    turn = column.turn(scenario.offers)
    agrees(f"{column.name}/{scenario.name}.{column.suffix}", encoded(column, turn, scenario.frames(turn))[0])


@each_column
def test_whole_answers_and_losses_are_those_of_the_snapshot(column: Column) -> None:
    answers: dict[str, Json] = {}
    losses: dict[str, Json] = {}
    for other, scenario in CELLS:
        if other is column:
            turn = column.turn(scenario.offers)
            frames = scenario.frames(turn)
            body, _ = not_streamed(column, frames, scenario.offers)
            if len(body) < LONG_BYTES:
                answers[scenario.name] = loads(body)
            if lost := encoded(column, turn, frames)[1]:
                losses[scenario.name] = [str(loss) for loss in lost]
    table_agrees(f"{column.name}/whole.json", answers)
    table_agrees(f"{column.name}/losses.json", losses)


def test_no_snapshot_is_left_over() -> None:
    only(
        {f"{column.name}/{scenario.name}.{column.suffix}" for column, scenario in CELLS}
        | {f"{column.name}/{name}.json" for column in COLUMNS for name in ("whole", "losses")}
    )


@each_cell
def test_bursts_make_no_difference(column: Column, scenario: Scenario) -> None:
    turn = column.turn(scenario.offers)
    frames = scenario.frames(turn)
    whole = encoded(column, turn, frames)
    assert in_bursts(column, turn, frames, range(1, len(frames))) == whole
    dice = random.Random(scenario.name)
    for _ in range(5):
        cuts = sorted(dice.sample(range(len(frames)), dice.randrange(len(frames))))
        assert in_bursts(column, turn, frames, cuts) == whole


@each_cell
def test_keepalives_anywhere_disturb_nobody(column: Column, scenario: Scenario) -> None:
    turn = column.turn(scenario.offers)
    frames = scenario.frames(turn)
    read = column.read(encoded(column, turn, frames)[0], rewritten=scenario.rewritten)
    disturbed = with_keepalives(column, turn, frames)
    assert column.read(disturbed, rewritten=scenario.rewritten) == read


@each_resumable_cell
def test_a_resumed_stream_is_the_tail_of_the_whole(column: Column, scenario: Scenario) -> None:
    turn = column.turn(scenario.offers, resumable=True)
    frames = scenario.frames(turn)
    data, _ = encoded(column, turn, frames)
    events = column.events(data)
    assert b"".join(events) == data
    for after in {0, 1, len(events) // 2, len(events) - 1}:
        assert column.resumed(turn, [], after).encode(frames) == b"".join(events[after:])


@each_cell
def test_what_is_neither_said_nor_known_is_a_loss(column: Column, scenario: Scenario) -> None:
    turn = column.turn(scenario.offers)
    frames = scenario.frames(turn)
    data, losses = encoded(column, turn, frames)
    missing = [
        kind
        for kind in _opaque_kinds(frames)
        if kind.encode() not in data and not any(loss.path == kind for loss in losses)
    ]
    assert missing == []


def _opaque_kinds(frames: Iterable[Frame]) -> list[str]:
    kinds = []
    for event in events_of(frames):
        if isinstance(event, OpaqueEvent):
            kinds.append(event.type)
        elif isinstance(event, ItemDone) and isinstance(event.item, OpaqueItem):
            kinds.append(event.item.type)
    return kinds


@pytest.mark.parametrize("kind", ErrorKind)
@each_column
def test_a_failure_of_any_kind_reads_in_a_stream_as_it_does_alone(column: Column, kind: ErrorKind) -> None:
    turn = column.turn()
    broken = framed([started(turn), failed(kind, "what went wrong")])
    data, _ = encoded(column, turn, broken)
    _, whole = not_streamed(column, broken)
    assert whole.error is not None
    assert column.read(data) == whole
    assert b"what went wrong" in data


def test_the_gallery_and_the_cassettes_share_no_name() -> None:
    assert all(name == scenario.name for name, scenario in SCENARIOS.items())


def test_a_reader_of_the_matrix_can_fail() -> None:
    """Each column refuses a stream that was cut short or changed: otherwise the rest proves little."""
    scenario = SCENARIOS["text"]
    for column in COLUMNS:
        turn = column.turn()
        data, _ = encoded(column, turn, scenario.frames(turn))
        events = column.events(data)
        foreign = b'data: {"x":1}\n\n' if column.suffix == "sse" else b'{"x":1},\n'
        for broken in (events[:-1], events[:1], [*events[:2], foreign, *events[2:]]):
            assert _refused(column, broken), (column.name, broken)


def _refused(column: Column, events: Sequence[bytes]) -> bool:
    try:
        column.read(b"".join(events))
    except Exception:
        return True
    return False


@pytest.mark.skipif(REWRITE, reason="snapshots are being written")
def test_snapshots_are_compared_byte_by_byte() -> None:
    with pytest.raises(AssertionError):
        agrees("chat/text.sse", b"something else")
