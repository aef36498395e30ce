"""What holds for the gallery holds for any legal stream."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.turn.grammar import check
from tests.matrix.column import Column
from tests.matrix.gallery import Events, Offer, framed, started
from tests.matrix.matrix import COLUMNS, encoded, in_bursts, not_streamed, with_keepalives
from tests.matrix.strategies import TOOLS, streams

OFFERS = tuple(Offer(name) for name in TOOLS)
RESUMABLE = [column for column in COLUMNS if column.resumable]
each_resumable_column = pytest.mark.parametrize(
    "column", RESUMABLE, ids=[column.name for column in RESUMABLE]
)
each_column = pytest.mark.parametrize("column", COLUMNS, ids=[column.name for column in COLUMNS])


@given(streams())
def test_the_strategy_makes_legal_streams(events: Events) -> None:
    check([started(COLUMNS[0].turn()), *events])


@each_column
@settings(max_examples=120, deadline=None)
@given(events=streams(), data=st.data())
def test_any_stream_reads_as_its_whole_answer(column: Column, events: Events, data: st.DataObject) -> None:
    turn = column.turn(OFFERS)
    frames = framed([started(turn), *events])
    whole = encoded(column, turn, frames)
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(frames) - 1)), max_size=5)))
    assert in_bursts(column, turn, frames, cuts) == whole

    read = column.read(whole[0])
    assert read == not_streamed(column, frames, OFFERS)[1]
    assert column.read(with_keepalives(column, turn, frames)) == read


@each_resumable_column
@settings(max_examples=80, deadline=None)
@given(events=streams(), data=st.data())
def test_any_stream_can_be_resumed_anywhere(column: Column, events: Events, data: st.DataObject) -> None:
    turn = column.turn(OFFERS, resumable=True)
    frames = framed([started(turn), *events])
    said = column.events(encoded(column, turn, frames)[0])
    after = data.draw(st.integers(0, len(said) - 1))
    assert column.resumed(turn, [], after).encode(frames) == b"".join(said[after:])
