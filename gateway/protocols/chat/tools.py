"""Tools and tool choice of a Chat Completions request, in all their forms. Pure.

Tools come nested (`{"type":"function","function":{...}}`) or flat, as custom tools, as hosted tools, and as
the functions that preceded them. A choice comes as a word or as an object, nested or flat.
"""

from collections.abc import Sequence
from typing import cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.protocols.bodies import missing
from gateway.turn.tools import AUTO, NONE, ToolChoice, ToolSpec
from gateway.wire.chat import ChatRequest, ToolChoiceIn, ToolDef

REQUIRED = ToolChoice("required")

_WORDS = {"auto": AUTO, "none": NONE, "required": REQUIRED, "any": REQUIRED}


def read_tools(request: ChatRequest, raw: JsonObject) -> tuple[ToolSpec, ...]:
    """The tools, then the functions; `raw` is the body that the request was made of."""
    specs = [
        _spec(tool, definition, f"tools.{index}")
        for index, (tool, definition) in enumerate(
            zip(request.tools or (), _objects(raw, "tools"), strict=True)
        )
    ]
    for function, definition in zip(request.functions or (), _objects(raw, "functions"), strict=True):
        specs.append(
            ToolSpec(
                name=function.name,
                description=function.description,
                parameters=cast(JsonObject | None, function.parameters),
                raw={"type": "function", "function": definition},
            )
        )
    return tuple(specs)


def _objects(raw: JsonObject, name: str) -> list[JsonObject]:
    """A list that the request's model has already checked."""
    return cast(list[JsonObject], raw.get(name) or [])


def _spec(tool: ToolDef, definition: JsonObject, path: str) -> ToolSpec:
    match tool.type:
        case "function":
            function = tool.function
            name = function.name if function else tool.name
            if name is None:
                raise missing(f"{path}.function.name")
            source = function or tool
            return ToolSpec(
                name=name,
                description=source.description,
                parameters=cast(JsonObject | None, source.parameters),
                strict=source.strict,
                raw=definition,
            )
        case "custom":
            name = tool.custom.name if tool.custom else tool.name
            if name is None:
                raise missing(f"{path}.custom.name")
            description = tool.custom.description if tool.custom else tool.description
            return ToolSpec(name=name, description=description, kind="custom", raw=definition)
        case _:
            return ToolSpec(
                name=tool.name or tool.type, description=tool.description, kind="hosted", raw=definition
            )


def read_tool_choice(request: ChatRequest) -> ToolChoice:
    choice = request.tool_choice
    if choice is None:
        return _function_choice(request)
    if isinstance(choice, str):
        return _word(choice, "tool_choice")
    match choice.type:
        case "allowed_tools":
            return _allowed(choice)
        case "function" | "custom" | "tool":
            return _named(choice)
        case word:
            return _word(word, "tool_choice.type")


def _function_choice(request: ChatRequest) -> ToolChoice:
    choice = request.function_call
    if choice is None:
        return AUTO
    if isinstance(choice, str):
        return _word(choice, "function_call")
    return ToolChoice("named", (choice.name,))


def _word(word: str, param: str) -> ToolChoice:
    if (choice := _WORDS.get(word)) is not None:
        return choice
    raise InvalidRequest(
        f"Invalid '{param}': expected 'auto', 'none', 'required' or the name of a tool",
        param=param,
        code="invalid_value",
    )


def _named(choice: ToolChoiceIn) -> ToolChoice:
    nested = choice.function or choice.custom
    name = nested.name if nested else choice.name
    if not name:
        raise missing(f"tool_choice.{choice.type}.name")
    return ToolChoice("named", (name,))


def _allowed(choice: ToolChoiceIn) -> ToolChoice:
    nested = choice.allowed_tools
    tools = nested.tools if nested else choice.tools
    mode = nested.mode if nested else choice.mode or "auto"
    if tools is None:
        raise missing("tool_choice.allowed_tools.tools")
    return ToolChoice(mode, tuple(_allowed_names(tools)))


def _allowed_names(tools: Sequence[ToolDef]) -> list[str]:
    names = []
    for index, tool in enumerate(tools):
        nested = tool.function or tool.custom
        name = nested.name if nested else tool.name
        if name is None:
            raise missing(f"tool_choice.allowed_tools.tools.{index}.name")
        names.append(name)
    return names


def mentions_tools(request: ChatRequest) -> bool:
    """Whether the request names tools in any way: offered, chosen, called or answered."""
    if request.tools or request.functions or request.tool_choice is not None:
        return True
    if request.function_call is not None:
        return True
    return any(
        message.role in ("tool", "function") or message.tool_calls or message.function_call
        for message in request.messages
    )
