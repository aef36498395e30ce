from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind
from gateway.turn.events import (
    ErrorInfo,
    ItemDone,
    ItemStarted,
    ReasoningDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    ToolInputDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
    UsageReported,
)
from gateway.turn.fold import Fold, TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.grammar import Repair
from gateway.turn.items import Message, Reasoning, RefusalPart, TextPart, ToolCall
from gateway.turn.usage import Usage
from tests.unit.gateway.turn.test_grammar import any_frames

START = TurnStarted(model="m", created_at=7, upstream_id="up")


def folded(*events: TurnEvent) -> TurnResult:
    return fold([Frame(events)])


def legal_frames(frames: list[tuple[TurnEvent, ...]]) -> list[Frame]:
    repair = Repair(START)
    out = [Frame(repair.feed(events), seq=number) for number, events in enumerate(frames, 1)]
    return [*out, Frame(repair.eof())]


@given(any_frames, st.data())
def test_folding_in_two_pieces_is_folding_whole(
    frames: list[tuple[TurnEvent, ...]], data: st.DataObject
) -> None:
    whole = legal_frames(frames)
    cut = data.draw(st.integers(0, len(whole)))
    folder = Fold()
    for frame in whole[:cut]:
        for event in frame.events:
            folder.add(event)
    folder.result()  # asking in between changes nothing
    for frame in whole[cut:]:
        for event in frame.events:
            folder.add(event)
    assert folder.result() == fold(whole)


@given(any_frames, st.data())
def test_a_reader_that_resumes_behind_its_last_event_folds_the_same(
    frames: list[tuple[TurnEvent, ...]], data: st.DataObject
) -> None:
    """The stream is made again from its beginning; what was already read is skipped by number."""
    first, second = legal_frames(frames), legal_frames(frames)
    numbered = [event for frame in first for event in frame.events]
    again = [event for frame in second for event in frame.events]
    last = data.draw(st.integers(0, len(numbered)))
    folder = Fold()
    for event in [*numbered[:last], *again[last:]]:
        folder.add(event)
    assert folder.result() == fold(first)


def test_item_done_is_authoritative_over_its_deltas() -> None:
    item = Message(role="assistant", parts=(TextPart("abXY"),))
    result = folded(
        START,
        ItemStarted(0, "message", "m"),
        TextDelta(0, "abc"),
        ItemDone(0, item),
        TurnCompleted("stop", Usage(output_tokens=1)),
    )
    assert result == TurnResult(
        model="m",
        created_at=7,
        upstream_id="up",
        items=(item,),
        finish="stop",
        usage=Usage(output_tokens=1),
    )
    assert result.text == "abXY"


def test_open_items_fold_from_their_deltas() -> None:
    result = folded(
        START,
        ItemStarted(0, "reasoning", "r"),
        ReasoningDelta(0, "one", 0, "summary"),
        ReasoningDelta(0, "two", 1, "summary"),
        SignatureDelta(0, "s"),
        ItemDone(0, Reasoning(summary=("one", "two"), signature="s", id="r")),
        ItemStarted(1, "tool_call", "t", "find", "call-1"),
        ToolInputDelta(1, '{"a"'),
        ToolInputDelta(1, ":1}"),
    )
    assert result.reasoning == "one\n\ntwo"
    assert result.tool_calls == (ToolCall(call_id="call-1", name="find", arguments='{"a":1}', id="t"),)
    assert result.finish is None


def test_parts_keep_their_order_and_kind() -> None:
    result = folded(
        START,
        ItemStarted(0, "message", "m"),
        TextDelta(0, "a"),
        TextDelta(0, "b"),
        RefusalDelta(0, "no", 1),
        TextDelta(0, "c", 2),
    )
    item = result.items[0]
    assert isinstance(item, Message)
    assert item.parts == (TextPart("ab"), RefusalPart("no"), TextPart("c"))


def test_a_text_keeps_a_part_with_any_number() -> None:
    """Upstreams number parts; one that begins below zero loses nothing."""
    folder = Fold()
    for event in (ItemStarted(0, "message", "m"), TextDelta(0, "lost?", -1), TextDelta(0, " no", 0)):
        folder.add(event)
    assert folder.result().text == "lost? no"


def test_usage_reports_are_merged_and_ends_are_kept_apart() -> None:
    error = ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="gone")
    usage = UsageReported(Usage(input_tokens=3))
    assert folded(START, usage, TurnFailed(error)).error == error
    assert folded(START, usage, TurnCancelled("drain")).cancelled == "drain"
    merged = folded(START, usage, TurnCompleted("length", Usage(output_tokens=5))).usage
    assert merged == Usage(input_tokens=3, output_tokens=5)
