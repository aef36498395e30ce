"""Tools and tool choice of a Messages request. Pure.

Beside Anthropic's own forms those of OpenAI are read, because clients of several protocols mix them up.
"""

from collections.abc import Sequence
from typing import cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.protocols.bodies import missing
from gateway.turn.items import Item, ToolCall, ToolResult
from gateway.turn.tools import AUTO, NONE, ToolChoice, ToolSpec
from gateway.wire.messages import MessagesRequest, ToolChoiceIn, ToolDef

REQUIRED = ToolChoice("required")

_WORDS = {"auto": AUTO, "none": NONE, "any": REQUIRED, "required": REQUIRED}


def read_tools(request: MessagesRequest, raw: JsonObject) -> tuple[ToolSpec, ...]:
    """`raw` is the body that the request was made of."""
    definitions = cast(list[JsonObject], raw.get("tools") or [])
    return tuple(
        _read_tool(tool, definition, f"tools.{index}")
        for index, (tool, definition) in enumerate(zip(request.tools or (), definitions, strict=True))
    )


def _read_tool(tool: ToolDef, definition: JsonObject, path: str) -> ToolSpec:
    source = tool.function or tool
    if tool.type not in (None, "custom", "function"):
        # Anthropic's own: their schema is known to its models only, and some are run by its servers.
        return ToolSpec(
            name=tool.name or str(tool.type), description=tool.description, kind="hosted", raw=definition
        )
    if not source.name:
        raise missing(f"{path}.function.name" if tool.function else f"{path}.name")
    return ToolSpec(
        name=source.name,
        description=source.description,
        parameters=cast(JsonObject | None, tool.input_schema or source.parameters),
        strict=source.strict,
        raw=definition,
    )


def read_tool_choice(request: MessagesRequest) -> ToolChoice:
    choice = request.tool_choice
    if choice is None:
        return AUTO
    if isinstance(choice, str):
        names = {tool.name for tool in request.tools or ()}
        return ToolChoice("named", (choice,)) if choice in names else _word(choice, "tool_choice")
    if choice.type in ("tool", "function", "custom"):
        return ToolChoice("named", (_chosen_name(choice),))
    return _word(choice.type, "tool_choice.type")


def _chosen_name(choice: ToolChoiceIn) -> str:
    name = choice.function.name if choice.function else choice.name
    if not name:
        raise missing("tool_choice.function.name" if choice.function else "tool_choice.name")
    return name


def _word(word: str, param: str) -> ToolChoice:
    if (choice := _WORDS.get(word)) is not None:
        return choice
    raise InvalidRequest(
        f"Invalid '{param}': expected 'auto', 'any', 'tool' or 'none'", param=param, code="invalid_value"
    )


def read_parallel(request: MessagesRequest) -> bool | None:
    choice = request.tool_choice
    if isinstance(choice, str) or choice is None or choice.disable_parallel_tool_use is None:
        return None
    return not choice.disable_parallel_tool_use


def mentions_tools(request: MessagesRequest, items: Sequence[Item]) -> bool:
    """Whether the request names tools in any way: offered, chosen, called or answered."""
    if request.tools or request.tool_choice is not None:
        return True
    return any(isinstance(item, ToolCall | ToolResult) for item in items)
