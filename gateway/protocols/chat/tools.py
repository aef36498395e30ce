"""Tools and tool choice of a Chat Completions request, and the functions that preceded them. Pure."""

from typing import cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.protocols.openai.tools import choice_word, read_choice, read_tool
from gateway.turn.tools import AUTO, ToolChoice, ToolSpec
from gateway.wire.chat import ChatRequest


def read_tools(request: ChatRequest, raw: JsonObject) -> tuple[ToolSpec, ...]:
    """The tools, then the functions; `raw` is the body that the request was made of."""
    specs = [
        read_tool(tool, definition, f"tools.{index}")
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


def read_tool_choice(request: ChatRequest) -> ToolChoice:
    """Raises InvalidRequest for a choice that means nothing, or demands a call where there is no tool."""
    if request.tool_choice is None:
        return _function_choice(request)
    choice = read_choice(request.tool_choice)
    if choice.mode == "required" and not (request.tools or request.functions):
        raise InvalidRequest(
            "'tool_choice' is only allowed to be 'required' when 'tools' are specified.", param="tool_choice"
        )
    return choice


def _function_choice(request: ChatRequest) -> ToolChoice:
    choice = request.function_call
    if choice is None:
        return AUTO
    if isinstance(choice, str):
        return choice_word(choice, "function_call")
    return ToolChoice("named", (choice.name,))


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
