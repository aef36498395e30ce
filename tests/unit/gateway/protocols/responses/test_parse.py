import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import dumps
from gateway.protocols.responses.encode import ResponsesEncoder
from gateway.protocols.responses.parse import client_of, parse_responses
from gateway.sessions.key import lookup_key
from gateway.sessions.policy import affinity
from gateway.turn.estimate import input_tokens
from gateway.turn.events import TurnCompleted
from gateway.turn.items import Message, TextPart
from gateway.turn.request import ReasoningRequest, Sampling
from gateway.turn.tools import AUTO, ToolChoice
from tests.support.responses import STARTED, context, frames, parsed, said
from tests.support.responses_schema import read_stream

FUNCTION = {"type": "function", "name": "f"}
CODEX = {"user-agent": "codex_cli_rs/0.130.0"}


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parsed(**fields)
    return caught.value


# -- the whole --------------------------------------------------------------------------------------------


def test_a_small_request() -> None:
    turn = parsed("hi")
    assert turn.model == "asked"
    assert turn.items == (Message(role="user", parts=(TextPart("hi"),)),)
    assert (turn.stream, turn.tools, turn.tool_choice, turn.tools_mentioned) == (False, (), AUTO, False)
    assert (turn.sampling, turn.reasoning, turn.output_format) == (Sampling(), None, None)
    assert turn.losses == ()
    assert turn.raw.dialect == "responses"
    assert turn.raw.body == {"model": "asked", "input": "hi"}


def test_settings_of_the_turn() -> None:
    turn = parsed(
        stream=True,
        temperature=0.5,
        top_p=1,
        max_output_tokens=7,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        parallel_tool_calls=False,
        reasoning={"effort": "high", "summary": "auto", "context": "all_turns"},
        tools=[FUNCTION],
        tool_choice={"type": "function", "name": "f"},
        stream_options={"include_obfuscation": False},
        client_metadata={"x": "y"},
        of_tomorrow=1,
    )
    assert turn.stream is True
    assert turn.sampling == Sampling(
        temperature=0.5, top_p=1.0, max_output_tokens=7, presence_penalty=0.1, frequency_penalty=0.2
    )
    assert turn.parallel_tool_calls is False
    assert turn.reasoning == ReasoningRequest(effort="high", summary="auto")
    assert turn.tool_choice == ToolChoice("named", ("f",))
    assert [tool.name for tool in turn.tools] == ["f"]
    assert turn.losses == ()


def test_instructions_are_the_first_system_message() -> None:
    turn = parsed([{"role": "developer", "content": "d"}, "hi"], instructions="i")
    assert [(item.role, item.parts[0]) for item in turn.items if isinstance(item, Message)] == [
        ("system", TextPart("i")),
        ("developer", TextPart("d")),
        ("user", TextPart("hi")),
    ]
    assert len(parsed(instructions="").items) == 1


def test_tools_of_items_join_those_of_the_request() -> None:
    more = {"type": "additional_tools", "tools": [{"type": "function", "name": "g"}, FUNCTION]}
    turn = parsed([more, "hi"], tools=[FUNCTION, {"type": "web_search"}])
    assert [tool.name for tool in turn.tools] == ["f", "web_search", "g"]


@pytest.mark.parametrize(
    ("fields", "mentioned"),
    [
        ({}, False),
        ({"tools": []}, False),
        ({"tools": [FUNCTION]}, True),
        ({"tool_choice": "auto"}, True),
        ({"given": [{"type": "additional_tools", "tools": [FUNCTION]}, "hi"]}, True),
        ({"given": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, True),
        ({"given": [{"type": "function_call", "call_id": "c", "name": "f"}]}, True),
    ],
)
def test_any_mention_of_tools_is_noticed(fields: dict[str, Any], mentioned: bool) -> None:
    assert parsed(**fields).tools_mentioned is mentioned


def test_a_wish_to_compact_is_noted_with_its_place() -> None:
    asked = parsed(["hi", {"type": "compaction_trigger"}])
    assert (asked.compacts_at, asked.operation, len(asked.items)) == ("input.1", "respond", 1)
    assert parsed("hi").compacts_at is None


# -- what cannot be kept ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_not_found"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"conversation": {"id": "conv_1"}}, "conversation", "unsupported_parameter"),
        ({"background": True}, "background", "unsupported_parameter"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
        ({"given": None}, "input", "missing_required_parameter"),
        ({"given": []}, "input", None),
        ({"given": {"type": "compaction_trigger"}}, "input", None),
        ({"model": " "}, "model", None),
        ({"model": 5}, "model", "invalid_type"),
        ({"temperature": "hot"}, "temperature", "invalid_type"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        ({"tools": [{"type": "custom"}]}, "tools.0.name", None),
        ({"tool_choice": "never"}, "tool_choice", "invalid_value"),
        ({"given": [{"role": "user", "content": [{"type": "text"}]}]}, "input.0.content.0.text", None),
    ],
)
def test_what_would_change_the_meaning_is_refused_by_name(
    fields: dict[str, Any], param: str, code: str | None
) -> None:
    error = refusal(**fields)
    assert error.param == param
    assert code in (None, error.code)
    assert param in error.message or param == "input"


def test_fields_that_say_nothing_are_no_mistake() -> None:
    turn = parsed(
        previous_response_id=None, conversation=None, background=False, prompt=None, tools=None, include=None
    )
    assert turn.losses == ()


def test_a_missing_model_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_responses(dumps({"input": "hi"}), context())
    assert caught.value.param == "model"


# -- who asks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ({"user-agent": "codex_exec/0.169.0 (Linux)"}, "codex_exec"),
        ({"user-agent": "Mozilla/5.0", "originator": "codex_vscode"}, "codex_vscode"),
        ({"user-agent": "proxy/1", "originator": "Codex Desktop"}, "codex desktop"),
        ({"user-agent": "proxy/1", "x-codex-window-id": "t:0"}, "codex"),
        ({"user-agent": "OpenAI/Python 2.1", "originator": "pi"}, "openai"),
        ({}, ""),
    ],
)
def test_codex_is_known_by_any_of_its_names(headers: dict[str, str], client: str) -> None:
    where = context(**{name.replace("-", "_"): value for name, value in headers.items()})
    assert client_of(where) == client
    assert parsed(headers=headers).client == client


@pytest.mark.parametrize(
    "headers",
    [
        {"session_id": "uuid_1"},
        {"session-id": "uuid_1"},
        {"session_id": "uuid_1", "session-id": "uuid_1"},
        {"thread-id": "uuid_1"},
        {"thread_id": "uuid_1"},
        {"x-client-request-id": "uuid_1"},
        {"x-codex-turn-metadata": '{"thread_id":"uuid_1","turn_id":"t"}'},
        {"x-codex-turn-metadata": '{"session_id":"uuid_1"}'},
        {},
    ],
)
def test_cv_65_codex_keeps_its_affinity_whatever_a_proxy_drops(headers: dict[str, str]) -> None:
    """CV-65. Given both `session_id` and `session-id`, either, or neither because a proxy dropped them: the
    same affinity, from what carries the thread's id still.
    """
    turn = parsed(headers={**CODEX, **headers}, **({} if headers else {"prompt_cache_key": "uuid_1"}))
    whole = parsed(headers={**CODEX, "session-id": "uuid_1"}, prompt_cache_key="uuid_1")
    assert turn.user == "uuid_1"
    assert affinity(turn) == affinity(whole)


@pytest.mark.parametrize("metadata", ["", "no json", "[]", '{"thread_id":5}', "{}"])
def test_metadata_that_says_nothing_is_nobody(metadata: str) -> None:
    assert parsed(headers={**CODEX, "x-codex-turn-metadata": metadata}).user is None


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({}, None),
        ({"user": "u"}, "u"),
        ({"prompt_cache_key": "p"}, "p"),
        ({"safety_identifier": "s"}, "s"),
        ({"user": "u", "prompt_cache_key": "p", "safety_identifier": "s"}, "u"),
    ],
)
def test_others_are_known_by_what_their_body_says(fields: dict[str, Any], user: str | None) -> None:
    assert parsed(**fields, headers={"session-id": "x", "x-client-request-id": "y"}).user == user


def test_a_codex_turn_with_a_user_belongs_to_the_user() -> None:
    assert parsed(user="u", headers={**CODEX, "session-id": "x"}).user == "u"


# -- real requests ----------------------------------------------------------------------------------------


def test_cv_4_codex_second_request_of_a_tool_turn() -> None:
    """CV-4. Given the second request of Codex 0.169 after a tool call: it holds call and output in order with
    the same call id.
    """
    turn = parsed(
        [
            {
                "type": "message",
                "id": "msg_1",
                "role": "developer",
                "content": [{"type": "input_text", "text": "d"}],
            },
            {
                "type": "message",
                "id": "msg_4",
                "role": "user",
                "content": [{"type": "input_text", "text": "run"}],
            },
            {
                "type": "message",
                "status": "completed",
                "id": "msg_5",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me check."}],
                "phase": "commentary",
            },
            {
                "type": "function_call",
                "status": "completed",
                "id": "fc_1",
                "name": "exec_command",
                "arguments": '{"cmd": "ls"}',
                "call_id": "call_1",
            },
            {"type": "function_call_output", "id": "fco_1", "call_id": "call_1", "output": "a.py"},
        ],
        tools=[
            {"type": "function", "name": "exec_command", "strict": False, "parameters": {"type": "object"}}
        ],
        tool_choice="auto",
        parallel_tool_calls=True,
        reasoning={"summary": "auto"},
        store=False,
        stream=True,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="uuid_1",
        client_metadata={"session_id": "uuid_1"},
        headers=CODEX,
    )
    assert [type(item).__name__ for item in turn.items] == [
        "Message",
        "Message",
        "Message",
        "ToolCall",
        "ToolResult",
    ]
    assert [getattr(item, "call_id", None) for item in turn.items[-2:]] == ["call_1", "call_1"]
    assert turn.losses == ()


def test_cv_9_codex_lite_offers_its_tools_under_one_name_each() -> None:
    """CV-9. Given no `tools` and no `instructions` but an `additional_tools` item with a namespace: an
    upstream that has only functions is offered one tool for each nested one.
    """
    tools = [
        {
            "type": "namespace",
            "name": "functions",
            "tools": [{"type": "custom", "name": "exec"}, {"type": "function", "name": "wait"}],
        }
    ]
    turn = parsed(
        [{"type": "additional_tools", "role": "developer", "tools": tools}, "hi"],
        reasoning={"effort": "low", "context": "all_turns"},
        headers={**CODEX, "x-openai-internal-codex-responses-lite": "true"},
    )
    assert [(tool.name, tool.kind) for tool in turn.tools] == [
        ("functions__exec", "custom"),
        ("functions__wait", "function"),
    ]
    assert turn.tools_mentioned


def test_cv_11_foreign_reasoning_is_no_mistake() -> None:
    """CV-11. Given encrypted reasoning that somebody else sealed: the request works, and nothing is said."""
    turn = parsed([{"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}, "hi"])
    assert turn.losses == ()
    assert len(turn.items) == 2


# -- any request ------------------------------------------------------------------------------------------

EVERYTHING: dict[str, Any] = {
    "model": "m",
    "instructions": "i",
    "input": [
        {"role": "user", "content": "a"},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "t", "annotations": []},
                {"type": "input_image", "image_url": "u"},
                {"type": "input_file", "file_data": "data:x/y;base64,AA", "filename": "f"},
            ],
        },
        {"type": "function_call", "call_id": "c1", "namespace": "n", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "custom_tool_call", "call_id": "c2", "name": "sh", "input": "ls"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": {"a": 1}},
        {"type": "local_shell_call", "call_id": "c3", "action": {"command": ["ls"]}},
        {"type": "code_interpreter_call", "id": "ci", "code": "1", "outputs": [{"logs": "1"}]},
        {"type": "mcp_call", "id": "mcp", "server_label": "s", "name": "f", "arguments": "{}", "output": "o"},
        {"type": "tool_search_output", "call_id": "c4", "tools": [{"type": "function", "name": "g"}]},
        {
            "type": "reasoning",
            "summary": [{"text": "s"}],
            "content": [{"text": "t"}],
            "encrypted_content": "e",
        },
        {"type": "additional_tools", "tools": [{"type": "namespace", "name": "n", "tools": [FUNCTION]}]},
        {"type": "compaction", "encrypted_content": "e"},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "of-tomorrow", "content": [{"text": "x"}]},
        "last",
    ],
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True},
        {"type": "function", "function": {"name": "h", "description": "d"}},
        {"type": "custom", "name": "sh", "format": {"type": "text"}},
        {"type": "web_search"},
    ],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "metadata": {"a": "b"},
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 5,
    "temperature": 0.5,
    "truncation": "auto",
    "user": "u",
    "service_tier": "flex",
}
VALUES = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2.5,
        1e30,
        "",
        "x",
        "\ud7ff",
        [],
        [None],
        ["x"],
        [[]],
        {},
        {"type": "x"},
        {"text": "x"},
    ]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) in a body."""
    found = []
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((value, key))
        if isinstance(child, dict | list):
            found += places(child)
    return found


@given(st.data())
def test_any_body_is_answered_or_refused_by_name(data: st.DataObject) -> None:
    body = copy.deepcopy(EVERYTHING)
    for _ in range(data.draw(st.integers(0, 3))):
        holder, at = data.draw(st.sampled_from(places(body)))
        holder[at] = copy.deepcopy(data.draw(VALUES))
    try:
        turn = parse_responses(dumps(body), context(user_agent="x/1"))
    except InvalidRequest as problem:
        assert problem.param
        assert f"'{problem.param}" in problem.message or problem.code in (
            "item_not_found",
            "unsupported_value",
        )
    else:
        assert input_tokens(turn) > 0
        lookup_key(turn)
        found = read_stream(
            ResponsesEncoder(turn).encode(frames([STARTED, *said("A"), TurnCompleted("stop")]))
        )
        assert found.response["output"][0]["content"][0]["text"] == "A"


def test_everything_at_once_loses_what_nobody_can_keep() -> None:
    turn = parse_responses(dumps(EVERYTHING), context())
    assert [str(loss) for loss in turn.losses] == [
        "input.12:foreign-compaction",
        "input.14:unknown-item",
        "truncation:unsupported",
        "service_tier:unsupported",
        "text.verbosity:unsupported",
    ]
    assert [tool.name for tool in turn.tools] == ["f", "h", "sh", "web_search", "g", "n__f"]
