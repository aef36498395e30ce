"""A Responses body to a Turn. Pure: ids, times and the key's facts are handed in.

Called by protocols/endpoint.py. What the API can say and a turn cannot is recorded as a loss; what would
change the meaning of the whole request (a former response, a prompt kept elsewhere, work in the background)
is refused by its field's name. Codex is known by its name in one of several headers, and sends the id of its
thread in as many places: whichever of them arrives gives the same affinity.
"""

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonError, JsonObject, loads
from gateway.protocols.bodies import TurnContext, check, load_object, missing
from gateway.protocols.responses.items import read_input
from gateway.protocols.responses.response import CODEX
from gateway.protocols.responses.settings import (
    read_output_format,
    read_reasoning,
    read_sampling,
    request_losses,
)
from gateway.protocols.responses.tools import merged, read_choice, read_tools
from gateway.turn.items import Item, Message, TextPart, ToolCall, ToolResult
from gateway.turn.request import RawRequest, Turn
from gateway.wire.responses import ResponsesRequest

_THREAD_HEADERS = ("thread-id", "thread_id", "session-id", "session_id", "x-client-request-id")
_METADATA_HEADER = "x-codex-turn-metadata"


def parse_responses(body: bytes, context: TurnContext) -> Turn:
    """Raises InvalidRequest naming the field at fault."""
    return turn_of(load_object(body), context)


def turn_of(raw: JsonObject, context: TurnContext, *, may_be_empty: bool = False) -> Turn:
    """Raises InvalidRequest. `may_be_empty`: nothing will be asked with it as it is."""
    request = check(ResponsesRequest, raw)
    if not request.model.strip():
        raise InvalidRequest("'model' must not be empty", param="model")
    _refuse(request)
    if request.input is None:
        raise missing("input")
    given = read_input(request.input)
    items = _with_instructions(request, given.items)
    if not items and not may_be_empty:
        raise InvalidRequest("'input' must not be empty", param="input")
    losses = [*given.losses]
    tools = merged([*read_tools(request.tools or (), "tools"), *given.tools])
    choice = read_choice(request.tool_choice, tools, losses)
    fields = context.fields()
    fields["client"] = client_of(context)
    return Turn(
        **fields,
        model=request.model,
        items=items,
        raw=RawRequest(dialect="responses", body=raw),
        stream=bool(request.stream),
        tools=tools,
        tool_choice=choice,
        tools_mentioned=_mentions_tools(request, items, bool(tools)),
        parallel_tool_calls=request.parallel_tool_calls,
        sampling=read_sampling(request),
        reasoning=read_reasoning(request),
        output_format=read_output_format(request),
        user=_affinity(request, context, fields["client"]),
        compacts_at=given.compacts_at,
        losses=(*losses, *request_losses(request)),
    )


def _refuse(request: ResponsesRequest) -> None:
    """What cannot be left out without answering another question."""
    if request.previous_response_id:
        raise InvalidRequest(
            f"Previous response with id '{request.previous_response_id[:80]}' not found: this gateway does "
            "not store responses yet; please leave 'previous_response_id' out and send the whole "
            "conversation as 'input'",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    if request.conversation:
        raise InvalidRequest(
            "'conversation' cannot be used: this gateway does not store conversations yet; please send the "
            "whole of it as 'input'",
            param="conversation",
            code="unsupported_parameter",
        )
    if request.background:
        raise InvalidRequest(
            "'background' cannot be used: this gateway does not run responses in the background yet",
            param="background",
            code="unsupported_parameter",
        )
    if request.prompt is not None:
        raise InvalidRequest(
            "'prompt' cannot be used: templates are kept by OpenAI; please send the prompt itself as 'input'",
            param="prompt",
            code="unsupported_parameter",
        )


def _with_instructions(request: ResponsesRequest, items: tuple[Item, ...]) -> tuple[Item, ...]:
    if not request.instructions:
        return items
    return (Message(role="system", parts=(TextPart(request.instructions),)), *items)


def _mentions_tools(request: ResponsesRequest, items: tuple[Item, ...], offered: bool) -> bool:
    if offered or request.tool_choice is not None:
        return True
    return any(isinstance(item, ToolCall | ToolResult) for item in items)


# -- who asks ---------------------------------------------------------------------------------------------


def client_of(context: TurnContext) -> str:
    """The client program; Codex also where it runs inside a program of another name."""
    if context.client.startswith(CODEX):
        return context.client
    originator = context.headers.get("originator", "").split("/", 1)[0].strip()[:64].lower()
    if originator.startswith(CODEX):
        return originator
    if any(name.startswith("x-codex-") for name in context.headers):
        return CODEX
    return context.client


def _affinity(request: ResponsesRequest, context: TurnContext, client: str) -> str | None:
    given = request.user or request.prompt_cache_key or request.safety_identifier or None
    if not client.startswith(CODEX) or request.user:
        return given
    headers = (context.headers.get(name) for name in _THREAD_HEADERS)
    return next(filter(None, headers), None) or given or _thread_of(context.headers.get(_METADATA_HEADER, ""))


def _thread_of(metadata: str) -> str | None:
    """The thread's id in the JSON header, which proxies that drop the others let pass."""
    try:
        value = loads(metadata)
    except JsonError:
        return None
    if not isinstance(value, dict):
        return None
    named = (value.get(name) for name in ("thread_id", "session_id"))
    return next((name for name in named if isinstance(name, str) and name), None)
