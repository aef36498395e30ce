from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.kernel.errors import ErrorKind
from gateway.kernel.ids import TurnId
from gateway.kernel.json import JsonObject, dumps, loads
from gateway.protocols.bodies import TurnContext
from gateway.protocols.chat.encode import ChatEncoder, build_completion, finish_reason, wants_usage
from gateway.protocols.chat.parse import parse_chat
from gateway.turn.events import (
    AnnotationAdded,
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
    TurnStarted,
    UsageReported,
)
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.items import Message, OpaqueItem, Reasoning, RefusalPart, TextPart, ToolCall
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from gateway.wire.sse import SseSplitter

STARTED = TurnStarted(model="upstream", created_at=1)
USAGE = Usage(input_tokens=3, output_tokens=2)
FUNCTIONS = {"functions": [{"name": "find"}]}


def make_turn(*, resumable: bool = False, turn_id: str = "01turn", **fields: Any) -> Turn:
    body = {"model": "asked", "messages": [{"role": "user", "content": "a"}], "stream": True, **fields}
    context = TurnContext(
        id=TurnId(turn_id), tenant="t", created_at_ms=1_790_000_000_999, resumable=resumable
    )
    return parse_chat(dumps(body), context)


def frames(events: Sequence[TurnEvent]) -> list[Frame]:
    return [Frame((event,)) for event in events]


def message(text: str) -> Message:
    return Message(role="assistant", parts=(TextPart(text),))


def said(*texts: str) -> list[TurnEvent]:
    """One message item, from its start to its end."""
    return [
        ItemStarted(0, "message", "msg"),
        *(TextDelta(0, text) for text in texts),
        ItemDone(0, message("".join(texts))),
    ]


def called(*calls: ToolCall, first: int = 0) -> list[TurnEvent]:
    """Tool calls whose arguments come in two pieces."""
    events: list[TurnEvent] = []
    for index, call in enumerate(calls, first):
        half = len(call.arguments) // 2
        events += [
            ItemStarted(index, "tool_call", f"item_{index}", call.name, call.call_id),
            ToolInputDelta(index, call.arguments[:half]),
            ToolInputDelta(index, call.arguments[half:]),
            ItemDone(index, call),
        ]
    return events


def stream(turn: Turn, events: Sequence[TurnEvent], *, include_usage: bool = False) -> list[Any]:
    """The data of each event: chunks as the official types read them, errors and [DONE] as they are."""
    raw = ChatEncoder(turn, include_usage).encode(frames(events))
    splitter = SseSplitter()
    read = []
    for event in splitter.feed(raw):
        if event.data is None:
            read.append(event.raw)
        elif event.data == b"[DONE]":
            read.append("[DONE]")
        else:
            payload = loads(event.data)
            assert isinstance(payload, dict)
            read.append(payload if "error" in payload else ChatCompletionChunk.model_validate(payload))
    assert splitter.pending == b""
    return read


def deltas(read: list[Any]) -> list[dict[str, Any]]:
    """What the deltas say, the first chunk's role aside."""
    found = [
        chunk.choices[0].delta.model_dump(exclude_unset=True)
        for chunk in read
        if isinstance(chunk, ChatCompletionChunk) and chunk.choices
    ]
    assert found[0] == {"role": "assistant", "content": "", "refusal": None}
    return [delta for delta in found[1:] if delta]


def whole(*events: TurnEvent, **fields: Any) -> ChatCompletion:
    turn = make_turn(**fields)
    return ChatCompletion.model_validate(build_completion(turn, fold(frames(events))))


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


def test_parts_of_reasoning_are_paragraphs_and_only_the_first_channel_is_shown() -> None:
    events = [
        STARTED,
        ItemStarted(0, "reasoning", "r"),
        ReasoningDelta(0, "one", 0, "summary"),
        ReasoningDelta(0, "full", 0, "full"),
        ReasoningDelta(0, "two", 1, "summary"),
        ItemDone(0, Reasoning(summary=("one", "two"))),
        ItemStarted(1, "reasoning", "r2"),
        ReasoningDelta(1, "three", 2),
        ItemDone(1, Reasoning(text="three")),
        TurnCompleted("stop"),
    ]
    said_so = [delta["reasoning_content"] for delta in deltas(stream(make_turn(), events))]
    assert said_so == ["one", "\n\ntwo", "three"]


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
    raw = ChatEncoder(turn, False).encode(frames([STARTED, *called(call), TurnCompleted("tool_calls")]))
    payloads: list[Any] = [loads(event.data or b"") for event in SseSplitter().feed(raw)[1:4]]
    assert [payload["choices"][0]["delta"]["tool_calls"][0] for payload in payloads] == [
        {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sh", "input": ""}},
        {"index": 0, "custom": {"input": "l"}},
        {"index": 0, "custom": {"input": "s"}},
    ]


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
    ]


def test_deltas_are_not_repeated_by_the_end_of_their_item() -> None:
    read = stream(make_turn(), [STARTED, *said("A", "", "B"), TurnCompleted("stop")])
    assert deltas(read) == [{"content": "A"}, {"content": "B"}]


def test_clients_of_functions_get_a_function_call() -> None:
    losses: list[Loss] = []
    calls = [
        ToolCall(call_id="c1", name="find", arguments="{}"),
        ToolCall(call_id="c2", name="x", arguments="{}"),
    ]
    encoder = ChatEncoder(make_turn(**FUNCTIONS), False, losses=losses)
    raw = encoder.encode(frames([STARTED, *called(*calls), TurnCompleted("tool_calls")]))
    payloads: list[Any] = [loads(event.data or b"") for event in SseSplitter().feed(raw)[1:-1]]
    for payload in payloads:
        ChatCompletionChunk.model_validate(payload)
    assert [payload["choices"][0]["delta"] for payload in payloads] == [
        {"function_call": {"name": "find", "arguments": ""}},
        {"function_call": {"arguments": "{"}},
        {"function_call": {"arguments": "}"}},
        {},
    ]
    assert payloads[-1]["choices"][0]["finish_reason"] == "function_call"
    assert losses == [Loss("function_call", "only-one-in-chat")]


def test_citations_are_annotations_and_others_a_loss() -> None:
    losses: list[Loss] = []
    citation = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}
    events = [
        STARTED,
        ItemStarted(0, "message", "m"),
        AnnotationAdded(0, 0, citation),  # type: ignore[arg-type]
        AnnotationAdded(0, 0, {"type": "file_citation"}),
    ]
    raw = ChatEncoder(make_turn(), False, losses=losses).encode(frames(events))
    payload: Any = loads(SseSplitter().feed(raw)[-1].data or b"")
    assert payload["choices"][0]["delta"] == {
        "annotations": [
            {
                "type": "url_citation",
                "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 2},
            }
        ]
    }
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


@pytest.mark.parametrize(
    ("finish", "runnable", "functions", "expected"),
    [
        ("stop", False, False, "stop"),
        ("stop", True, False, "tool_calls"),
        ("tool_calls", True, False, "tool_calls"),
        ("tool_calls", False, False, "tool_calls"),
        ("tool_calls", True, True, "function_call"),
        ("stop", True, True, "function_call"),
        ("length", True, False, "length"),
        ("content_filter", False, False, "content_filter"),
        ("paused", False, False, "stop"),
        ("paused", True, False, "tool_calls"),
    ],
)
def test_finish_reasons(finish: Finish, runnable: bool, functions: bool, expected: str) -> None:
    assert finish_reason(finish, runnable_calls=runnable, functions=functions) == expected


def test_every_finish_has_a_reason() -> None:
    for finish in get_args(Finish):
        assert finish_reason(finish, runnable_calls=False, functions=False)


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


# -- whole answers ----------------------------------------------------------------------------------------


def test_a_completion_says_text_reasoning_and_usage() -> None:
    answer = whole(
        STARTED,
        ItemStarted(0, "reasoning", "r"),
        ItemDone(0, Reasoning(text="hmm")),
        ItemStarted(1, "message", "m"),
        ItemDone(1, message("seven")),
        TurnCompleted("stop", Usage(input_tokens=3, output_tokens=2, reasoning_tokens=1)),
    )
    assert answer.model_dump(exclude_unset=True) == {
        "id": answer.id,
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "asked",
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "seven",
                    "refusal": None,
                    "reasoning_content": "hmm",
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }


def test_a_completion_and_its_stream_have_the_same_id() -> None:
    events = [STARTED, *said("A"), TurnCompleted("stop")]
    assert whole(*events).id == stream(make_turn(), events)[0].id


def test_a_completion_says_its_tool_calls() -> None:
    function = ToolCall(call_id="c1", name="find", arguments='{"q":1}')
    custom = ToolCall(call_id="c2", name="sh", arguments="ls", kind="custom")
    answer = whole(STARTED, *called(function, custom), TurnCompleted("stop"))
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    assert [call.model_dump(exclude_unset=True) for call in choice.message.tool_calls] == [
        {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}},
        {"id": "c2", "type": "custom", "custom": {"name": "sh", "input": "ls"}},
    ]


def test_a_completion_for_functions_says_one_function_call() -> None:
    call = ToolCall(call_id="c1", name="find", arguments="{}")
    choice = whole(STARTED, *called(call), TurnCompleted("tool_calls"), **FUNCTIONS).choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call is not None
    assert choice.message.function_call.name == "find"
    assert choice.message.tool_calls is None


def test_a_completion_tells_a_refusal_from_text() -> None:
    parts = (TextPart("a"), RefusalPart("no"))
    events = [ItemStarted(0, "message", "m"), ItemDone(0, Message(role="assistant", parts=parts))]
    said_so = whole(STARTED, *events, TurnCompleted("content_filter")).choices[0]
    assert (said_so.message.content, said_so.message.refusal) == ("a", "no")
    assert said_so.finish_reason == "content_filter"


def test_citations_of_an_item_said_whole_are_kept_in_streams_and_whole_answers() -> None:
    citation: JsonObject = {
        "type": "url_citation",
        "url": "u",
        "title": "t",
        "start_index": 0,
        "end_index": 1,
    }
    part = TextPart("a", (citation, {"type": "file_citation"}))
    item = Message(role="assistant", parts=(part,))
    events = [STARTED, ItemStarted(0, "message", "m"), ItemDone(0, item), TurnCompleted("stop")]
    [cited] = whole(*events).choices[0].message.annotations or []
    assert cited.url_citation.model_dump() == {name: citation[name] for name in citation if name != "type"}
    [streamed] = [d["annotations"] for d in deltas(stream(make_turn(), events)) if "annotations" in d]
    assert streamed == [cited.model_dump()]


def test_an_empty_completion_is_empty_text() -> None:
    completion = build_completion(make_turn(), TurnResult(finish="stop"))
    assert completion["choices"][0]["message"]["content"] == ""
    assert completion["usage"] is None


@given(
    st.lists(st.sampled_from(["message", "reasoning", "call"]), max_size=4),
    st.sampled_from(["stop", "tool_calls", "length"]),
)
def test_a_stream_adds_up_to_the_completion(kinds: list[str], finish: Finish) -> None:
    events: list[TurnEvent] = [STARTED]
    for index, kind in enumerate(kinds):
        match kind:
            case "message":
                item = ItemStarted(index, "message", "m")
                events += [item, TextDelta(index, f"t{index}"), ItemDone(index, message(f"t{index}"))]
            case "reasoning":
                events += [
                    ItemStarted(index, "reasoning", "r"),
                    ReasoningDelta(index, f"r{index}"),
                    ItemDone(index, Reasoning(text=f"r{index}")),
                ]
            case _:
                events += called(
                    ToolCall(call_id=f"c{index}", name="f", arguments=f'{{"i":{index}}}'), first=index
                )
    events.append(TurnCompleted(finish, USAGE))

    read = deltas(stream(make_turn(), events))
    completion = whole(*events)
    message_out = completion.choices[0].message
    assert "".join(d.get("content") or "" for d in read) == (message_out.content or "")
    reasoning = (message_out.model_extra or {}).get("reasoning_content", "")
    assert "".join(d.get("reasoning_content") or "" for d in read) == reasoning
    arguments: dict[int, str] = {}
    for delta in read:
        for call in delta.get("tool_calls", []):
            text = arguments.get(call["index"], "") + call["function"].get("arguments", "")
            arguments[call["index"]] = text
    whole_calls = message_out.tool_calls or []
    assert list(arguments.values()) == [call.function.arguments for call in whole_calls]  # type: ignore[union-attr]
    last = stream(make_turn(), events)[-2]
    assert last.choices[0].finish_reason == completion.choices[0].finish_reason


@pytest.mark.parametrize(
    ("options", "wanted"),
    [(None, False), ({}, False), ({"include_usage": False}, False), ({"include_usage": True}, True)],
)
def test_usage_is_wanted_when_the_client_says_so(options: object, wanted: bool) -> None:
    assert wants_usage(make_turn(stream_options=options)) is wanted
