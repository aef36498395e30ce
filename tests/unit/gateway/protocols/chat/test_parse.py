from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps
from gateway.protocols.bodies import TurnContext
from gateway.protocols.chat.parse import parse_chat
from gateway.turn.items import (
    Item,
    MediaPart,
    Message,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, ReasoningRequest, Sampling, Turn
from gateway.turn.tools import AUTO, ToolChoice

CONTEXT = TurnContext(
    id=TurnId("01turn"),
    tenant="tenant",
    created_at_ms=1_790_000_000_123,
    key_id="0badcafe",
    key_max_in_flight=3,
    request_id="req-1",
    resumable=True,
)
USER = {"role": "user", "content": "hello"}


def parse(**fields: Any) -> Turn:
    return parse_chat(dumps({"model": "m", "messages": [USER], **fields}), CONTEXT)


def items(*messages: dict[str, Any]) -> tuple[Item, ...]:
    return parse(messages=list(messages)).items


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    return caught.value


def test_what_the_edge_knows_is_handed_through() -> None:
    turn = parse()
    assert (turn.id, turn.tenant, turn.created_at_ms) == ("01turn", "tenant", 1_790_000_000_123)
    assert (turn.key_id, turn.key_max_in_flight, turn.request_id) == ("0badcafe", 3, "req-1")
    assert turn.resumable


def test_a_minimal_request_leaves_everything_else_open() -> None:
    turn = parse()
    assert turn.items == (Message(role="user", parts=(TextPart("hello"),)),)
    assert (turn.model, turn.stream, turn.tools, turn.tool_choice) == ("m", False, (), AUTO)
    assert turn.sampling == Sampling()
    assert (turn.reasoning, turn.output_format, turn.user, turn.losses) == (None, None, None, ())
    assert not turn.tools_mentioned


def test_the_body_is_kept_as_it_came() -> None:
    body = {"model": "m", "messages": [{**USER, "x": 1}], "brand_new": {"a": [1]}}
    turn = parse_chat(dumps(body), CONTEXT)
    assert turn.raw.dialect == "chat"
    assert turn.raw.body == body


# -- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["", "  ", 5, None, ["m"], {}])
def test_a_model_that_is_no_name_is_refused(model: object) -> None:
    assert refusal(model=model).param == "model"


def test_a_missing_model_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(dumps({"messages": [USER]}), CONTEXT)
    assert (caught.value.param, caught.value.code) == ("model", "missing_required_parameter")


@pytest.mark.parametrize("messages", [[], None, "hi", {}, 5])
def test_messages_that_are_no_conversation_are_refused(messages: object) -> None:
    assert refusal(messages=messages).param == "messages"


def test_missing_messages_are_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(b'{"model": "m"}', CONTEXT)
    assert (caught.value.param, caught.value.code) == ("messages", "missing_required_parameter")


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("hi", "messages.1"),
        ({}, "messages.1.role"),
        ({"role": "robot", "content": "a"}, "messages.1.role"),
        ({"role": "user", "content": 5}, "messages.1.content"),
        ({"role": "user", "content": {"type": "text", "text": "a"}}, "messages.1.content"),
        ({"role": "user", "content": ["a"]}, "messages.1.content.0"),
        ({"role": "user", "content": [{"text": "a"}]}, "messages.1.content.0.type"),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "messages.1.content.0.text"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.1.content.0.text"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]},
            "messages.1.content.0.image_url.url",
        ),
        ({"role": "user", "content": "a", "name": 5}, "messages.1.name"),
        ({"role": "tool", "content": "a"}, "messages.1.tool_call_id"),
        ({"role": "function", "content": "a"}, "messages.1.name"),
        ({"role": "assistant", "tool_calls": {}}, "messages.1.tool_calls"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
            "messages.1.tool_calls.0.id",
        ),
        ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "messages.1.tool_calls.0.function"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]},
            "messages.1.tool_calls.0.function.arguments",
        ),
    ],
)
def test_a_wrong_message_is_refused_by_its_path(message: object, param: str) -> None:
    assert refusal(messages=[USER, message]).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": "1"}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": []}, "top_p"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop.1"),
        ({"seed": "x"}, "seed"),
        ({"tools": {}}, "tools"),
        ({"tools": ["find"]}, "tools.0"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools.0.function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools.0.function.parameters",
        ),
        ({"tool_choice": 5}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
        ({"functions": [{}]}, "functions.0.name"),
        ({"function_call": {}}, "function_call.name"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": []}}},
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": 5}, "reasoning_effort"),
        ({"stream_options": []}, "stream_options"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"user": 5}, "user"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_a_wrong_field_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    assert refusal(**fields).param == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"model": "m", "messages": [}'])
def test_a_broken_body_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_chat(body, CONTEXT)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["role", "content", "type", "text", "tool_calls", "id", "function", "name", "image_url"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=8,
    ),
    st.sampled_from(
        ["messages", "tools", "tool_choice", "stop", "response_format", "stream_options", "audio"]
    ),
)
def test_whatever_stands_in_a_field_it_is_read_or_refused(value: object, field: str) -> None:
    body = dumps({"model": "m", "messages": [USER], field: value})
    try:
        parse_chat(body, CONTEXT)
    except InvalidRequest as error:
        assert error.param is None or error.param.startswith(field)


# -- the conversation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["system", "developer", "user", "assistant"])
def test_roles_that_speak_become_messages(role: Any) -> None:
    assert items({"role": role, "content": "a", "name": "n"}) == (
        Message(role=role, parts=(TextPart("a"),), name="n"),
    )


@pytest.mark.parametrize("message", [{"role": "user"}, {"role": "user", "content": None}])
def test_a_message_may_say_nothing(message: dict[str, Any]) -> None:
    assert items(message) == (Message(role="user", parts=()),)


def test_an_assistant_with_calls_becomes_a_message_and_the_calls() -> None:
    assert items(
        {
            "role": "assistant",
            "content": "let me see",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}},
                {"id": "c2", "type": "custom", "custom": {"name": "sh", "input": "ls"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "found"}]},
        {"role": "tool", "tool_call_id": "c2", "content": "a.c", "name": "sh"},
    ) == (
        Message(role="assistant", parts=(TextPart("let me see"),)),
        ToolCall(call_id="c1", name="find", arguments='{"q":1}'),
        ToolCall(call_id="c2", name="sh", arguments="ls", kind="custom"),
        ToolResult(call_id="c1", parts=(TextPart("found"),)),
        ToolResult(call_id="c2", parts=(TextPart("a.c"),), name="sh"),
    )


@pytest.mark.parametrize("content", [None, "", []])
def test_an_assistant_that_only_calls_has_no_empty_message(content: object) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": ""}}
    assert items({"role": "assistant", "content": content, "tool_calls": [call]}) == (
        ToolCall(call_id="c1", name="find", arguments=""),
    )


def test_an_assistants_reasoning_refusal_and_audio_are_kept() -> None:
    assert items(
        {
            "role": "assistant",
            "content": "a",
            "reasoning_content": "hmm",
            "reasoning": "not again",
            "refusal": "no",
            "audio": {"id": "audio_1"},
        }
    ) == (
        Reasoning(text="hmm"),
        Message(
            role="assistant",
            parts=(TextPart("a"), RefusalPart("no"), MediaPart(kind="audio", file_id="audio_1")),
        ),
    )


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ({"reasoning": "hmm"}, "hmm"),
        ({"reasoning_content": "", "reasoning": "hmm"}, "hmm"),
        ({"reasoning_content": None, "reasoning": {"text": "hmm"}}, None),
        ({"reasoning": ["hmm"], "reasoning_content": "mm"}, "mm"),
        ({"reasoning": None}, None),
    ],
)
def test_reasoning_is_taken_back_under_either_name(said: dict[str, Any], read: str | None) -> None:
    *before, spoken = items({"role": "assistant", "content": "a", **said})
    assert before == ([] if read is None else [Reasoning(text=read)])
    assert isinstance(spoken, Message)


def test_results_that_answer_no_call_are_kept() -> None:
    assert items(USER, {"role": "tool", "tool_call_id": "gone", "content": None}) == (
        Message(role="user", parts=(TextPart("hello"),)),
        ToolResult(call_id="gone", parts=()),
    )


def test_an_unknown_role_is_named_with_those_that_are_known() -> None:
    error = refusal(messages=[USER, {"role": "robot", "content": "a"}])
    assert (error.param, error.code) == ("messages.1.role", "invalid_value")
    assert "'robot'" in error.message
    assert "'developer'" in error.message


def test_function_calls_and_their_results_find_each_other() -> None:
    turn = items(
        USER,
        {"role": "assistant", "content": None, "function_call": {"name": "find", "arguments": "{}"}},
        {"role": "function", "name": "find", "content": "1"},
        {"role": "assistant", "function_call": {"name": "find", "arguments": "{}"}},
        {"role": "function", "name": "find", "content": "2"},
        {"role": "function", "name": "stray", "content": "3"},
    )
    calls = [item.call_id for item in turn if isinstance(item, ToolCall)]
    results = [item.call_id for item in turn if isinstance(item, ToolResult)]
    assert calls == ["call_fn_1", "call_fn_3"]
    assert results == ["call_fn_1", "call_fn_3", "call_fn_5"]


# -- the settings -----------------------------------------------------------------------------------------


def test_settings_are_read_refused_and_told() -> None:
    turn = parse(max_tokens=5, response_format={"type": "json_object"}, store=True, verbosity="low")
    assert turn.sampling == Sampling(max_output_tokens=5)
    assert turn.output_format == OutputFormat(kind="json_object")
    assert turn.losses == (Loss("store", "unsupported"), Loss("verbosity", "unsupported"))
    assert refusal(logprobs=True).param == "logprobs"


def test_losses_of_the_conversation_are_told_too() -> None:
    messages = [{"role": "user", "content": [{"type": "smell"}, {"type": "text", "text": "a"}]}]
    assert parse(messages=messages).losses == (Loss("messages.0.content.0", "unknown-part"),)


def test_reasoning_tools_and_the_rest_are_read() -> None:
    turn = parse(
        stream=True,
        reasoning_effort="high",
        tools=[{"type": "function", "function": {"name": "find"}}],
        tool_choice={"type": "function", "function": {"name": "find"}},
        parallel_tool_calls=False,
    )
    assert turn.stream
    assert turn.reasoning == ReasoningRequest(effort="high")
    assert [tool.name for tool in turn.tools] == ["find"]
    assert turn.tool_choice == ToolChoice("named", ("find",))
    assert turn.parallel_tool_calls is False
    assert turn.tools_mentioned


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({"user": "u", "prompt_cache_key": "p", "safety_identifier": "s"}, "u"),
        ({"user": "", "prompt_cache_key": "p", "safety_identifier": "s"}, "p"),
        ({"safety_identifier": "s"}, "s"),
        ({"user": None}, None),
    ],
)
def test_the_user_is_the_first_hint_given(fields: dict[str, Any], user: str | None) -> None:
    assert parse(**fields).user == user
