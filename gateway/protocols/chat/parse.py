"""A Chat Completions body to a Turn. Pure: ids, times and the key's facts are handed in.

Called by protocols/endpoint.py. What Chat can say and a turn cannot is recorded as a loss. An assistant
message with tool calls becomes a message (if it says anything) followed by the calls. Calls and results of
the functions that preceded tools carry no ids; they get them from their places: the same in every request.
"""

from collections.abc import Iterator, Sequence

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.bodies import TurnContext, check, load_object, missing
from gateway.protocols.chat.settings import (
    check_settings,
    read_output_format,
    read_reasoning,
    read_sampling,
    request_losses,
)
from gateway.protocols.chat.tools import mentions_tools, read_tool_choice, read_tools
from gateway.protocols.openai.content import read_parts
from gateway.turn.items import Item, MediaPart, Message, Part, Reasoning, RefusalPart, ToolCall, ToolResult
from gateway.turn.losses import Loss
from gateway.turn.request import RawRequest, Turn
from gateway.wire.chat import ChatMessage, ChatRequest, FunctionCall, ToolCallIn


def parse_chat(body: bytes, context: TurnContext) -> Turn:
    """Raises InvalidRequest naming the field at fault."""
    raw = load_object(body)
    request = check(ChatRequest, raw)
    if not request.model.strip():
        raise InvalidRequest("'model' must not be empty", param="model")
    if not request.messages:
        raise InvalidRequest(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    check_settings(request)
    items, losses = _items(request.messages)
    return Turn(
        **context.fields(),
        model=request.model,
        items=items,
        raw=RawRequest(dialect="chat", body=raw),
        stream=bool(request.stream),
        tools=read_tools(request, raw),
        tool_choice=read_tool_choice(request),
        tools_mentioned=mentions_tools(request),
        parallel_tool_calls=request.parallel_tool_calls,
        sampling=read_sampling(request),
        reasoning=read_reasoning(request),
        output_format=read_output_format(request),
        user=request.user or request.prompt_cache_key or request.safety_identifier or None,
        losses=(*losses, *request_losses(request)),
    )


# -- conversation -----------------------------------------------------------------------------------------


def _items(messages: Sequence[ChatMessage]) -> tuple[tuple[Item, ...], list[Loss]]:
    items: list[Item] = []
    losses: list[Loss] = []
    function_ids: dict[str, str] = {}
    for index, message in enumerate(messages):
        path = f"messages.{index}"
        parts = read_parts(message.content, f"{path}.content", losses)
        match message.role:
            case "assistant":
                items += _assistant(message, parts, path)
                if (called := message.function_call) is not None:
                    function_ids[called.name] = f"call_fn_{index}"
                    items.append(_call(f"call_fn_{index}", called))
            case "tool":
                if message.tool_call_id is None:
                    raise missing(f"{path}.tool_call_id")
                items.append(ToolResult(call_id=message.tool_call_id, parts=parts, name=message.name))
            case "function":
                if message.name is None:
                    raise missing(f"{path}.name")
                call_id = function_ids.pop(message.name, f"call_fn_{index}")
                items.append(ToolResult(call_id=call_id, parts=parts, name=message.name))
            case _:
                items.append(Message(role=message.role, parts=parts, name=message.name))
    return tuple(items), losses


def _assistant(message: ChatMessage, parts: tuple[Part, ...], path: str) -> Iterator[Item]:
    if reasoning := _reasoning(message):
        yield Reasoning(text=reasoning)
    if message.refusal:
        parts = (*parts, RefusalPart(message.refusal))
    if message.audio is not None:
        parts = (*parts, MediaPart(kind="audio", file_id=message.audio.id))
    calls = message.tool_calls or []
    says_something = any(isinstance(part, MediaPart) or part.text for part in parts)
    if says_something or not (calls or message.function_call):
        yield Message(role="assistant", parts=parts, name=message.name)
    for index, call in enumerate(calls):
        yield _tool_call(call, f"{path}.tool_calls.{index}")


def _reasoning(message: ChatMessage) -> str:
    """Two names are in use for it; what is under the second one is not always text."""
    if message.reasoning_content:
        return message.reasoning_content
    return message.reasoning if isinstance(message.reasoning, str) else ""


def _tool_call(call: ToolCallIn, path: str) -> ToolCall:
    if call.custom is not None:
        return ToolCall(call_id=call.id, name=call.custom.name, arguments=call.custom.input, kind="custom")
    if call.function is None:
        raise missing(f"{path}.function")
    return _call(call.id, call.function)


def _call(call_id: str, function: FunctionCall) -> ToolCall:
    return ToolCall(call_id=call_id, name=function.name, arguments=function.arguments)
