import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind
from gateway.turn.events import (
    AnnotationAdded,
    ErrorInfo,
    Heartbeat,
    ItemDone,
    ItemStarted,
    OpaqueEvent,
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
from gateway.turn.fold import Fold
from gateway.turn.grammar import Grammar, GrammarViolation, Repair, check
from gateway.turn.items import Message, OpaqueItem, Reasoning, TextPart, ToolCall, ToolResult
from gateway.turn.usage import Usage

START = TurnStarted(model="m", created_at=1)
MESSAGE = Message(role="assistant", parts=(TextPart("ab"),))
FAILURE = TurnFailed(ErrorInfo(kind=ErrorKind.INTERNAL, message="x"))

_index = st.integers(0, 3)
_part = st.integers(0, 2)
_text = st.sampled_from(["", "a", "bc"])
any_event: st.SearchStrategy[TurnEvent] = st.one_of(
    st.just(START),
    st.builds(
        ItemStarted,
        _index,
        st.sampled_from(["message", "reasoning", "tool_call", "opaque"]),
        st.just("id"),
        st.just("name"),
        st.just("call"),
    ),
    st.builds(TextDelta, _index, _text, _part),
    st.builds(RefusalDelta, _index, _text, _part),
    st.builds(ReasoningDelta, _index, _text, _part, st.sampled_from(["summary", "full"])),
    st.builds(SignatureDelta, _index, _text),
    st.builds(ToolInputDelta, _index, _text),
    st.builds(AnnotationAdded, _index, _part, st.just({})),
    st.builds(
        ItemDone,
        _index,
        st.sampled_from(
            [
                MESSAGE,
                Reasoning(text="t"),
                ToolCall(call_id="c", name="n", arguments="{}"),
                OpaqueItem(dialect="chat", type="x", payload={}),
                ToolResult(call_id="c", parts=()),
            ]
        ),
    ),
    st.just(OpaqueEvent("chat", "x", {})),
    st.just(UsageReported(Usage(input_tokens=1))),
    st.just(Heartbeat()),
    st.just(TurnCompleted("stop")),
    st.just(FAILURE),
    st.just(TurnCancelled("drain")),
)
any_stream = st.lists(any_event, max_size=12)
any_frames = st.lists(st.lists(any_event, max_size=3).map(tuple), max_size=8)


def repaired(frames: list[tuple[TurnEvent, ...]]) -> tuple[list[TurnEvent], Repair]:
    repair = Repair(START)
    out: list[TurnEvent] = []
    for events in frames:
        out.extend(repair.feed(events))
    out.extend(repair.eof())
    return out, repair


@given(any_frames)
def test_repair_makes_any_stream_legal(frames: list[tuple[TurnEvent, ...]]) -> None:
    out, _ = repaired(frames)
    check(out)


@given(any_stream)
def test_legal_streams_pass_unchanged(stream: list[TurnEvent]) -> None:
    legal, _ = repaired([tuple(stream)])
    again, repair = repaired([(event,) for event in legal])
    assert again == legal
    assert repair.repairs == 0


@given(any_frames)
def test_repair_invents_no_text_and_keeps_order(frames: list[tuple[TurnEvent, ...]]) -> None:
    out, _ = repaired(frames)
    said = [e.text for events in frames for e in events if isinstance(e, TextDelta)]
    kept = [e.text for e in out if isinstance(e, TextDelta)]
    remaining = iter(said)
    assert all(any(text == other for other in remaining) for text in kept)


def test_an_item_cut_short_is_closed_with_what_its_deltas_said() -> None:
    out, repair = repaired([(START,), (ItemStarted(0, "message", "m0"),), (TextDelta(0, "ab"),)])
    assert out[3] == ItemDone(0, Message(role="assistant", parts=(TextPart("ab"),), id="m0"))
    assert isinstance(out[4], TurnFailed)
    assert out[4].error.kind is ErrorKind.UPSTREAM_EOF
    assert repair.repairs == 1


def test_eof_with_a_given_failure_counts_no_repair() -> None:
    repair = Repair(START)
    repair.feed((START,))
    assert repair.eof(TurnCancelled("drain")) == (TurnCancelled("drain"),)
    assert repair.eof() == ()
    assert repair.repairs == 0


def test_nothing_passes_after_the_end() -> None:
    out, repair = repaired([(START, TurnCompleted("stop")), (TextDelta(0, "late"), FAILURE)])
    assert out == [START, TurnCompleted("stop")]
    assert repair.repairs == 2


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        ([TextDelta(0, "a")], "before TurnStarted"),
        ([START, START], "second TurnStarted"),
        ([START, TurnCompleted("stop"), Heartbeat()], "after the terminal event"),
        ([START, ItemStarted(0, "message", "a"), ItemStarted(1, "message", "b")], "inside an item"),
        ([START, ItemStarted(1, "message", "a")], "is next"),
        ([START, ItemStarted(0, "message", "a"), ReasoningDelta(0, "x")], "inside a message item"),
        (
            [START, ItemStarted(0, "message", "a"), TextDelta(0, "x", 1), TextDelta(0, "y", 0)],
            "part number falls",
        ),
        ([START, ItemStarted(0, "message", "a"), TextDelta(1, "x")], "not open"),
        ([START, ItemDone(0, MESSAGE)], "not open"),
        ([START, ItemStarted(0, "reasoning", "a"), ItemDone(0, MESSAGE)], "another kind"),
        ([START, ItemStarted(0, "message", "a"), TurnCompleted("stop")], "with an item open"),
        ([START], "no terminal event"),
    ],
)
def test_check_names_the_violation(stream: list[TurnEvent], problem: str) -> None:
    with pytest.raises(GrammarViolation, match=problem):
        check(stream)


def test_the_state_machine_follows_a_whole_legal_turn() -> None:
    stream: list[TurnEvent] = [
        START,
        Heartbeat(),
        ItemStarted(0, "reasoning", "r"),
        ReasoningDelta(0, "hm"),
        SignatureDelta(0, "sig"),
        ItemDone(0, Reasoning(text="hm", signature="sig")),
        ItemStarted(1, "message", "m"),
        TextDelta(1, "a"),
        AnnotationAdded(1, 0, {}),
        TextDelta(1, "b", 1),
        ItemDone(1, MESSAGE),
        UsageReported(Usage(output_tokens=2)),
        TurnCompleted("stop"),
    ]
    grammar = Grammar()
    for event in stream:
        assert grammar.violation(event) is None
        grammar.advance(event)
    assert grammar.ended


@given(any_frames)
def test_repair_and_fold_agree_on_the_end(frames: list[tuple[TurnEvent, ...]]) -> None:
    out, _ = repaired(frames)
    fold = Fold()
    for event in out:
        fold.add(event)
    result = fold.result()
    assert [result.finish, result.error, result.cancelled].count(None) == 2
