"""Events of a Responses stream as decode.py reads them: their fields, and which of them say what. Pure.

Fields that nobody asks for are skipped unread, objects are kept as text until they are wanted, and what an
upstream leaves out or nulls is no error.
"""

from typing import Final

import msgspec

from gateway.kernel.json import JsonObject
from gateway.turn.events import (
    AnnotationAdded,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolInputDelta,
    TurnEvent,
)
from gateway.turn.usage import Usage, sound

SILENT: Final = frozenset(
    {
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.done",
        "response.refusal.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_text.done",
        "response.function_call_arguments.done",
        "response.custom_tool_call_input.done",
    }
)
"""Say nothing that the item's end does not say."""
ALIVE: Final = frozenset(
    {
        "response.created",
        "response.in_progress",
        "response.queued",
        "response.metadata",
        "keepalive",
        "codex.rate_limits",
        "codex.response.metadata",
    }
)
"""Greetings and signs of life: behind them the turn may still go to somebody else."""
DELTAS: Final = frozenset(
    {
        "response.output_text.delta",
        "response.refusal.delta",
        "response.output_text.annotation.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_text.delta",
        "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta",
    }
)


JOINED: Final = DELTAS - {"response.output_text.annotation.added"}
"""Those that are nothing but more text: several of them are one."""
IMPLIED: Final = {
    "response.output_text.delta": "message",
    "response.refusal.delta": "message",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
}
"""Which items deltas are of."""
ITEMS: Final = frozenset({"response.output_item.added", "response.output_item.done"})
COMPLETED: Final = frozenset({"response.completed", "response.done", "response.incomplete"})
ENDS: Final = frozenset({*COMPLETED, "response.failed", "error"})


class Said(msgspec.Struct, gc=False):
    """The fields that events share; unknown ones are skipped, objects are read when they are wanted."""

    type: str = ""
    output_index: int = -1
    content_index: int = 0
    summary_index: int = 0
    delta: str = ""
    item_id: str = ""
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    annotation: msgspec.Raw = msgspec.Raw()


class _Typed(msgspec.Struct):
    type: str = ""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UsageShape(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Reason(msgspec.Struct):
    reason: str | None = None


class Response(msgspec.Struct):
    """What is not as it should be beside the output costs no answer."""

    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    incomplete_details: msgspec.Raw = msgspec.Raw()

    @property
    def reason(self) -> str | None:
        """Why it is incomplete."""
        try:
            return _decode_reason(self.incomplete_details).reason
        except msgspec.DecodeError:
            return None

    @property
    def is_error(self) -> bool:
        """Some say with a 200 that something went wrong, or something else altogether."""
        return self.status is None and self.output is None


_decode_reason = msgspec.json.Decoder(_Reason).decode
_decode_usage = msgspec.json.Decoder(UsageShape, strict=False).decode
decode_type = msgspec.json.Decoder(_Typed).decode
decode_said = msgspec.json.Decoder(Said).decode
decode_response = msgspec.json.Decoder(Response, strict=False).decode
decode_object = msgspec.json.Decoder(JsonObject).decode


def delta_of(index: int, said: Said) -> TurnEvent:
    match said.type:
        case "response.output_text.delta":
            return TextDelta(index, said.delta, said.content_index)
        case "response.refusal.delta":
            return RefusalDelta(index, said.delta, said.content_index)
        case "response.reasoning_summary_text.delta":
            return ReasoningDelta(index, said.delta, said.summary_index, "summary")
        case "response.reasoning_text.delta":
            return ReasoningDelta(index, said.delta, said.content_index, "full")
        case "response.output_text.annotation.added":
            return AnnotationAdded(index, said.content_index, decode_object(bytes(said.annotation)))
        case _:
            return ToolInputDelta(index, said.delta)


def usage_of(raw: msgspec.Raw) -> Usage | None:
    """None for usage that makes no sense."""
    if not bytes(raw) or bytes(raw) == b"null":
        return None
    try:
        usage = _decode_usage(raw)
    except msgspec.DecodeError:
        return None
    read, written = usage.input_tokens_details, usage.output_tokens_details
    return sound(
        Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=read.cached_tokens if read else None,
            reasoning_tokens=written.reasoning_tokens if written else None,
        )
    )
