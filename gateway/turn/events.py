"""The fifteen events a stream may say. Order is ruled by turn/grammar.py; turn id and number are the frame's.

Text arrives as deltas and is said again, whole, by ItemDone: that one is authoritative. Events hold no
cycles, hence gc=False.
"""

from typing import Literal, TypeAlias

import msgspec

from gateway.kernel.errors import ErrorKind, GatewayError
from gateway.kernel.json import JsonObject
from gateway.turn.items import Dialect, Item, ItemKind
from gateway.turn.usage import Usage

Finish: TypeAlias = Literal["stop", "tool_calls", "length", "content_filter", "paused"]
CancelReason: TypeAlias = Literal["client_gone", "deadline", "drain", "admin"]


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, safe to show to a client."""

    kind: ErrorKind
    message: str
    retryable: bool = False
    retry_after_s: float | None = None
    code: str | None = None
    param: str | None = None


class TurnStarted(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="turn_started", kw_only=True):
    model: str
    created_at: int
    """Unix seconds, from the turn record: the same on any replica."""
    upstream_id: str | None = None
    input_tokens_estimate: int | None = None


class ItemStarted(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="item_started"):
    index: int
    kind: ItemKind
    item_id: str
    name: str | None = None
    call_id: str | None = None


class TextDelta(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="text_delta"):
    index: int
    text: str
    part: int = 0
    """A rising number opens the next content part."""


class RefusalDelta(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="refusal_delta"):
    index: int
    text: str
    part: int = 0


class ReasoningDelta(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="reasoning_delta"):
    index: int
    text: str
    part: int = 0
    channel: Literal["summary", "full"] = "full"


class SignatureDelta(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="signature_delta"):
    index: int
    signature: str


class ToolInputDelta(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="tool_input_delta"):
    index: int
    json_fragment: str
    """The fragments joined are the argument text."""


class AnnotationAdded(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="annotation_added"):
    index: int
    part: int
    payload: JsonObject


class ItemDone(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="item_done"):
    index: int
    item: Item


class OpaqueEvent(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="opaque_event"):
    """Known to nobody here; kept, never dropped."""

    dialect: Dialect
    type: str
    payload: JsonObject


class UsageReported(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="usage_reported"):
    usage: Usage


class Heartbeat(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="heartbeat"):
    """The upstream is alive but silent. Never numbered, never part of what a resume repeats."""


class TurnCompleted(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="turn_completed"):
    finish: Finish
    usage: Usage | None = None


class TurnFailed(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="turn_failed"):
    error: ErrorInfo


class TurnCancelled(msgspec.Struct, frozen=True, gc=False, tag_field="event", tag="turn_cancelled"):
    reason: CancelReason


TurnEvent: TypeAlias = (
    TurnStarted
    | ItemStarted
    | TextDelta
    | RefusalDelta
    | ReasoningDelta
    | SignatureDelta
    | ToolInputDelta
    | AnnotationAdded
    | ItemDone
    | OpaqueEvent
    | UsageReported
    | Heartbeat
    | TurnCompleted
    | TurnFailed
    | TurnCancelled
)

Terminal: TypeAlias = TurnCompleted | TurnFailed | TurnCancelled
TERMINAL: tuple[type, ...] = (TurnCompleted, TurnFailed, TurnCancelled)

NOT_CONTENT: tuple[type, ...] = (TurnStarted, Heartbeat, UsageReported)
"""A client that has seen nothing but these may be given another attempt."""


def error_info(error: GatewayError) -> ErrorInfo:
    """The error as an event carries it."""
    return ErrorInfo(
        kind=error.kind,
        message=error.message,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
        code=error.code,
        param=error.param,
    )


def is_content(event: TurnEvent) -> bool:
    """Whether a client that was sent this event has begun to see an answer."""
    return not isinstance(event, NOT_CONTENT)
