"""Turns, events and bodies for tests of the Responses protocol."""

from collections.abc import Iterable, Sequence
from typing import Any

from gateway.kernel.ids import TurnId
from gateway.kernel.json import JsonObject, dumps
from gateway.protocols.bodies import TurnContext
from gateway.protocols.responses.encode import OnEof, ResponsesEncoder
from gateway.protocols.responses.parse import parse_responses
from gateway.protocols.responses.response import build_response
from gateway.turn.events import (
    ItemDone,
    ItemStarted,
    ReasoningDelta,
    TextDelta,
    ToolInputDelta,
    TurnEvent,
    TurnStarted,
)
from gateway.turn.fold import fold
from gateway.turn.frame import Frame
from gateway.turn.items import Message, Reasoning, TextPart, ToolCall
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from tests.support.responses_schema import StreamRead, validate_response, validate_stream

TURN_ID = TurnId("01m3250v00zynh6j9ycfk0eaa7")
CREATED = 1_790_000_000
STARTED = TurnStarted(model="upstream-model", created_at=CREATED)


def context(**headers: str) -> TurnContext:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return TurnContext(id=TURN_ID, tenant="t", created_at_ms=CREATED * 1000, headers=named)


def parsed(given: Any = "hi", *, headers: dict[str, str] | None = None, **fields: Any) -> Turn:
    """The turn that a body makes."""
    body: dict[str, Any] = {"model": "asked", "input": given, **fields}
    where = TurnContext(id=TURN_ID, tenant="t", created_at_ms=CREATED * 1000, headers=headers or {})
    return parse_responses(dumps(body), where)


def codex(given: Any = "hi", **fields: Any) -> Turn:
    return parsed(given, headers={"user-agent": "codex_exec/0.169.0 (Linux)"}, **fields)


# -- what upstreams say -----------------------------------------------------------------------------------


def said(*texts: str, index: int = 0) -> list[TurnEvent]:
    whole = Message(role="assistant", parts=(TextPart("".join(texts)),))
    return [
        ItemStarted(index, "message", f"m{index}"),
        *(TextDelta(index, text) for text in texts),
        ItemDone(index, whole),
    ]


def thought(*texts: str, index: int = 0, signature: str | None = None) -> list[TurnEvent]:
    return [
        ItemStarted(index, "reasoning", f"r{index}"),
        *(ReasoningDelta(index, text) for text in texts),
        ItemDone(index, Reasoning(text="".join(texts), signature=signature)),
    ]


def called(call: ToolCall, *fragments: str, index: int = 0) -> list[TurnEvent]:
    """The fragments, or the arguments cut in two."""
    middle = len(call.arguments) // 2
    pieces = fragments or (call.arguments[:middle], call.arguments[middle:])
    return [
        ItemStarted(index, "tool_call", f"t{index}", call.name, call.call_id),
        *(ToolInputDelta(index, piece) for piece in pieces if piece),
        ItemDone(index, call),
    ]


def frames(events: Iterable[TurnEvent]) -> list[Frame]:
    return [Frame((event,)) for event in events]


# -- what clients get -------------------------------------------------------------------------------------


def stream(
    turn: Turn,
    *events: TurnEvent,
    on_eof: OnEof = "failed",
    losses: list[Loss] | None = None,
    rewritten: bool = False,
) -> StreamRead:
    """A whole stream, held to the schema."""
    encoder = ResponsesEncoder(turn, on_eof=on_eof, losses=losses)
    return validate_stream(encoder.encode(frames((STARTED, *events))), rewritten=rewritten)


def whole(turn: Turn, *events: TurnEvent) -> dict[str, Any]:
    """The answer without a stream, held to the schema; without the text that only it has."""
    response: Any = build_response(turn, fold(frames((STARTED, *events))))
    validate_response(response)
    return {key: value for key, value in response.items() if key != "output_text"}


def in_order(wanted: Sequence[JsonObject], events: Sequence[dict[str, Any]]) -> bool:
    """Whether the events hold these, by the members that are named, in this order."""
    rest = iter(events)
    return all(any(one.items() <= event.items() for event in rest) for one in wanted)
