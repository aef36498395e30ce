from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps
from gateway.protocols.bodies import TurnContext
from gateway.protocols.messages.parse import parse_messages
from gateway.turn.request import Turn
from gateway.turn.tools import AUTO, NONE, ToolChoice, ToolSpec

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
FIND = {"name": "find", "description": "finds", "input_schema": SCHEMA}


def turn_of(**fields: Any) -> Turn:
    messages = fields.pop("messages", [{"role": "user", "content": "a"}])
    body = {"model": "m", "max_tokens": 5, "messages": messages, **fields}
    return parse_messages(dumps(body), TurnContext(id=TurnId("t"), tenant="t", created_at_ms=1))


def problem_of(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        turn_of(**fields)
    return caught.value


# -- tools ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, {"type": "custom"}, {"type": None}])
def test_a_clients_tool_is_a_function(kind: dict[str, Any]) -> None:
    definition = {**FIND, **kind, "strict": True, "cache_control": {"type": "ephemeral"}}
    assert turn_of(tools=[definition]).tools == (
        ToolSpec(name="find", description="finds", parameters=SCHEMA, strict=True, raw=definition),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "definition",
    [
        {"type": "function", "function": {"name": "find", "description": "finds", "parameters": SCHEMA}},
        {"type": "function", "name": "find", "description": "finds", "parameters": SCHEMA},
    ],
)
def test_functions_in_openais_form_are_read_too(definition: dict[str, Any]) -> None:
    (tool,) = turn_of(tools=[definition]).tools
    assert (tool.name, tool.description, tool.parameters, tool.kind) == ("find", "finds", SCHEMA, "function")


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        ({"type": "web_search_20250305", "name": "web_search", "max_uses": 3}, "web_search"),
        ({"type": "bash_20250124", "name": "bash"}, "bash"),
        (
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            "str_replace_based_edit_tool",
        ),
        ({"type": "computer_20250124", "name": "computer", "display_width_px": 1}, "computer"),
        ({"type": "code_execution_20250825", "name": "code_execution"}, "code_execution"),
        ({"type": "mcp_toolset", "mcp_server_name": "s"}, "mcp_toolset"),
    ],
)
def test_anthropics_own_tools_are_hosted(definition: dict[str, Any], name: str) -> None:
    assert turn_of(tools=[definition]).tools == (ToolSpec(name=name, kind="hosted", raw=definition),)


@pytest.mark.parametrize(
    ("definition", "param"),
    [
        ({"input_schema": SCHEMA}, "tools.1.name"),
        ({"name": "", "input_schema": SCHEMA}, "tools.1.name"),
        ({"type": "function", "function": {"name": ""}}, "tools.1.function.name"),
    ],
)
def test_a_tool_without_a_name_is_refused(definition: dict[str, Any], param: str) -> None:
    assert problem_of(tools=[FIND, definition]).param == param


# -- choice -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, AUTO),
        ("auto", AUTO),
        ("none", NONE),
        ("any", ToolChoice("required")),
        ("required", ToolChoice("required")),
        ("find", ToolChoice("named", ("find",))),
        ({"type": "auto"}, AUTO),
        ({"type": "none"}, NONE),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "required"}, ToolChoice("required")),
        ({"type": "tool", "name": "find"}, ToolChoice("named", ("find",))),
        ({"type": "function", "name": "find"}, ToolChoice("named", ("find",))),
        ({"type": "function", "function": {"name": "find"}}, ToolChoice("named", ("find",))),
    ],
)
def test_choices_are_read_in_every_form(choice: Any, expected: ToolChoice) -> None:
    assert turn_of(tools=[FIND], tool_choice=choice).tool_choice == expected


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("sometimes", "tool_choice"),
        ({"type": "sometimes"}, "tool_choice.type"),
        ({"type": "tool"}, "tool_choice.name"),
        ({"type": "function", "function": {"name": ""}}, "tool_choice.function.name"),
    ],
)
def test_choices_that_mean_nothing_are_refused(choice: Any, param: str) -> None:
    assert problem_of(tools=[FIND], tool_choice=choice).param == param


@pytest.mark.parametrize(
    ("choice", "parallel"),
    [
        (None, None),
        ("auto", None),
        ({"type": "auto"}, None),
        ({"type": "auto", "disable_parallel_tool_use": True}, False),
        ({"type": "any", "disable_parallel_tool_use": False}, True),
    ],
)
def test_parallel_calls_are_allowed_or_not(choice: Any, parallel: bool | None) -> None:
    assert turn_of(tools=[FIND], tool_choice=choice).parallel_tool_calls is parallel


# -- mention ----------------------------------------------------------------------------------------------


def with_blocks(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": list(blocks)}]


@pytest.mark.parametrize(
    ("fields", "mentioned"),
    [
        ({}, False),
        ({"tools": []}, False),
        ({"tools": [FIND]}, True),
        ({"tool_choice": {"type": "auto"}}, True),
        ({"messages": with_blocks({"type": "text", "text": "a"})}, False),
        ({"messages": with_blocks({"type": "tool_use", "id": "c", "name": "n", "input": {}})}, True),
        ({"messages": with_blocks({"type": "tool_result", "tool_use_id": "c"})}, True),
    ],
)
def test_tools_are_mentioned_in_many_ways(fields: dict[str, Any], mentioned: bool) -> None:
    assert turn_of(**fields).tools_mentioned is mentioned
