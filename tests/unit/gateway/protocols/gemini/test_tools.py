from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.gemini.tools import mentions_tools, read_tool_choice, read_tools
from gateway.turn.items import Item, Message, ToolCall, ToolResult
from gateway.turn.tools import AUTO, NONE, ToolChoice, ToolSpec
from gateway.wire.gemini import GenerateRequest


def request(**body: Any) -> GenerateRequest:
    return GenerateRequest.model_validate(body)


def tools(*given: Any) -> tuple[ToolSpec, ...]:
    body: Any = {"tools": list(given)}
    return read_tools(request(**body), body)


def choice(**config: Any) -> ToolChoice:
    return read_tool_choice(request(toolConfig={"functionCallingConfig": config}))


def test_functions_and_googles_own_tools() -> None:
    weather: Any = {
        "name": "weather",
        "description": "Tells it",
        "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}},
        "behavior": "BLOCKING",
    }
    found = tools(
        {"functionDeclarations": [weather, {"name": "now"}], "codeExecution": {}},
        {"googleSearch": {"searchTypes": {}}},
    )
    assert found == (
        ToolSpec(
            name="weather",
            description="Tells it",
            parameters={"type": "object", "properties": {"city": {"type": "string"}}},
            raw=weather,
        ),
        ToolSpec(name="now", raw={"name": "now"}),
        ToolSpec(name="codeExecution", kind="hosted", raw={"codeExecution": {}}),
        ToolSpec(name="googleSearch", kind="hosted", raw={"googleSearch": {"searchTypes": {}}}),
    )


def test_parameters_as_json_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "INTEGER"}}}
    for name in ("parametersJsonSchema", "parameters_json_schema"):
        (found,) = tools({"function_declarations": [{"name": "f", name: schema}]})
        assert found.parameters == {"type": "object", "properties": {"a": {"type": "integer"}}}


def test_one_tool_needs_no_list() -> None:
    body: Any = {"tools": {"functionDeclarations": [{"name": "f"}], "urlContext": None}}
    assert [tool.name for tool in read_tools(request(**body), body)] == ["f"]


@pytest.mark.parametrize(
    "body", [{}, {"tools": None}, {"tools": []}, {"tools": [{}]}, {"tools": [{"functionDeclarations": None}]}]
)
def test_no_tools(body: Any) -> None:
    assert read_tools(request(**body), body) == ()


@pytest.mark.parametrize(
    ("config", "read"),
    [
        ({}, AUTO),
        ({"mode": "AUTO"}, AUTO),
        ({"mode": "auto"}, AUTO),
        ({"mode": "MODE_UNSPECIFIED"}, AUTO),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["a"]}, ToolChoice("auto", ("a",))),
        ({"mode": "ANY"}, ToolChoice("required")),
        ({"mode": "ANY", "allowedFunctionNames": ["a"]}, ToolChoice("named", ("a",))),
        ({"mode": "ANY", "allowed_function_names": ["a", "b"]}, ToolChoice("required", ("a", "b"))),
        ({"mode": "NONE", "allowedFunctionNames": ["a"]}, NONE),
    ],
)
def test_modes(config: Any, read: ToolChoice) -> None:
    assert choice(**config) == read


def test_no_mode_is_auto() -> None:
    assert read_tool_choice(request()) == AUTO
    assert read_tool_choice(request(toolConfig={"retrievalConfig": {}})) == AUTO


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        choice(mode="SOMETIMES")
    assert caught.value.param == "toolConfig.functionCallingConfig.mode"


@pytest.mark.parametrize(
    ("body", "items", "mentioned"),
    [
        ({}, [Message(role="user", parts=())], False),
        ({"tools": [], "toolConfig": {"retrievalConfig": {}}}, [], False),
        ({"tools": [{"googleSearch": {}}]}, [], True),
        ({"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}, [], True),
        ({}, [ToolCall(call_id="c", name="f", arguments="{}")], True),
        ({}, [ToolResult(call_id="c", parts=())], True),
    ],
)
def test_tools_are_mentioned_in_many_ways(body: Any, items: list[Item], mentioned: bool) -> None:
    read = request(**body)
    assert mentions_tools(read, read_tools(read, body), items) is mentioned
