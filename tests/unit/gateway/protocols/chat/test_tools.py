from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.chat.tools import mentions_tools, read_tool_choice, read_tools
from gateway.turn.tools import AUTO, NONE, ToolChoice, ToolSpec
from gateway.wire.chat import ChatRequest

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
FIND = {"type": "function", "function": {"name": "find"}}


def request(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "a"}], **fields}
    )


def tools(**fields: Any) -> tuple[ToolSpec, ...]:
    return read_tools(request(**fields), fields)


def test_a_function_tool_is_read_with_its_definition_beside_it() -> None:
    definition = {
        "type": "function",
        "function": {
            "name": "find",
            "description": "d",
            "parameters": SCHEMA,
            "strict": True,
            "x-own": [1],
        },
    }
    (spec,) = tools(tools=[definition])
    assert spec == ToolSpec(name="find", description="d", parameters=SCHEMA, strict=True, raw=definition)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"type": "function", "name": "find", "parameters": SCHEMA}, ("find", "function", SCHEMA)),
        ({"function": {"name": "find"}}, ("find", "function", None)),
        ({"type": "custom", "custom": {"name": "shell", "format": {}}}, ("shell", "custom", None)),
        ({"type": "custom", "name": "shell"}, ("shell", "custom", None)),
        ({"type": "web_search"}, ("web_search", "hosted", None)),
        ({"type": "mcp", "name": "docs"}, ("docs", "hosted", None)),
    ],
)
def test_tools_of_every_shape_are_read(definition: dict[str, Any], expected: tuple[str, str, object]) -> None:
    (spec,) = tools(tools=[definition])
    assert (spec.name, spec.kind, spec.parameters) == expected
    assert spec.raw == definition


def test_functions_become_tools() -> None:
    (spec,) = tools(functions=[{"name": "find", "description": "d", "parameters": SCHEMA}])
    assert (spec.name, spec.description, spec.parameters, spec.kind) == ("find", "d", SCHEMA, "function")
    assert spec.raw == {
        "type": "function",
        "function": {"name": "find", "description": "d", "parameters": SCHEMA},
    }


@pytest.mark.parametrize(
    ("definition", "param"),
    [
        ({"type": "function"}, "tools.1.function.name"),
        ({"type": "custom", "custom": None}, "tools.1.custom.name"),
        ({"type": "function", "function": {"name": ""}}, "tools.1.function.name"),
        ({"type": "custom", "custom": {"name": ""}}, "tools.1.custom.name"),
    ],
)
def test_a_tool_without_a_name_is_refused_by_its_path(definition: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tools(tools=[FIND, definition])
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("none", NONE), ("auto", AUTO), ({"name": "pick"}, ToolChoice("named", ("pick",)))],
)
def test_a_function_call_is_a_choice(choice: object, expected: ToolChoice) -> None:
    assert read_tool_choice(request(function_call=choice)) == expected


def test_the_tool_choice_wins_over_the_function_call() -> None:
    assert read_tool_choice(request(tool_choice="none", function_call="auto")) == NONE


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "pick"}, "tool_choice"),
        ({"function_call": "pick"}, "function_call"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "tool", "name": ""}}, "tool_choice.tool.name"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools.tools"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [{"type": "function"}]}}},
            "tool_choice.allowed_tools.tools.0.name",
        ),
    ],
)
def test_a_choice_that_means_nothing_is_refused_by_its_path(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_tool_choice(request(**fields))
    assert caught.value.param == param


@pytest.mark.parametrize("offer", [{"tools": [FIND]}, {"functions": [{"name": "find"}]}])
def test_a_call_may_be_demanded_where_there_is_something_to_call(offer: dict[str, Any]) -> None:
    assert read_tool_choice(request(tool_choice="required", **offer)) == ToolChoice("required")


@pytest.mark.parametrize(
    ("fields", "mentioned"),
    [
        ({}, False),
        ({"tools": [], "functions": [], "tool_choice": None}, False),
        ({"tools": [FIND]}, True),
        ({"functions": [{"name": "f"}]}, True),
        ({"tool_choice": "none"}, True),
        ({"function_call": "auto"}, True),
        ({"messages": [{"role": "tool", "tool_call_id": "c", "content": "1"}]}, True),
        ({"messages": [{"role": "function", "name": "f", "content": "1"}]}, True),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, True),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}]},
            True,
        ),
        ({"messages": [{"role": "assistant", "content": "a", "tool_calls": []}]}, False),
    ],
)
def test_tools_are_mentioned_by_any_trace_of_them(fields: dict[str, Any], mentioned: bool) -> None:
    assert mentions_tools(request(**fields)) is mentioned
