from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind
from gateway.protocols.responses.encode import OnEof, ResponsesEncoder
from gateway.turn.events import (
    AnnotationAdded,
    CancelReason,
    ErrorInfo,
    Finish,
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
    UsageReported,
)
from gateway.turn.frame import Frame
from gateway.turn.grammar import Repair
from gateway.turn.items import Message, Reasoning, RefusalPart, TextPart, ToolCall
from gateway.turn.losses import Loss
from gateway.turn.usage import Usage
from gateway.wire.sse import SseSplitter
from tests.support.responses import (
    STARTED,
    called,
    codex,
    frames,
    in_order,
    parsed,
    said,
    stream,
    thought,
    whole,
)
from tests.support.responses_schema import StreamRead, read_stream, validate_stream

USAGE = Usage(input_tokens=3, output_tokens=2)
EOF = TurnFailed(ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="cut off", retryable=True))
FIND = ToolCall(call_id="c1", name="find", arguments='{"q":1}')
EXEC: Any = {"type": "custom", "name": "exec"}


# -- the order of a stream --------------------------------------------------------------------------------


def test_lv_71_two_texts_and_the_usage() -> None:
    """LV-71. Given "A" and "B": created, item added, delta A, delta B, text done "AB", item done, completed
    with usage, [DONE].
    """
    found = stream(parsed(), *said("A", "B"), TurnCompleted("stop", USAGE))
    assert in_order(
        [
            {"type": "response.created"},
            {"type": "response.output_item.added", "output_index": 0},
            {"type": "response.output_text.delta", "delta": "A"},
            {"type": "response.output_text.delta", "delta": "B"},
            {"type": "response.output_text.done", "text": "AB"},
            {"type": "response.output_item.done", "output_index": 0},
            {"type": "response.completed"},
        ],
        found.events,
    )
    assert found.done
    assert found.response["usage"]["total_tokens"] == 5


def test_the_bytes_of_a_delta() -> None:
    encoder = ResponsesEncoder(parsed())
    encoder.encode(frames([STARTED, ItemStarted(0, "message", "m"), TextDelta(0, "A")]))
    raw = encoder.encode(frames([TextDelta(0, 'B"\n灵')]))
    (event,) = SseSplitter().feed(raw)
    assert event.event == "response.output_text.delta"
    found = read_stream(raw).events[0]
    assert {**found, "item_id": ""} == {
        "type": "response.output_text.delta",
        "sequence_number": 5,
        "item_id": "",
        "output_index": 0,
        "content_index": 0,
        "delta": 'B"\n灵',
        "logprobs": [],
    }


def test_nothing_is_said_of_events_that_mean_nothing_here() -> None:
    encoder = ResponsesEncoder(parsed())
    encoder.encode(frames([STARTED]))
    assert encoder.encode(frames([Heartbeat(), UsageReported(USAGE)])) == b""
    assert encoder.encode([Frame(())]) == b""


def test_usage_that_comes_early_is_told_at_the_end() -> None:
    found = stream(
        parsed(), UsageReported(Usage(input_tokens=7)), TurnCompleted("stop", Usage(output_tokens=1))
    )
    assert (found.response["usage"]["input_tokens"], found.response["usage"]["output_tokens"]) == (7, 1)
    assert stream(parsed(), TurnCompleted("stop")).response["usage"] is None


def test_deltas_without_their_item_are_left_out() -> None:
    """No upstream's frames get here in such an order: the grammar mends them before."""
    strays: list[TurnEvent] = [
        TextDelta(0, "x"),
        RefusalDelta(0, "x"),
        ReasoningDelta(0, "x"),
        ToolInputDelta(0, "x"),
        SignatureDelta(0, "x"),
        AnnotationAdded(0, 0, {}),
        ItemDone(0, Message(role="assistant", parts=())),
    ]
    assert stream(parsed(), *strays, TurnCompleted("stop")).items == []


def test_events_of_this_dialect_go_through_and_others_are_a_loss() -> None:
    losses: list[Loss] = []
    ours: Any = {"type": "response.new", "sequence_number": 99, "a": 1}
    found = stream(
        parsed(),
        OpaqueEvent("responses", "response.new", ours),
        OpaqueEvent("lingma", "chat/new", {}),
        OpaqueEvent("lingma", "chat/new", {}),
        TurnCompleted("stop"),
        losses=losses,
    )
    assert found.of("response.new") == [{"type": "response.new", "sequence_number": 2, "a": 1}]
    assert losses == [Loss("chat/new", "not-in-responses")]


def test_cv_3_every_item_is_told_whole_at_its_end() -> None:
    """CV-3. Given deltas: the item that is done holds all of them, for clients that read nothing else."""
    found = stream(
        parsed(), *thought("h", "m"), *said("A", "B", index=1), *called(FIND, index=2), TurnCompleted("stop")
    )
    reasoning, message, call = found.items
    assert reasoning["summary"][0]["text"] == "hm"
    assert message["content"][0]["text"] == "AB"
    assert call["arguments"] == '{"q":1}'
    assert found.response["output"] == found.items


# -- keep-alives ------------------------------------------------------------------------------------------


def test_cv_22_cv_23_a_keep_alive_is_an_event_with_data() -> None:
    """CV-22, CV-23. Given a silent upstream: no comment, which Codex' idle timer ignores, but an event
    `keepalive` with data.
    """
    encoder = ResponsesEncoder(parsed())
    raw = encoder.encode(frames([STARTED])) + encoder.keepalive()
    assert raw.endswith(b'event: keepalive\ndata: {"type":"keepalive","sequence_number":1}\n\n')
    raw += encoder.encode(frames([*said("A"), TurnCompleted("stop")]))
    assert validate_stream(raw).keepalives == 1


def test_a_keep_alive_before_everything_tells_of_the_response_first() -> None:
    encoder = ResponsesEncoder(parsed())
    raw = encoder.keepalive() + encoder.keepalive()
    raw += encoder.encode(frames([STARTED, *said("A"), TurnCompleted("stop")]))
    found = validate_stream(raw)
    assert found.keepalives == 2
    assert found.types.count("response.created") == 1


# -- the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        ("stop", "completed", None),
        ("paused", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_finishes(finish: Finish, status: str, reason: str | None) -> None:
    found = stream(parsed(), *said("A"), TurnCompleted(finish))
    assert found.response["status"] == status
    assert (found.response["incomplete_details"] or {}).get("reason") == reason
    assert found.response == whole(parsed(), *said("A"), TurnCompleted(finish))


def test_an_item_that_the_limit_cut_is_incomplete() -> None:
    *before, done = said("A")
    end = TurnCompleted("length")
    encoder = ResponsesEncoder(parsed())
    raw = encoder.encode([*frames([STARTED, *before]), Frame((done, end))])
    assert validate_stream(raw).items[0]["status"] == "incomplete"


def test_cv_19_codex_gets_a_long_answer_completed() -> None:
    """CV-19. Given a stop because of length: `response.completed` with the partial message for Codex."""
    found = stream(codex(), *said("A"), TurnCompleted("length"))
    assert found.types[-1] == "response.completed"
    assert found.items[0]["status"] == "completed"


@pytest.mark.parametrize(
    ("on_eof", "status"), [("failed", "failed"), ("incomplete", "incomplete"), ("completed", "completed")]
)
@pytest.mark.parametrize("kind", [ErrorKind.UPSTREAM_EOF, ErrorKind.WORKER_LOST, ErrorKind.STORE_DATA_LOSS])
def test_lv_73_an_upstream_that_dies_after_a(kind: ErrorKind, on_eof: OnEof, status: str) -> None:
    """LV-73. Given "A", then the upstream's death: `response.failed` (or `response.incomplete`) and the end;
    in the compatible mode `response.completed`.
    """
    *before, done = said("A")
    died = TurnFailed(ErrorInfo(kind=kind, message="gone", retryable=True))
    encoder = ResponsesEncoder(parsed(), on_eof=on_eof)
    raw = encoder.encode([*frames([STARTED, *before]), Frame((done, died))])
    found = validate_stream(raw)
    assert found.types[-1] == f"response.{status}"
    assert found.text == "A"
    assert found.items[0]["status"] == ("completed" if on_eof == "completed" else "incomplete")
    error = found.response["error"]
    assert (error is None) == (on_eof == "completed")
    if on_eof == "incomplete":
        assert found.response["incomplete_details"] == {"reason": kind.value}


@pytest.mark.parametrize("kind", [ErrorKind.UPSTREAM_TIMEOUT, ErrorKind.RATE_LIMITED, ErrorKind.INTERNAL])
def test_other_failures_are_failures_whatever_is_set(kind: ErrorKind) -> None:
    failed = TurnFailed(ErrorInfo(kind=kind, message="m"))
    assert stream(parsed(), *said("A"), failed, on_eof="completed").response["status"] == "failed"


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_error_kind_can_end_a_stream(kind: ErrorKind) -> None:
    found = stream(parsed(), *said("A"), TurnFailed(ErrorInfo(kind=kind, message="why")))
    assert found.response["error"]["message"] == "why"
    assert len(found.response["output"]) == 1


@pytest.mark.parametrize("reason", ["client_gone", "deadline", "drain", "admin"])
def test_a_cancelled_turn_ends_as_a_failure(reason: CancelReason) -> None:
    found = stream(codex(), *said("A"), TurnCancelled(reason))
    assert found.types[-1] == "response.failed"
    assert found.done


def test_codex_waits_for_a_replica_that_shuts_down() -> None:
    found = stream(codex(), *said("A"), TurnCancelled("drain"))
    assert found.response["error"]["code"] == "rate_limit_exceeded"
    assert found.response["error"]["message"].endswith("Please try again in 1s")


@pytest.mark.parametrize("events", [[], [STARTED], [STARTED, *said("A")[:1]], [STARTED, *said("A")[:2]]])
def test_last_words_may_come_at_any_time(events: list[TurnEvent]) -> None:
    """What the edge says when the stream cannot go on: inside an item, or before the turn has begun."""
    broken = TurnFailed(ErrorInfo(kind=ErrorKind.INTERNAL, message="broken"))
    encoder = ResponsesEncoder(parsed())
    found = validate_stream(encoder.encode(frames([*events, broken])))
    assert found.types[-1] == "response.failed"
    assert [item["status"] for item in found.items] == ["incomplete"] * (len(events) == 3)


def test_last_words_inside_reasoning_and_foreign_items() -> None:
    broken = TurnFailed(ErrorInfo(kind=ErrorKind.INTERNAL, message="broken"))
    found = stream(parsed(), *thought("a", "b")[:2], broken)
    assert found.items[0]["summary"][0]["text"] == "a"
    assert stream(parsed(), ItemStarted(0, "opaque", "o"), broken).items == []
    assert stream(parsed(), ItemStarted(0, "tool_call", "t"), broken).items == []


# -- calls that were cut ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "tools", "told"),
    [
        (ToolCall(call_id="c1", name="f", arguments='{"q":'), [], 0),
        (ToolCall(call_id="c1", name="f", arguments='{"q":1}'), [], 1),
        (ToolCall(call_id="c1", name="exec", arguments="rm -rf /tm", kind="custom"), [EXEC], 0),
    ],
)
def test_a_call_without_its_end_is_not_told_as_done(call: ToolCall, tools: Any, told: int) -> None:
    """Codex runs every call that is done, though the response fails after it."""
    *before, done = called(call)
    encoder = ResponsesEncoder(parsed(tools=tools))
    found = validate_stream(encoder.encode([*frames([STARTED, *before]), Frame((done, EOF))]))
    assert len(found.items) == len(found.response["output"]) == told


def test_a_call_that_was_cut_is_told_where_the_turn_counts_as_ended() -> None:
    *before, done = called(ToolCall(call_id="c1", name="f", arguments='{"q":'))
    for on_eof in ("incomplete", "completed"):
        encoder = ResponsesEncoder(parsed(), on_eof=on_eof)  # type: ignore[arg-type]
        found = validate_stream(encoder.encode([*frames([STARTED, *before]), Frame((done, EOF))]))
        assert found.items[0]["arguments"] == '{"q":'


# -- resuming ---------------------------------------------------------------------------------------------

LONG: list[TurnEvent] = [
    STARTED,
    *thought("h", "m"),
    *said("A", "B", index=1),
    Heartbeat(),
    *called(FIND, index=2),
    TurnCompleted("stop", USAGE),
]


@given(st.integers(-1, 40), st.integers(1, 5))
def test_a_resumed_stream_is_the_rest_of_the_first_one(seen: int, size: int) -> None:
    whole_stream = SseSplitter().feed(ResponsesEncoder(parsed()).encode(frames(LONG)))
    events = frames(LONG)
    encoder = ResponsesEncoder(parsed(), starting_after=seen)
    rest = b"".join(encoder.encode(events[at : at + size]) for at in range(0, len(events), size))
    assert rest == b"".join(event.raw for event in whole_stream[min(seen + 1, len(whole_stream) - 1) :])
    validate_stream(rest, starting_after=seen)


def test_the_numbers_are_those_of_the_events() -> None:
    found = stream(parsed(), *LONG[1:])
    assert [event["sequence_number"] for event in found.events] == list(range(len(found.events)))


# -- a stream and a whole answer --------------------------------------------------------------------------

_TEXTS = st.lists(st.text(max_size=4), max_size=4)


@st.composite
def _message(draw: st.DrawFn, index: int) -> list[TurnEvent]:
    parts: list[TextPart | RefusalPart] = []
    events: list[TurnEvent] = [ItemStarted(index, "message", "m")]
    for number, texts in enumerate(draw(st.lists(_TEXTS, max_size=3))):
        if draw(st.booleans()):
            events += [TextDelta(index, text, number) for text in texts]
            parts.append(TextPart("".join(texts)))
        else:
            events += [RefusalDelta(index, text, number) for text in texts]
            parts.append(RefusalPart("".join(texts)))
    if draw(st.booleans()):
        events = events[:1]  # all of it said by the end alone
    return [*events, ItemDone(index, Message(role="assistant", parts=tuple(parts)))]


@st.composite
def _reasoning(draw: st.DrawFn, index: int) -> list[TurnEvent]:
    events: list[TurnEvent] = [ItemStarted(index, "reasoning", "r")]
    summary = [texts for texts in draw(st.lists(_TEXTS, max_size=3)) if any(texts)]
    full = draw(_TEXTS)
    for number, texts in enumerate(summary):
        events += [ReasoningDelta(index, text, number, "summary") for text in texts]
    events += [ReasoningDelta(index, text) for text in full]
    if draw(st.booleans()):
        events = events[:1]
    item = Reasoning(
        summary=tuple(map("".join, summary)), text="".join(full), signature=draw(st.none() | st.just("s"))
    )
    return [*events, ItemDone(index, item)]


@st.composite
def _call(draw: st.DrawFn, index: int) -> list[TurnEvent]:
    name = draw(st.sampled_from(["find", "exec", "ns__f", "strange"]))
    kind = "custom" if name == "exec" else "function"
    arguments = draw(st.sampled_from(["", "{}", '{"input": "x"}', "ls", "{ x }", " {}", '{"q": 1}']))
    call = ToolCall(
        call_id=f"c{index}",
        name=name,
        arguments=arguments,
        kind=kind if draw(st.booleans()) else "function",  # type: ignore[arg-type]
        result=draw(st.none() | st.just("ok")),
    )
    return called(call, *draw(st.sampled_from([(), ("",), tuple(arguments)])), index=index)


@st.composite
def _turns(draw: st.DrawFn) -> list[TurnEvent]:
    events: list[TurnEvent] = []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from([_message, _reasoning, _call]))
        events += draw(kind(index))
    finish = draw(st.sampled_from(["stop", "tool_calls", "length", "content_filter", "paused"]))
    return [*events, TurnCompleted(finish, draw(st.none() | st.just(USAGE)))]


@given(_turns(), st.integers(1, 6), st.booleans())
def test_a_stream_adds_up_to_the_whole_answer(events: list[TurnEvent], size: int, encrypted: bool) -> None:
    turn = parsed(
        tools=[
            EXEC,
            {"type": "function", "name": "find"},
            {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "f"}]},
        ],
        include=["reasoning.encrypted_content"] if encrypted else [],
    )
    encoder = ResponsesEncoder(turn)
    every = frames([STARTED, *events])
    raw = b"".join(encoder.encode(every[at : at + size]) for at in range(0, len(every), size))
    assert validate_stream(raw).response == whole(turn, *events)


_ANY = st.sampled_from(
    [
        STARTED,
        ItemStarted(0, "message", "m"),
        ItemStarted(0, "reasoning", "r"),
        ItemStarted(0, "tool_call", "t", "find", "c1"),
        ItemStarted(0, "tool_call", "t"),
        ItemStarted(0, "opaque", "o"),
        TextDelta(0, "x"),
        RefusalDelta(0, "x"),
        ReasoningDelta(0, "x"),
        ReasoningDelta(0, "x", channel="summary"),
        SignatureDelta(0, "x"),
        ToolInputDelta(0, "{"),
        ItemDone(0, Message(role="assistant", parts=(TextPart("x"),))),
        ItemDone(0, FIND),
        OpaqueEvent("lingma", "x", {}),
        Heartbeat(),
        EOF,
        TurnCancelled("deadline"),
        TurnCompleted("stop"),
        TurnCompleted("length", USAGE),
    ]
)


@given(st.lists(_ANY, max_size=12), st.sampled_from(["failed", "incomplete", "completed"]), st.booleans())
def test_whatever_an_upstream_says_its_mended_stream_is_legal(
    events: list[TurnEvent], on_eof: OnEof, joined: bool
) -> None:
    repair = Repair(STARTED)
    mended = [*(event for one in events for event in repair.feed((one,))), *repair.eof()]
    encoder = ResponsesEncoder(parsed(), on_eof=on_eof)
    given_frames = [Frame(tuple(mended))] if joined else frames(mended)
    found: StreamRead = validate_stream(encoder.encode(given_frames), rewritten=True)
    assert found.done
