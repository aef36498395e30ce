"""Whole answers, and that a stream says the same: its chunks added up are the completion."""

from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.kernel.json import JsonObject
from gateway.protocols.chat.answer import Citations, build_completion, finish_reason, wants_usage
from gateway.turn.events import (
    AnnotationAdded,
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
    TurnCompleted,
    TurnEvent,
    UsageReported,
)
from gateway.turn.fold import TurnResult, fold
from gateway.turn.grammar import check
from gateway.turn.items import Message, OpaqueItem, Part, Reasoning, RefusalPart, TextPart, ToolCall
from gateway.turn.usage import Usage
from tests.support.chat import (
    FUNCTIONS,
    STARTED,
    USAGE,
    called,
    frames,
    make_turn,
    message,
    payloads,
    said,
    stream,
    whole,
)

# -- the end of a turn -------------------------------------------------------------------------------------


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
    shell: JsonObject = {"type": "custom", "custom": {"name": "sh"}}
    answer = whole(STARTED, *called(function, custom), TurnCompleted("stop"), tools=[shell])
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


def test_an_empty_completion_is_empty_text() -> None:
    completion = build_completion(make_turn(), TurnResult(finish="stop"))
    assert completion["choices"][0]["message"]["content"] == ""
    assert completion["usage"] is None


@pytest.mark.parametrize(
    ("options", "wanted"),
    [(None, False), ({}, False), ({"include_usage": False}, False), ({"include_usage": True}, True)],
)
def test_usage_is_wanted_when_the_client_says_so(options: object, wanted: bool) -> None:
    assert wants_usage(make_turn(stream_options=options)) is wanted


def test_a_completion_that_only_refuses_has_no_text() -> None:
    item = Message(role="assistant", parts=(RefusalPart("no"),))
    events = [ItemStarted(0, "message", "m"), ItemDone(0, item), TurnCompleted("stop")]
    said_so = whole(STARTED, *events).choices[0].message
    assert (said_so.content, said_so.refusal) == (None, "no")


def test_a_function_called_without_arguments_is_given_the_empty_object() -> None:
    call = ToolCall(call_id="c1", name="now", arguments="")
    (function,) = whole(STARTED, *called(call), TurnCompleted("stop")).choices[0].message.tool_calls or ()
    assert function.function.arguments == "{}"  # type: ignore[union-attr]


def test_what_chat_has_no_words_for_is_left_out_of_a_completion() -> None:
    item = OpaqueItem(dialect="responses", type="web_search_call", payload={})
    events = [ItemStarted(0, "opaque", "o"), ItemDone(0, item), TurnCompleted("stop")]
    assert whole(STARTED, *events).choices[0].message.content == ""


def test_calls_that_the_upstream_ran_itself_do_not_wait_for_the_client() -> None:
    call = ToolCall(call_id="c1", name="find", arguments="{}", result="ok")
    choice = whole(STARTED, *called(call), TurnCompleted("stop")).choices[0]
    assert choice.finish_reason == "stop"
    assert [ran.id for ran in choice.message.tool_calls or ()] == ["c1"]


# -- citations --------------------------------------------------------------------------------------------


def cited(start: object = 0, end: object = 1, **fields: Any) -> Any:
    return {
        "type": "url_citation",
        "url": "https://a",
        "title": "t",
        "start_index": start,
        "end_index": end,
    } | fields


def test_citations_move_with_the_text_before_theirs() -> None:
    """Every part counts its own places; in Chat all text is one content."""
    first = (TextPart("灵码 ", (cited(0, 2),)), RefusalPart("no"), TextPart("ab", (cited(1, 2),)))
    second = (TextPart("cd", (cited(0, 2),)),)
    events = [
        STARTED,
        ItemStarted(0, "message", "m"),
        ItemDone(0, Message(role="assistant", parts=first)),
        ItemStarted(1, "message", "m"),
        ItemDone(1, Message(role="assistant", parts=second)),
        TurnCompleted("stop"),
    ]
    answer = whole(*events).choices[0].message
    assert answer.content == "灵码 abcd"
    places = [(a.url_citation.start_index, a.url_citation.end_index) for a in answer.annotations or ()]
    assert [answer.content[start:end] for start, end in places] == ["灵码", "b", "cd"]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (cited(), (0, 1, "t", "https://a")),
        (cited(None, "x", title=None), (0, 0, "https://a", "https://a")),
    ],
)
def test_a_citation_is_made_whole(payload: Any, expected: tuple[object, ...]) -> None:
    citations = Citations()
    citations.add([TextPart("a", (payload,))])
    assert [tuple(a["url_citation"].values()) for a in citations.found] == [expected]
    assert not citations.lost


@pytest.mark.parametrize("payload", [{"type": "file_citation"}, {}, cited(url=None)])
def test_what_cites_no_address_is_lost(payload: Any) -> None:
    citations = Citations()
    citations.add([TextPart("a", (payload,))])
    assert citations.found == []
    assert citations.lost


# -- a stream and its whole answer ------------------------------------------------------------------------

texts = st.text('ab \n灵"', min_size=1, max_size=6)
pieces = st.integers(1, 3)
annotations = st.lists(st.sampled_from([cited(), cited(1, 2), {"type": "file_citation"}]), max_size=2)


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


@st.composite
def messages(draw: st.DrawFn, index: int) -> list[TurnEvent]:
    """Parts of text and refusal; each kind is said by deltas or by the end of the item."""
    parts: list[Part] = []
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            parts.append(TextPart(draw(texts), tuple(draw(annotations))))
        else:
            parts.append(RefusalPart(draw(texts)))
    spoken = draw(st.sets(st.sampled_from(["text", "refusal", "annotation"])))
    events: list[TurnEvent] = [ItemStarted(index, "message", f"i{index}")]
    for number, part in enumerate(parts):
        if isinstance(part, TextPart) and "text" in spoken:
            events += [TextDelta(index, piece, number) for piece in cut(part.text, draw(pieces))]
        if isinstance(part, TextPart) and "annotation" in spoken:
            events += [AnnotationAdded(index, number, payload) for payload in part.annotations]
        if isinstance(part, RefusalPart) and "refusal" in spoken:
            events += [RefusalDelta(index, piece, number) for piece in cut(part.text, draw(pieces))]
    return [*events, ItemDone(index, Message(role="assistant", parts=tuple(parts)))]


@st.composite
def thoughts(draw: st.DrawFn, index: int) -> list[TurnEvent]:
    """The full text, a summary in parts, or both with the full text first; by deltas or by the end."""
    full = draw(st.just("") | texts)
    summary = draw(st.lists(texts, max_size=3))
    events: list[TurnEvent] = [ItemStarted(index, "reasoning", f"i{index}")]
    if draw(st.booleans()):
        events += [ReasoningDelta(index, piece, 0, "full") for piece in cut(full, draw(pieces))]
        for number, part in enumerate(summary):
            events += [ReasoningDelta(index, piece, number, "summary") for piece in cut(part, draw(pieces))]
    if draw(st.booleans()):
        events.append(SignatureDelta(index, "sig"))
    return [*events, ItemDone(index, Reasoning(text=full, summary=tuple(summary)))]


@st.composite
def calls(draw: st.DrawFn, index: int) -> list[TurnEvent]:
    """Of a function or a custom tool, named early or late, with arguments by deltas, by the end or none."""
    name = draw(st.sampled_from(["find", "sum", "sh"]))
    kind: Any = "custom" if name == "sh" else "function"
    arguments = draw(st.sampled_from(["", "{}", '{"q": "灵码"}', "ls -l"]))
    call = ToolCall(
        call_id=f"c{index}",
        name=name,
        arguments=arguments,
        kind=kind,
        result=draw(st.none() | st.just("done")),
    )
    early = draw(st.booleans())
    events: list[TurnEvent] = [
        ItemStarted(index, "tool_call", f"i{index}", name if early else None, call.call_id)
    ]
    if draw(st.booleans()):
        events += [ToolInputDelta(index, piece) for piece in cut(arguments, draw(pieces))]
    return [*events, ItemDone(index, call)]


def opaques(index: int) -> st.SearchStrategy[list[TurnEvent]]:
    item = OpaqueItem(dialect="responses", type="web_search_call", payload={})
    return st.just([ItemStarted(index, "opaque", f"i{index}"), ItemDone(index, item)])


@st.composite
def scripts(draw: st.DrawFn) -> list[TurnEvent]:
    """Any legal stream that ends well."""
    between = st.lists(
        st.sampled_from(
            [Heartbeat(), OpaqueEvent("responses", "response.new", {}), UsageReported(Usage(input_tokens=9))]
        ),
        max_size=1,
    )
    events: list[TurnEvent] = [STARTED]
    for index in range(draw(st.integers(0, 5))):
        item = draw(st.sampled_from([messages, thoughts, calls, opaques]))
        events += [*draw(between), *draw(item(index))]
    usage = draw(st.sampled_from([None, USAGE, Usage(output_tokens=1, reasoning_tokens=1, estimated=True)]))
    return [*events, TurnCompleted(draw(st.sampled_from(get_args(Finish))), usage)]


SHELL: JsonObject = {"type": "custom", "custom": {"name": "sh"}}
clients = st.sampled_from([{}, {"tools": [SHELL]}, FUNCTIONS, {"service_tier": "auto"}])


def added_up(read: Sequence[Any]) -> dict[str, Any]:
    """What a client without any SDK makes of the chunks: texts joined, calls by their index."""
    *chunks, done = read
    assert done == "[DONE]"
    says: dict[str, Any] = {}
    finish, usage = None, None
    for chunk in chunks:
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            join(says, choice["delta"])
    keys = ("id", "created", "model", "system_fingerprint", "service_tier")
    common = {key: chunks[0][key] for key in keys if key in chunks[0]}
    return {**common, "message": says, "finish_reason": finish, "usage": usage}


def join(into: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        if key == "tool_calls":
            for call in value:
                of_index = into.setdefault(key, {}).setdefault(call["index"], {})
                join(of_index, {k: v for k, v in call.items() if k != "index"})
        elif isinstance(value, dict):
            join(into.setdefault(key, {}), value)
        elif isinstance(value, str) and isinstance(into.get(key), str):
            into[key] += value
        else:
            assert into.get(key) is None, f"{key} came twice"
            into[key] = value


def comparable(completion: Any, *, with_usage: bool) -> dict[str, Any]:
    """A completion as the chunks add up to it: an empty text and none are the same to them."""
    (choice,) = completion["choices"]
    message_out = {key: value for key, value in choice["message"].items() if value}
    if "tool_calls" in message_out:
        message_out["tool_calls"] = dict(enumerate(message_out["tool_calls"]))
    keys = ("id", "created", "model", "system_fingerprint", "service_tier")
    return {
        **{key: completion[key] for key in keys if key in completion},
        "message": message_out,
        "finish_reason": choice["finish_reason"],
        "usage": completion["usage"] if with_usage else None,
    }


@settings(max_examples=400)
@given(scripts(), clients, st.booleans())
def test_a_stream_adds_up_to_the_completion(
    events: list[TurnEvent], client: dict[str, Any], with_usage: bool
) -> None:
    check(events)
    turn = make_turn(**client)
    read = payloads(turn, events, include_usage=with_usage)
    completion = build_completion(turn, fold(frames(events)))
    ChatCompletion.model_validate(completion)
    total = added_up(read)
    total["message"] = {key: value for key, value in total["message"].items() if value}
    assert total == comparable(completion, with_usage=with_usage)


@settings(max_examples=200)
@given(scripts(), st.sampled_from([{}, FUNCTIONS]))
def test_the_sdk_adds_a_stream_up_to_the_completion(events: list[TurnEvent], client: dict[str, Any]) -> None:
    """With the official accumulator; without custom tools, which its chunks have no type for."""
    turn = make_turn(**client)
    state: Any = ChatCompletionStreamState()
    for chunk in stream(turn, events, include_usage=True)[:-1]:
        assert isinstance(chunk, ChatCompletionChunk)
        state.handle_chunk(chunk)
    summed = state.current_completion_snapshot.to_dict()
    completion = build_completion(turn, fold(frames(events)))
    (choice,) = summed["choices"]
    added = {key: value for key, value in choice["message"].items() if value}
    for call in added.get("tool_calls", ()):
        call.pop("index")
        call["function"].pop("parsed_arguments", None)
    added.pop("parsed", None)
    expected: dict[str, Any] = comparable(completion, with_usage=True)
    expected["message"]["tool_calls"] = list(expected["message"].get("tool_calls", {}).values())
    assert added | {"tool_calls": added.get("tool_calls", [])} == expected["message"]
    assert choice["finish_reason"] == expected["finish_reason"]
    assert summed.get("usage") == expected["usage"]
