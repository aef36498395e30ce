from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps, loads
from gateway.turn.events import (
    AnnotationAdded,
    Heartbeat,
    ItemDone,
    ItemStarted,
    OpaqueEvent,
    ReasoningDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    ToolInputDelta,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
)
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.grammar import check
from gateway.turn.items import Message, OpaqueItem, Reasoning, TextPart, ToolCall
from gateway.turn.usage import Usage
from gateway.upstreams.codex.decode import CodexDecoder
from gateway.wire.sse import SseSplitter
from tests.playbook import Playbook


def decoder() -> CodexDecoder:
    return CodexDecoder(model="m", created_at=1_790_000_000, executor="openai", input_tokens_estimate=7)


def event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), dumps({"type": kind, **fields}))


def message(text: str, item_id: str = "msg_1") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": item_id, "role": "assistant", "status": "completed", "content": [part]}


def call(call_id: str, arguments: str = '{"n":1}') -> dict[str, Any]:
    return {
        "type": "function_call",
        "id": f"fc_{call_id}",
        "call_id": call_id,
        "name": "ls",
        "arguments": arguments,
    }


REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "so"}]}
SIGNED = {**REASONING, "encrypted_content": "gAAAA"}
CREATED = event("response.created", response={"id": "resp_1", "status": "in_progress"})
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 14,
}


def added(index: int, item: dict[str, Any]) -> bytes:
    return event("response.output_item.added", output_index=index, item=item)


def done(index: int, item: dict[str, Any]) -> bytes:
    return event("response.output_item.done", output_index=index, item=item)


def completed(*output: dict[str, Any], kind: str = "response.completed", **more: Any) -> bytes:
    return event(kind, response={"id": "resp_1", "status": "completed", "output": list(output), **more})


def decoded(*messages: bytes, end: bool = True) -> tuple[list[Frame], CodexDecoder]:
    subject = decoder()
    frames = [subject.feed(raw, seq) for seq, raw in enumerate(messages, 1)]
    if end and (last := subject.eof()) is not None:
        frames.append(last)
    check([event for frame in frames for event in frame.events])
    return frames, subject


def events_in(frames: list[Frame]) -> list[TurnEvent]:
    return [event for frame in frames for event in frame.events]


def folded(*messages: bytes) -> TurnResult:
    return fold(decoded(*messages)[0])


def test_a_text_is_said_as_it_comes_and_whole_at_its_end() -> None:
    item = message("Hello")
    book = Playbook(decoder()) >> CREATED >> event("response.in_progress", response={})
    (
        book
        << TurnStarted(model="m", created_at=1_790_000_000, input_tokens_estimate=7)
        << Heartbeat()
        << Heartbeat()
    )
    book >> added(0, message("")) >> event("response.content_part.added", output_index=0)
    book << ItemStarted(0, "message", "msg_1")
    (
        book
        >> event("response.output_text.delta", output_index=0, content_index=0, delta="Hel")
        << TextDelta(0, "Hel")
    )
    (
        book
        >> event("response.output_text.delta", output_index=0, content_index=0, delta="lo")
        << TextDelta(0, "lo")
    )
    book >> event("response.output_text.done", output_index=0, text="Hello") >> done(0, item)
    book << ItemDone
    book >> completed(item, usage=USAGE)
    usage = Usage(input_tokens=9, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
    book << TurnCompleted("stop", usage)
    (book >> b"data: [DONE]\n\n").eof().end()


def test_every_frame_keeps_its_bytes() -> None:
    messages = [
        CREATED,
        added(0, message("")),
        done(0, message("a")),
        completed(),
        b"data: [DONE]\n\n",
        b": x\n\n",
    ]
    frames, _ = decoded(*messages)
    assert [frame.raw for frame in frames] == messages
    assert {frame.dialect for frame in frames} == {"responses"}
    assert [frame.seq for frame in frames] == [1, 2, 3, 4, 5, 6]


def test_reasoning_shows_its_summary_and_keeps_its_blob() -> None:
    frames, _ = decoded(
        CREATED,
        added(0, REASONING),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="so"),
        event("response.reasoning_text.delta", output_index=0, content_index=0, delta="because"),
        done(0, SIGNED),
        completed(),
    )
    events = [event for frame in frames for event in frame.events]
    assert ReasoningDelta(0, "so", 0, "summary") in events
    assert ReasoningDelta(0, "because", 0, "full") in events
    assert SignatureDelta(0, "gAAAA") in events
    (item,) = fold(frames).items
    assert isinstance(item, Reasoning)
    assert (item.summary, item.signature) == (("so",), "gAAAA")
    assert item.origin is not None
    assert (item.origin.executor, item.origin.raw) == ("openai", dumps(SIGNED))


def test_calls_stream_their_arguments_and_end_the_turn() -> None:
    result = folded(
        CREATED,
        added(0, call("c1", "")),
        event("response.function_call_arguments.delta", output_index=0, delta='{"n"'),
        event("response.function_call_arguments.delta", output_index=0, delta=":1}"),
        event("response.function_call_arguments.done", output_index=0, arguments='{"n":1}'),
        done(0, call("c1")),
        completed(call("c1")),
    )
    assert result.finish == "tool_calls"
    (item,) = result.tool_calls
    assert (item.call_id, item.name, item.arguments, item.kind) == ("c1", "ls", '{"n":1}', "function")


def test_custom_tools_and_namespaces() -> None:
    custom = {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "c1",
        "name": "exec",
        "namespace": "functions",
    }
    frames, _ = decoded(
        CREATED,
        added(0, custom),
        event("response.custom_tool_call_input.delta", output_index=0, delta="ls -l"),
        done(0, {**custom, "input": "ls -l"}),
        completed(),
    )
    assert ItemStarted(0, "tool_call", "ctc_1", "functions__exec", "c1") in frames[1].events
    assert frames[2].events == (ToolInputDelta(0, "ls -l"),)
    (item,) = fold(frames).tool_calls
    assert (item.name, item.kind, item.arguments) == ("functions__exec", "custom", "ls -l")


def test_items_that_interleave_are_told_one_after_the_other() -> None:
    arguments = "response.function_call_arguments.delta"
    frames, _ = decoded(
        CREATED,
        added(0, call("c1", "")),
        added(1, call("c2", "")),
        event(arguments, output_index=1, delta="{"),
        event(arguments, output_index=0, delta="{}"),
        done(1, call("c2", "{}")),
        added(2, message("")),
        done(0, call("c1", "{}")),
        event("response.output_text.delta", output_index=2, delta="x"),
        done(2, message("x")),
        completed(),
    )
    result = fold(frames)
    assert [getattr(item, "call_id", "text") for item in result.items] == ["c1", "c2", "text"]
    assert frames[3].events == ()


def test_refusals_citations_and_unknown_events_are_kept() -> None:
    citation = {"type": "url_citation", "url": "https://example.com"}
    frames, _ = decoded(
        CREATED,
        event("response.web_search_call.searching", output_index=0, item_id="ws_1"),
        added(0, message("")),
        event("response.output_text.annotation.added", output_index=0, content_index=0, annotation=citation),
        event("response.refusal.delta", output_index=0, content_index=1, delta="no"),
        done(0, {**message("a"), "content": [{"type": "refusal", "refusal": "no"}]}),
        completed(),
    )
    events = [event for frame in frames for event in frame.events]
    assert AnnotationAdded(0, 0, citation) in events
    assert RefusalDelta(0, "no", 1) in events
    assert [e.type for e in events if isinstance(e, OpaqueEvent)] == ["response.web_search_call.searching"]


def test_an_item_of_an_unknown_type_is_opaque() -> None:
    item = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "q"}}
    (found,) = folded(CREATED, added(0, item), done(0, item), completed()).items
    assert isinstance(found, OpaqueItem)
    assert (found.type, found.payload, found.dialect) == ("web_search_call", item, "responses")


def test_the_output_of_the_end_counts_for_items_that_were_never_done() -> None:
    assert folded(CREATED, completed(message("Hello"))).text == "Hello"
    cut = [CREATED, added(0, message("")), event("response.output_text.delta", output_index=0, delta="Hel")]
    assert folded(*cut, completed(message("Hello"))).text == "Hello"
    assert folded(*cut, completed()).text == "Hel"


def test_items_without_a_beginning_are_said_at_their_end() -> None:
    result = folded(
        CREATED, done(0, message("Hello")), done(1, call("c1")), event("response.done", response={})
    )
    assert (result.text, [c.call_id for c in result.tool_calls], result.finish) == (
        "Hello",
        ["c1"],
        "tool_calls",
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("other", "length")],
)
def test_an_incomplete_response_says_why(reason: str, finish: str) -> None:
    end = completed(message("Hel"), kind="response.incomplete", incomplete_details={"reason": reason})
    frames, subject = decoded(CREATED, end)
    assert fold(frames).finish == finish
    assert not subject.completed


def test_a_stream_that_breaks_off_has_failed() -> None:
    cut = [CREATED, added(0, message("")), event("response.output_text.delta", output_index=0, delta="Hel")]
    result = folded(*cut)
    assert result.error is not None
    assert result.error.kind == ErrorKind.UPSTREAM_EOF
    assert result.text == "Hel"
    assert folded().error is not None


def test_a_stream_that_breaks_off_says_what_it_held_back() -> None:
    cut = [
        CREATED,
        added(0, call("c1", "")),
        added(1, message("")),
        event("response.output_text.delta", output_index=1, delta="half"),
        done(2, call("c2")),
    ]
    result = folded(*cut)
    assert result.error is not None
    assert result.text == "half"
    assert [item.call_id for item in result.tool_calls] == ["c1", "c2"]


def test_what_is_said_of_an_item_that_never_began_begins_it_and_its_end_has_the_last_word() -> None:
    delta = event("response.output_text.delta", output_index=0, delta="late", item_id="msg_1")
    frames, _ = decoded(CREATED, delta, done(0, message("a")), delta, completed())
    assert fold(frames).text == "a"
    assert [one.item_id for one in events_in(frames) if isinstance(one, ItemStarted)] == ["msg_1"]
    assert frames[3].events == (), "what comes after its end adds nothing"


@pytest.mark.parametrize("final", [[], None])
def test_an_answer_that_is_nothing_but_deltas(final: Any) -> None:
    said = [event("response.output_text.delta", output_index=0, delta=text) for text in ("Hel", "lo")]
    frames, _ = decoded(CREATED, *said, event("response.completed", response={"output": final}))
    assert fold(frames).text == "Hello"
    assert isinstance(events_in(frames)[-1], TurnCompleted)


def test_items_that_all_have_one_number_are_all_told() -> None:
    items = [message("a", "m1"), message("b", "m2"), call("c")]
    one_by_one = [piece for item in items for piece in (added(0, item), done(0, item))]
    frames, _ = decoded(CREATED, *one_by_one, completed())
    result = fold(frames)
    assert [type(item) for item in result.items] == [Message, Message, ToolCall]


@pytest.mark.parametrize("usage", [[], 5.5, "abc", None, {"input_tokens": 2**60}, {"input_tokens": "x"}])
def test_usage_that_makes_no_sense_costs_no_answer(usage: Any) -> None:
    end = event("response.completed", response={"output": [message("a")], "usage": usage})
    frames, _ = decoded(CREATED, end)
    assert fold(frames).text == "a"
    last = events_in(frames)[-1]
    assert isinstance(last, TurnCompleted)
    assert last.usage in (None, Usage())


def test_a_reason_that_makes_no_sense_is_none() -> None:
    end = event("response.incomplete", response={"output": [message("a")], "incomplete_details": "x"})
    frames, _ = decoded(CREATED, end)
    assert isinstance(events_in(frames)[-1], TurnCompleted)


def test_failures_inside_the_stream_are_judged() -> None:
    error = {"code": "rate_limit_exceeded", "message": "slow down"}
    for failure in (
        event("response.failed", response={"id": "r", "status": "failed", "error": error}),
        event("error", **error),
        event("error", error=error),
    ):
        frames, subject = decoded(CREATED, failure)
        result = fold(frames)
        assert result.error is not None
        assert (result.error.kind, result.error.message) == (ErrorKind.RATE_LIMITED, "slow down")
        assert subject.fault is not None
        assert subject.fault.again == "next"


@pytest.mark.parametrize("garbage", [b"data: {nope\n\n", b"data: []\n\n", b'data: {"type": 7}\n\n'])
def test_what_makes_no_sense_fails_the_turn(garbage: bytes) -> None:
    result = folded(CREATED, garbage, completed(message("late")))
    assert result.error is not None
    assert result.error.kind == ErrorKind.UPSTREAM_PROTOCOL


def test_an_answer_that_was_not_streamed_is_one_frame() -> None:
    body = dumps(
        {"id": "resp_1", "status": "completed", "output": [SIGNED, message("Hi"), call("c")], "usage": USAGE}
    )
    subject = decoder()
    frame = subject.feed_whole(body)
    check(list(frame.events))
    assert (frame.whole, frame.raw, frame.dialect) == (True, body, "responses")
    result = fold([frame])
    assert (result.text, result.finish, result.reasoning) == ("Hi", "tool_calls", "so")
    assert subject.output == [dumps(SIGNED), dumps(message("Hi")), dumps(call("c"))]
    failed = decoder().feed_whole(
        dumps({"status": "failed", "error": {"code": "server_error", "message": "x"}})
    )
    assert isinstance(failed.events[-1], TurnFailed)
    assert isinstance(decoder().feed_whole(b"<html>").events[-1], TurnFailed)
    overloaded = (
        decoder().feed_whole(b'{"error":{"code":"server_is_overloaded","message":"full"}}').events[-1]
    )
    assert isinstance(overloaded, TurnFailed)
    assert overloaded.error.message == "full"
    assert isinstance(decoder().feed_whole(b"{}").events[-1], TurnFailed)


ITEMS = [message("a"), call("c1"), SIGNED, {"type": "odd", "id": "o"}]


@given(st.data())
def test_any_order_of_item_events_gives_a_legal_stream_with_every_item(data: st.DataObject) -> None:
    """Ends after beginnings, deltas in between, in any interleaving."""
    pending = {
        index: [added(index, item), *deltas_of(index, item), done(index, item)]
        for index, item in enumerate(ITEMS)
    }
    messages = [CREATED]
    while pending:
        index = data.draw(st.sampled_from(sorted(pending)))
        messages.append(pending[index].pop(0))
        if not pending[index]:
            del pending[index]
    result = folded(*messages, completed())
    kinds = sorted(type(item).__name__ for item in result.items)
    assert kinds == sorted(kind.__name__ for kind in (Message, ToolCall, Reasoning, OpaqueItem))
    assert result.text == "a"


def deltas_of(index: int, item: dict[str, Any]) -> list[bytes]:
    match item["type"]:
        case "message":
            return [event("response.output_text.delta", output_index=index, delta="a")]
        case "function_call":
            return [event("response.function_call_arguments.delta", output_index=index, delta='{"n":1}')]
        case "reasoning":
            return [event("response.reasoning_summary_text.delta", output_index=index, delta="so")]
        case _:
            return []


def test_a_text_part_keeps_its_citations() -> None:
    citation = {"type": "url_citation", "url": "https://example.com"}
    item = message("a")
    item["content"][0]["annotations"] = [citation]
    (found,) = folded(CREATED, done(0, item), completed()).items
    assert isinstance(found, Message)
    assert found.parts == (TextPart("a", (citation,)),)


def test_an_event_that_nobody_knows_may_hold_anything() -> None:
    odd = event("response.hologram.delta", delta={"x": 1}, output_index="first")
    frames, _ = decoded(CREATED, odd, completed(message("a")))
    (opaque,) = [event for event in frames[1].events if isinstance(event, OpaqueEvent)]
    assert (opaque.type, opaque.payload["delta"]) == ("response.hologram.delta", {"x": 1})
    assert fold(frames).text == "a"


def test_a_delta_that_makes_no_sense_is_told_by_its_item() -> None:
    result = folded(
        CREATED,
        added(0, message("")),
        event("response.output_text.delta", output_index=0, delta=None),
        event("response.created", response={}, delta=7),
        done(0, message("a")),
        completed(),
    )
    assert (result.text, result.finish) == ("a", "stop")


@pytest.mark.parametrize("kind", ["response.output_item.done", "response.completed"])
def test_an_item_or_an_end_that_makes_no_sense_fails_the_turn(kind: str) -> None:
    result = folded(CREATED, event(kind, output_index=0, item="x", response=[]))
    assert result.error is not None
    assert result.error.kind == ErrorKind.UPSTREAM_PROTOCOL


@pytest.mark.parametrize("kind", ["codex.rate_limits", "response.metadata", "keepalive", "response.queued"])
def test_what_comes_before_the_answer_is_no_content(kind: str) -> None:
    frames, _ = decoded(event(kind, rate_limits={}))
    assert not frames[0].has_content
    assert isinstance(frames[0].events[0], TurnStarted)


def test_items_that_the_upstream_does_not_number() -> None:
    def unnumbered(kind: str, **fields: Any) -> bytes:
        return event(f"response.{kind}", **fields)

    frames, subject = decoded(
        CREATED,
        unnumbered("output_item.added", item=message("")),
        unnumbered("output_text.delta", delta="a"),
        unnumbered("output_item.done", item=message("a")),
        unnumbered("output_item.done", item=call("c1")),
        completed(message("a"), call("c1"), call("c2")),
    )
    result = fold(frames)
    assert (result.text, [item.call_id for item in result.tool_calls]) == ("a", ["c1", "c2"])
    _, subject = decoded(CREATED, unnumbered("output_item.done", item=SIGNED), completed())
    assert subject.output == [dumps(SIGNED)]


def test_rp_54_an_empty_output_is_that_of_the_items_in_the_upstreams_order() -> None:
    """RP-54. Given `output_item.done` of index 1 (call) and 0 (reasoning), then `response.completed` with
    `output:[]`, expect reasoning, call.
    """
    _, subject = decoded(CREATED, done(1, call("c1")), done(0, SIGNED), completed(usage=USAGE))
    assert subject.output == [dumps(SIGNED), dumps(call("c1"))]
    assert loads(subject.response) == {
        "id": "resp_1",
        "status": "completed",
        "output": [SIGNED, call("c1")],
        "usage": USAGE,
    }


def test_rp_55_an_answer_that_was_not_completed_is_not_to_be_kept() -> None:
    """RP-55. Given the items of 54 and `response.incomplete`, or a stream that is cut, expect no answer that
    counts as completed.
    """
    for end in (completed(kind="response.incomplete"), b""):
        _, subject = decoded(CREATED, done(0, SIGNED), end)
        assert not subject.completed


def test_what_came_before_an_event_that_cannot_be_read_is_told() -> None:
    """Deeper than any parser goes, behind deltas that came in the same piece."""
    delta = event("response.output_text.delta", output_index=0, delta="good ")
    deep = delta.replace(b'"delta"', b'"x":' + b"[" * 5000 + b"]" * 5000 + b',"delta"')
    events = SseSplitter().feed(b"".join([CREATED, added(0, message("")), delta, delta, deep]))
    frames: list[Frame] = []
    with pytest.raises(RecursionError):
        decoder().feed_all(events, 1, frames)
    assert fold(frames).text == "good good "
