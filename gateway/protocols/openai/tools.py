"""Tools and tool choice as OpenAI's protocols write them, in all their forms. Pure.

Tools come nested (`{"type":"function","function":{...}}`) or flat, as custom tools and as hosted tools. A
choice comes as a word or as an object, nested or flat.
"""

from collections.abc import Sequence
from typing import cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.protocols.bodies import missing
from gateway.turn.tools import AUTO, NONE, ToolChoice, ToolSpec
from gateway.wire.chat import ToolChoiceIn, ToolDef

REQUIRED = ToolChoice("required")

_WORDS = {"auto": AUTO, "none": NONE, "required": REQUIRED, "any": REQUIRED}


def read_tool(tool: ToolDef, definition: JsonObject, path: str) -> ToolSpec:
    """`definition` is the tool as the client sent it, `path` where it stands in the body."""
    match tool.type:
        case "function":
            function = tool.function
            name = function.name if function else tool.name
            if not name:
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
            if not name:
                raise missing(f"{path}.custom.name")
            description = tool.custom.description if tool.custom else tool.description
            return ToolSpec(name=name, description=description, kind="custom", raw=definition)
        case _:
            return ToolSpec(
                name=tool.name or tool.type, description=tool.description, kind="hosted", raw=definition
            )


def read_choice(choice: str | ToolChoiceIn) -> ToolChoice:
    """Raises InvalidRequest naming `tool_choice`."""
    if isinstance(choice, str):
        return choice_word(choice, "tool_choice")
    match choice.type:
        case "allowed_tools":
            return _allowed(choice)
        case "function" | "custom" | "tool":
            return _named(choice)
        case word:
            return choice_word(word, "tool_choice.type")


def choice_word(word: str, param: str) -> ToolChoice:
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
