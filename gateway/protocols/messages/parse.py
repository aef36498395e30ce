"""A Messages body to a Turn. Pure: ids, times and the key's facts are handed in.

Called by protocols/endpoint.py, also for bodies whose tokens are only to be counted. System texts are
messages of that role: the one beside the conversation comes first, those inside it stay where they stand.
What Messages can say and a turn cannot is recorded as a loss.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.protocols.bodies import TurnContext, check, load_object, missing
from gateway.protocols.messages.content import Conversation, flatten_items
from gateway.protocols.messages.tools import mentions_tools, read_parallel, read_tool_choice, read_tools
from gateway.turn.items import Item
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, RawRequest, ReasoningRequest, Sampling, Turn
from gateway.wire.messages import FormatIn, MessagesRequest

VERSION_HEADER = "anthropic-version"

_UNSUPPORTED = (
    "container",
    "mcp_servers",
    "context_management",
    "compaction",
    "fallbacks",
    "inference_geo",
    "speed",
    "thread",
)
"""Fields that ask for something no turn can carry."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_messages(body: bytes, context: TurnContext) -> Turn:
    """Raises InvalidRequest naming the field at fault."""
    return _parse(body, context, counting=False)


def parse_count(body: bytes, context: TurnContext) -> Turn:
    """As parse_messages, for a body that asks for no answer and so needs no limit of its length."""
    return _parse(body, context, counting=True)


def _parse(body: bytes, context: TurnContext, *, counting: bool) -> Turn:
    _check_version(context)
    raw = load_object(body)
    request = check(MessagesRequest, raw)
    if not request.model.strip():
        raise InvalidRequest("'model' must not be empty", param="model")
    if not request.messages:
        raise InvalidRequest("'messages' must not be empty", param="messages")
    if not counting:
        _check_limit(request)
    conversation = Conversation()
    conversation.system(request.system)
    first: Sequence[Item] = ()
    for index, message in enumerate(request.messages):
        before = len(conversation.items)
        conversation.message(message, f"messages.{index}")
        if index == 0:
            first = conversation.items[before:]
    items = tuple(conversation.items)
    return Turn(
        **context.fields(),
        model=request.model,
        items=items,
        raw=RawRequest(dialect="messages", body=raw),
        stream=bool(request.stream),
        tools=read_tools(request, raw),
        tool_choice=read_tool_choice(request),
        tools_mentioned=mentions_tools(request, items),
        parallel_tool_calls=read_parallel(request),
        sampling=_sampling(request),
        reasoning=_reasoning(request),
        output_format=_output_format(request),
        user=(request.metadata.user_id if request.metadata else None) or None,
        affinity=_affinity(first),
        losses=(*conversation.losses, *_request_losses(request)),
    )


def _check_version(context: TurnContext) -> None:
    """Every version there is or will be is served alike; people with curl send none."""
    version = context.headers.get(VERSION_HEADER)
    if version is not None and not _DATE.fullmatch(version.strip()):
        raise InvalidRequest(
            f"Invalid header '{VERSION_HEADER}': expected a date such as 2023-06-01",
            param=VERSION_HEADER,
            code="invalid_value",
        )


def _check_limit(request: MessagesRequest) -> None:
    if request.max_tokens is None:
        raise missing("max_tokens")
    if request.max_tokens < 1:
        raise InvalidRequest("'max_tokens' must be at least 1", param="max_tokens", code="invalid_value")


def _affinity(first: Sequence[Item]) -> str:
    """Turns of one conversation begin alike, and different conversations rarely do."""
    text = flatten_items(first).encode("utf-8", "surrogatepass")
    return f"first:{hashlib.sha256(text).hexdigest()}"


# -- settings of the turn ---------------------------------------------------------------------------------


def _sampling(request: MessagesRequest) -> Sampling:
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        max_output_tokens=request.max_tokens,
        stop=tuple(request.stop_sequences or ()),
    )


def _reasoning(request: MessagesRequest) -> ReasoningRequest | None:
    """Types of thinking that are not known yet leave its extent to the upstream, as `adaptive` does."""
    effort = request.output_config.effort if request.output_config else None
    thinking = request.thinking
    if thinking is None:
        return ReasoningRequest(effort=effort) if effort else None
    if thinking.type == "disabled":
        return ReasoningRequest(effort="none")
    return ReasoningRequest(effort=effort, budget_tokens=thinking.budget_tokens)


def _output_format(request: MessagesRequest) -> OutputFormat | None:
    path, wanted = "output_format", request.output_format
    if request.output_config is not None and request.output_config.format is not None:
        path, wanted = "output_config.format", request.output_config.format
    return None if wanted is None else _json_schema(wanted, path)


def _json_schema(wanted: FormatIn, path: str) -> OutputFormat:
    if wanted.type != "json_schema":
        raise InvalidRequest(
            f"Invalid '{path}.type': expected 'json_schema'", param=f"{path}.type", code="invalid_value"
        )
    if wanted.schema_ is None:
        raise missing(f"{path}.schema")
    return OutputFormat(kind="json_schema", schema=cast(JsonObject, wanted.schema_), strict=True)


def _request_losses(request: MessagesRequest) -> Iterator[Loss]:
    for name in _UNSUPPORTED:
        if getattr(request, name):
            yield Loss(name, "unsupported")
    if request.output_config is not None and request.output_config.task_budget:
        yield Loss("output_config.task_budget", "unsupported")
    if request.messages[-1].role == "assistant":
        yield Loss(f"messages.{len(request.messages) - 1}", "prefill-not-continued")
