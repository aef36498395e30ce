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
from gateway.turn.usage import Usage

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


ITEMS: Final = frozenset({"response.output_item.added", "response.output_item.done"})
COMPLETED: Final = frozenset({"response.completed", "response.done", "response.incomplete"})
ENDS: Final = frozenset({*COMPLETED, "response.failed", "error"})


class Said(msgspec.Struct):
    """The fields that events share; unknown ones are skipped, objects are read when they are wanted."""

    type: str = ""
    output_index: int = -1
    content_index: int = 0
    summary_index: int = 0
    delta: str = ""
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
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    usage: UsageShape | None = None
    incomplete_details: _Reason | None = None

    @property
    def is_error(self) -> bool:
        """Some say with a 200 that something went wrong, or something else altogether."""
        return self.status is None and self.output is None


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


def usage_of(usage: UsageShape | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.input_tokens_details.cached_tokens if usage.input_tokens_details else None,
        reasoning_tokens=usage.output_tokens_details.reasoning_tokens
        if usage.output_tokens_details
        else None,
    )
