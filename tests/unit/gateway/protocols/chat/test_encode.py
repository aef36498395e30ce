import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from gateway.kernel.errors import ErrorKind
from gateway.protocols.chat.encode import ChatEncoder
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
    TurnFailed,
    UsageReported,
)
from gateway.turn.items import Message, OpaqueItem, Reasoning, RefusalPart, TextPart, ToolCall
from gateway.turn.losses import Loss
from gateway.turn.usage import Usage
from gateway.wire.sse import SseSplitter
from tests.support.chat import (
    FUNCTIONS,
    STARTED,
    USAGE,
    called,
    deltas,
    frames,
    make_turn,
    payloads,
    said,
    stream,
)

# -- the stream -------------------------------------------------------------------------------------------


def test_lv_70_a_stream_of_two_texts_with_usage() -> None:
    """Given an OpenAI stream "A","B" with include_usage: expect content chunks A, B, one finish chunk stop,
    one chunk with empty choices and usage, [DONE]; the text is exactly "AB".
    """
    read = stream(make_turn(), [STARTED, *said("A", "B"), TurnCompleted("stop", USAGE)], include_usage=True)
    *chunks, done = read
    role, a, b, finish, usage = chunks
    assert [chunk.choices[0].delta.content for chunk in (role, a, b)] == ["", "A", "B"]
    assert [chunk.choices[0].finish_reason for chunk in (role, a, b, finish)] == [None, None, None, "stop"]
    assert finish.choices[0].delta.model_dump(exclude_unset=True) == {}
    assert usage.choices == []
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens, usage.usage.total_tokens) == (3, 2, 5)
    assert done == "[DONE]"


def test_every_chunk_carries_the_same_head() -> None:
    read = stream(make_turn(), [STARTED, *said("A"), TurnCompleted("stop")])
    heads = {(c.id, c.object, c.created, c.model, c.system_fingerprint) for c in read[:-1]}
    (head,) = heads
    assert head[0].startswith("chatcmpl-")
    assert head[1:] == ("chat.completion.chunk", 1_790_000_000, "asked", None)


def test_the_same_turn_gives_the_same_bytes_and_another_does_not() -> None:
    events = frames([STARTED, *said("A"), TurnCompleted("stop")])
    first = ChatEncoder(make_turn(), False).encode(events)
    assert ChatEncoder(make_turn(), False).encode(events) == first
    assert ChatEncoder(make_turn(turn_id="01other"), False).encode(events) != first


def test_usage_is_null_on_every_other_chunk_when_asked_for_and_absent_when_not() -> None:
    events = [STARTED, *said("A"), TurnCompleted("stop", USAGE)]
    asked = stream(make_turn(), events, include_usage=True)[:-2]
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in asked)
    assert all("usage" not in chunk.model_fields_set for chunk in stream(make_turn(), events)[:-1])


def test_a_usage_nobody_reported_has_no_chunk() -> None:
    read = stream(make_turn(), [STARTED, TurnCompleted("stop")], include_usage=True)
    assert [bool(chunk.choices) for chunk in read[:-1]] == [True, True]


def test_usage_reports_are_merged_and_detailed() -> None:
    reported = UsageReported(Usage(input_tokens=9, cached_tokens=4))
    last = TurnCompleted("stop", Usage(output_tokens=5, reasoning_tokens=2))
    *_, usage, _ = stream(make_turn(), [STARTED, reported, last], include_usage=True)
    assert usage.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_estimated_usage_says_so() -> None:
    estimate = Usage(input_tokens=1, output_tokens=1, estimated=True)
    *_, usage, _ = stream(make_turn(), [STARTED, TurnCompleted("stop", estimate)], include_usage=True)
    assert usage.usage.model_extra == {"estimated": True}


def test_a_service_tier_is_answered_only_when_asked_for() -> None:
    events = [STARTED, TurnCompleted("stop")]
    assert stream(make_turn(service_tier="flex"), events)[0].service_tier == "default"
    assert "service_tier" not in stream(make_turn(), events)[0].model_fields_set


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=6), st.integers(1, 4))
def test_any_text_in_any_bursts_arrives_unchanged(texts: list[str], size: int) -> None:
    events = frames([STARTED, *said(*texts), TurnCompleted("stop")])
    encoder = ChatEncoder(make_turn(), False)
    raw = b"".join(encoder.encode(events[at : at + size]) for at in range(0, len(events), size))
    assert raw == ChatEncoder(make_turn(), False).encode(events)
    data = [event.data for event in SseSplitter().feed(raw)]
    chunks = [ChatCompletionChunk.model_validate_json(piece or b"") for piece in data[:-1]]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "".join(texts)


def test_reasoning_goes_into_its_own_field() -> None:
    events = [
        STARTED,
        ItemStarted(0, "reasoning", "r"),
        ReasoningDelta(0, "h"),
        ReasoningDelta(0, "mm"),
        SignatureDelta(0, "sig"),
        ItemDone(0, Reasoning(text="hmm")),
        TurnCompleted("stop"),
    ]
    assert deltas(stream(make_turn(), events)) == [{"reasoning_content": "h"}, {"reasoning_content": "mm"}]


def test_parts_of_a_summary_are_paragraphs_and_only_the_first_channel_is_shown() -> None:
    events = [
        STARTED,
        ItemStarted(0, "reasoning", "r"),
        ReasoningDelta(0, "one", 0, "summary"),
        ReasoningDelta(0, "full", 0, "full"),
        ReasoningDelta(0, "two", 1, "summary"),
        ItemDone(0, Reasoning(summary=("one", "two"))),
        ItemStarted(1, "reasoning", "r2"),
        ReasoningDelta(1, "three", 2),
        ReasoningDelta(1, "four", 3),
        ItemDone(1, Reasoning(text="threefour")),
        TurnCompleted("stop"),
    ]
    said_so = [delta["reasoning_content"] for delta in deltas(stream(make_turn(), events))]
    assert said_so == ["one", "\n\ntwo", "three", "four"]


def test_a_refusal_goes_into_its_own_field() -> None:
    events = [STARTED, ItemStarted(0, "message", "m"), RefusalDelta(0, "no"), TurnCompleted("stop")]
    assert deltas(stream(make_turn(), events)) == [{"refusal": "no"}]


def test_tool_calls_name_themselves_first_and_then_send_arguments() -> None:
    calls = [
        ToolCall(call_id="c1", name="find", arguments='{"q":1}'),
        ToolCall(call_id="c2", name="sum", arguments="{}"),
    ]
    read = stream(
        make_turn(), [STARTED, *said("Sure"), *called(*calls, first=1), TurnCompleted("tool_calls")]
    )
    assert [delta["tool_calls"][0] for delta in deltas(read)[1:]] == [
        {"index": 0, "id": "c1", "type": "function", "function": {"name": "find", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"q'}},
        {"index": 0, "function": {"arguments": '":1}'}},
        {"index": 1, "id": "c2", "type": "function", "function": {"name": "sum", "arguments": ""}},
        {"index": 1, "function": {"arguments": "{"}},
        {"index": 1, "function": {"arguments": "}"}},
    ]
    assert read[-2].choices[0].finish_reason == "tool_calls"


def test_a_call_without_an_id_is_known_by_its_item() -> None:
    events = [STARTED, ItemStarted(0, "tool_call", "item_7", "find"), TurnCompleted("tool_calls")]
    assert deltas(stream(make_turn(), events))[0]["tool_calls"][0]["id"] == "item_7"


def test_a_call_that_learns_its_name_late_is_said_whole() -> None:
    call = ToolCall(call_id="c1", name="find", arguments="{}")
    events = [
        STARTED,
        ItemStarted(0, "tool_call", "item_0"),
        ToolInputDelta(0, "{}"),
        ItemDone(0, call),
        TurnCompleted("tool_calls"),
    ]
    assert deltas(stream(make_turn(), events)) == [
        {
            "tool_calls": [
                {
                    "index": 0,
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "find", "arguments": "{}"},
                }
            ]
        }
    ]


def test_a_custom_tool_is_called_with_input() -> None:
    turn = make_turn(tools=[{"type": "custom", "custom": {"name": "sh"}}])
    call = ToolCall(call_id="c1", name="sh", arguments="ls", kind="custom")
    read = payloads(turn, [STARTED, *called(call), TurnCompleted("tool_calls")])
    assert [payload["choices"][0]["delta"]["tool_calls"][0] for payload in read[1:4]] == [
        {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sh", "input": ""}},
        {"index": 0, "custom": {"input": "l"}},
        {"index": 0, "custom": {"input": "s"}},
    ]


def test_a_function_called_without_arguments_is_given_the_empty_object() -> None:
    """Clients read arguments as JSON, and an empty text is none."""
    early = ToolCall(call_id="c1", name="now", arguments="")
    late = [
        ItemStarted(1, "tool_call", "t"),
        ItemDone(1, ToolCall(call_id="c2", name="now", arguments="")),
    ]
    read = payloads(make_turn(), [STARTED, *called(early), *late, TurnCompleted("tool_calls")])
    functions = [payload["choices"][0]["delta"]["tool_calls"][0]["function"] for payload in read[1:-2]]
    assert functions == [
        {"name": "now", "arguments": ""},
        {"arguments": "{}"},
        {"name": "now", "arguments": "{}"},
    ]


def test_a_custom_tool_called_without_input_is_given_none() -> None:
    turn = make_turn(tools=[{"type": "custom", "custom": {"name": "sh"}}])
    call = ToolCall(call_id="c1", name="sh", arguments="", kind="custom")
    read = payloads(turn, [STARTED, *called(call), TurnCompleted("tool_calls")])
    assert [payload["choices"][0]["delta"] for payload in read[2:-1]] == [{}]


def test_items_that_had_no_deltas_are_said_by_their_end() -> None:
    refused = Message(role="assistant", parts=(TextPart("a"), RefusalPart("no")))
    events = [
        STARTED,
        ItemStarted(0, "reasoning", "r"),
        ItemDone(0, Reasoning(summary=("x", "y"))),
        ItemStarted(1, "message", "m"),
        ItemDone(1, refused),
        ItemStarted(2, "tool_call", "t", "find", "c1"),
        ItemDone(2, ToolCall(call_id="c1", name="find", arguments="{}")),
        ItemStarted(3, "tool_call", "t2", "sum", "c2"),
        ItemDone(3, ToolCall(call_id="c2", name="sum", arguments="")),
        TurnCompleted("stop"),
    ]
    found = deltas(stream(make_turn(), events))
    assert found[:3] == [{"reasoning_content": "x\n\ny"}, {"content": "a"}, {"refusal": "no"}]
    assert [delta["tool_calls"][0].get("function") for delta in found[3:]] == [
        {"name": "find", "arguments": ""},
        {"arguments": "{}"},
        {"name": "sum", "arguments": ""},
        {"arguments": "{}"},
    ]


def test_a_refusal_that_only_the_end_of_its_item_says_is_said_beside_the_text() -> None:
    item = Message(role="assistant", parts=(TextPart("a"), RefusalPart("no")))
    events = [STARTED, ItemStarted(0, "message", "m"), TextDelta(0, "a"), ItemDone(0, item)]
    assert deltas(stream(make_turn(), events)) == [{"content": "a"}, {"refusal": "no"}]


def test_a_text_that_only_the_end_of_its_item_says_is_said_beside_the_refusal() -> None:
    item = Message(role="assistant", parts=(TextPart("a"), RefusalPart("no")))
    events = [STARTED, ItemStarted(0, "message", "m"), RefusalDelta(0, "no", 1), ItemDone(0, item)]
    assert deltas(stream(make_turn(), events)) == [{"refusal": "no"}, {"content": "a"}]


def test_deltas_are_not_repeated_by_the_end_of_their_item() -> None:
    read = stream(make_turn(), [STARTED, *said("A", "", "B"), TurnCompleted("stop")])
    assert deltas(read) == [{"content": "A"}, {"content": "B"}]


def test_clients_of_functions_get_a_function_call() -> None:
    losses: list[Loss] = []
    calls = [
        ToolCall(call_id="c1", name="find", arguments="{}"),
        ToolCall(call_id="c2", name="x", arguments="{}"),
    ]
    events = [STARTED, *called(*calls), TurnCompleted("tool_calls")]
    _, *read, _ = payloads(make_turn(**FUNCTIONS), events, losses=losses)
    for payload in read:
        ChatCompletionChunk.model_validate(payload)
    assert [payload["choices"][0]["delta"] for payload in read] == [
        {"function_call": {"name": "find", "arguments": ""}},
        {"function_call": {"arguments": "{"}},
        {"function_call": {"arguments": "}"}},
        {},
    ]
    assert read[-1]["choices"][0]["finish_reason"] == "function_call"
    assert losses == [Loss("function_call", "only-one-in-chat")]


def test_citations_come_in_one_piece_before_the_end_and_others_are_a_loss() -> None:
    """The SDK's own accumulator cannot add up a list that comes in several pieces."""
    losses: list[Loss] = []
    cited = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}
    other = {"type": "file_citation"}
    part = TextPart("ab", (cited, other, cited))  # type: ignore[arg-type]
    events = [
        STARTED,
        ItemStarted(0, "message", "m"),
        TextDelta(0, "ab"),
        AnnotationAdded(0, 0, cited),  # type: ignore[arg-type]
        AnnotationAdded(0, 0, other),  # type: ignore[arg-type]
        ItemDone(0, Message(role="assistant", parts=(part,))),
        TurnCompleted("stop"),
    ]
    read = payloads(make_turn(), events, losses=losses)
    said_so = [payload["choices"][0]["delta"] for payload in read[1:-1]]
    citation = {
        "type": "url_citation",
        "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 2},
    }
    assert said_so == [{"content": "ab"}, {"annotations": [citation, citation]}, {}]
    assert losses == [Loss("annotation", "not-in-chat")]


def test_what_chat_cannot_say_is_told_once_as_a_loss() -> None:
    losses: list[Loss] = []
    encoder = ChatEncoder(make_turn(), False, losses=losses)
    opaque = OpaqueEvent("responses", "response.new", {})
    item = OpaqueItem(dialect="responses", type="web_search_call", payload={})
    events = [opaque, opaque, ItemStarted(0, "opaque", "o"), ItemDone(0, item)]
    assert encoder.encode(frames(events)) == b""
    assert losses == [Loss("response.new", "not-in-chat"), Loss("web_search_call", "not-in-chat")]


def test_a_silent_upstream_is_a_comment() -> None:
    encoder = ChatEncoder(make_turn(), False)
    assert encoder.encode(frames([Heartbeat()])) == b""
    assert encoder.keepalive() == b": keep-alive\n\n"


# -- the end ----------------------------------------------------------------------------------------------


def test_a_failure_is_the_last_thing_said() -> None:
    error = ErrorInfo(kind=ErrorKind.UPSTREAM_EOF, message="cut", code="eof", param="p")
    read = stream(make_turn(), [STARTED, *said("A"), TurnFailed(error)], include_usage=True)
    assert read[-1] == {"error": {"message": "cut", "type": "upstream_error", "param": "p", "code": "eof"}}
    assert not any(chunk.choices[0].finish_reason for chunk in read[:-1])


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_error_kind_can_end_a_stream(kind: ErrorKind) -> None:
    (read,) = stream(make_turn(), [TurnFailed(ErrorInfo(kind=kind, message="why"))])
    assert read["error"]["message"] == "why"
    assert read["error"]["type"]


def test_a_cancellation_ends_a_stream_as_an_error() -> None:
    read = stream(make_turn(), [STARTED, *said("A"), TurnCancelled("drain")])
    assert read[-1]["error"]["code"] == "service_unavailable"


def test_calls_that_the_upstream_ran_itself_do_not_wait_for_the_client() -> None:
    call = ToolCall(call_id="c1", name="find", arguments="{}", result="ok")
    read = stream(make_turn(), [STARTED, *called(call), TurnCompleted("stop")])
    assert read[-2].choices[0].finish_reason == "stop"


# -- resuming ---------------------------------------------------------------------------------------------


def test_a_resumable_stream_numbers_its_events_and_not_its_keep_alives() -> None:
    encoder = ChatEncoder(make_turn(resumable=True), False)
    raw = encoder.encode(frames([STARTED])) + encoder.keepalive()
    raw += encoder.encode(frames([Heartbeat(), *said("A", "B")]))
    raw += encoder.encode(frames([TurnCompleted("stop")]))
    events = SseSplitter().feed(raw)
    assert [event.id for event in events] == ["1", None, "2", "3", "4", "5"]
    assert events[-1].data == b"[DONE]"


@given(st.integers(0, 8), st.integers(1, 5))
def test_a_resumed_stream_is_the_rest_of_the_first_one(seen: int, size: int) -> None:
    turn = make_turn(resumable=True)
    events = frames([STARTED, *said("A", "B"), TurnCompleted("stop")])
    first = SseSplitter().feed(ChatEncoder(turn, False).encode(events))
    encoder = ChatEncoder(turn, False, starting_after=seen)
    rest = b"".join(encoder.encode(events[at : at + size]) for at in range(0, len(events), size))
    assert rest == b"".join(event.raw for event in first[seen:])


def test_a_stream_that_cannot_be_resumed_has_no_ids() -> None:
    assert b"id: " not in ChatEncoder(make_turn(), False).encode(frames([STARTED, TurnCompleted("stop")]))
