"""What was asked and answered, as attributes of an attempt's span: where the standard opt-in says so. Pure.

In the form of the GenAI conventions: JSON, one attribute each for system instructions, input and output. Not
here: whether anybody wants it (telemetry/setup.py). Media is named and never copied, encrypted reasoning and
what nobody here understands is left out, and what has the shape of a credential is redacted.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.telemetry.redact import redact_text
from gateway.turn.items import Item, MediaPart, Message, Part, Reasoning, ToolCall, ToolResult, text_of

VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_ON_SPANS = frozenset({"true", "span_only", "span_and_event"})
"""`true` is its older form; there are no events here."""

MAX_CHARACTERS: Final = 16_384
"""Of each attribute. A collector takes 20 MiB at once, and the exporter sends up to 512 spans."""
_FRAME_CHARACTERS = 32
"""What a part costs that says nothing: their number is bounded with their text."""
CUT: Final = "gateway.content.cut"


def is_wanted(environ: Mapping[str, str]) -> bool:
    return environ.get(VARIABLE, "").strip().lower() in _ON_SPANS


class _Room:
    """What one attribute may still take."""

    def __init__(self) -> None:
        self._left = MAX_CHARACTERS
        self.cut = False

    def begin(self) -> bool:
        """Whether there is room for another part."""
        if self._left <= _FRAME_CHARACTERS:
            self.cut = True
            return False
        self._left -= _FRAME_CHARACTERS
        return True

    def take(self, text: str) -> str:
        """The text, or its beginning."""
        taken = text[: self._left]
        self.cut = self.cut or len(taken) < len(text)
        self._left -= len(taken)
        # Half a surrogate pair would be refused where it is written; no turn may end by that.
        return redact_text(taken.encode(errors="replace").decode())


def asked(items: Iterable[Item]) -> dict[str, str | bool]:
    """Attributes for what a turn asks. Where it is too long its newest messages stay."""
    system, room = _Room(), _Room()
    instructions: list[Json] = []
    messages: list[Json] = []
    for item in reversed(tuple(items)):
        if isinstance(item, Message) and item.role in ("system", "developer"):
            continue
        if parts := _parts(item, room):
            messages.append({"role": _role(item), "parts": parts})
    for item in items:
        if isinstance(item, Message) and item.role in ("system", "developer"):
            instructions.extend(_parts(item, system))
    attributes = {gen_ai.GEN_AI_INPUT_MESSAGES: _text(messages[::-1])}
    if instructions:
        attributes[gen_ai.GEN_AI_SYSTEM_INSTRUCTIONS] = _text(instructions)
    return _marked(attributes, system, room)


def answered(items: Iterable[Item], finish: str) -> dict[str, str | bool]:
    """Attributes for the items of an answer that were complete. Where it is too long its beginning stays."""
    room = _Room()
    parts = [part for item in items for part in _parts(item, room)]
    if not parts:
        return {}
    message: JsonObject = {"role": "assistant", "parts": parts}
    if finish:
        message["finish_reason"] = finish
    return _marked({gen_ai.GEN_AI_OUTPUT_MESSAGES: _text([message])}, room)


def _marked(attributes: Mapping[str, str], *rooms: _Room) -> dict[str, str | bool]:
    return {**attributes, CUT: True} if any(room.cut for room in rooms) else {**attributes}


def _text(value: list[Json]) -> str:
    return dumps(value).decode()


def _role(item: Item) -> str:
    match item:
        case Message():
            return item.role
        case ToolResult():
            return "tool"
        case _:
            return "assistant"


def _parts(item: Item, room: _Room) -> list[Json]:
    match item:
        case Message():
            return [_part(part, room) for part in item.parts if room.begin()]
        case Reasoning() if text := item.text or "\n".join(item.summary):
            return [{"type": "reasoning", "content": room.take(text)}] if room.begin() else []
        case ToolCall() if room.begin():
            head = _call("tool_call", item.call_id, room)
            return [{**head, "name": room.take(item.name), "arguments": room.take(item.arguments)}]
        case ToolResult() if room.begin():
            head = _call("tool_call_response", item.call_id, room)
            return [{**head, "response": room.take(text_of(item.parts))}]
        case _:
            return []


def _call(kind: str, call_id: str, room: _Room) -> JsonObject:
    return {"type": kind, "id": room.take(call_id)}


def _part(part: Part, room: _Room) -> Json:
    if isinstance(part, MediaPart):
        return {"type": "blob", "modality": part.kind, "mime_type": room.take(part.mime_type or "")}
    return {"type": "text", "content": room.take(part.text)}
