"""What a turn's items are in Gemini: parts, the finish reason, the usage, grounding, the whole answer. Pure.

Called by encode.py, for what a stream says whole, and for answers that are not streamed.

Thoughts are shown to clients that asked for them (`includeThoughts`) and to nobody else, as Google's API
does it: simple programs join the texts of all parts. A signature goes with the part that it belongs to; that
of a reasoning goes with the next part, where Google puts it, because clients do not send thoughts back. A
call that the upstream has run itself is left out: every client would run it again.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, cast

from gateway.kernel.ids import derived_hex
from gateway.kernel.json import Json, JsonError, JsonObject, loads
from gateway.turn.events import Finish
from gateway.turn.fold import TurnResult
from gateway.turn.items import (
    MediaPart,
    Message,
    OpaqueItem,
    Part,
    Reasoning,
    RefusalPart,
    TextPart,
    ToolCall,
)
from gateway.turn.request import Turn
from gateway.turn.tools import arguments_object
from gateway.turn.usage import Usage
from gateway.wire.gemini import (
    CandidateOut,
    FinishReason,
    GenerateResponse,
    GroundingChunk,
    GroundingMetadata,
    GroundingSupport,
    PartOut,
    UsageOut,
)

_FINISH: Final[dict[Finish, FinishReason]] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "paused": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}


def build_response(turn: Turn, result: TurnResult) -> GenerateResponse:
    """The answer to a request that did not stream; for a result that ended well."""
    parts = Parts()
    grounding = Grounding()
    thoughts = shows_thoughts(turn)
    refused = False
    cut_short = result.items[-1] if result.items and result.finish == "length" else None
    for item in result.items:
        match item:
            case Message():
                for part in item.parts:
                    if (said := part_out(part)) is not None:
                        parts.add(said)
                parts.sign(item.origin.signature if item.origin else None)
                grounding.message(item.parts)
                refused = refused or is_refusal(item.parts)
            case Reasoning():
                if thoughts and (text := reasoning_text(item)):
                    parts.add({"text": text, "thought": True})
                parts.sign_next(item.signature)
            case ToolCall(result=None) if is_whole(item) or item is not cut_short:
                parts.add(call_part(item, wire_signature(item.origin.signature if item.origin else None)))
            case OpaqueItem(dialect="gemini"):
                parts.add(opaque_part(item))
            case _:
                pass
    candidate: CandidateOut = {
        "content": {"role": "model", "parts": parts.all()},
        "finishReason": finish_reason(result.finish or "stop", refused=refused),
        "index": 0,
    }
    if (metadata := grounding.metadata()) is not None:
        candidate["groundingMetadata"] = metadata
    answer: GenerateResponse = {
        "candidates": [candidate],
        "modelVersion": turn.model,
        "responseId": response_id(turn),
    }
    if result.usage is not None:
        answer["usageMetadata"] = usage_out(result.usage)
    return answer


def shows_thoughts(turn: Turn) -> bool:
    """Google's clients do not get them unasked."""
    config = _member(turn.raw.body, "generationConfig", "generation_config")
    thinking = _member(config, "thinkingConfig", "thinking_config")
    return _value(thinking, "includeThoughts", "include_thoughts") is True


def _member(value: JsonObject, *names: str) -> JsonObject:
    found = _value(value, *names)
    return found if isinstance(found, dict) else {}


def _value(value: JsonObject, *names: str) -> Json:
    return next((value[name] for name in names if name in value), None)


def response_id(turn: Turn) -> str:
    return derived_hex(turn.id, "gemini")


def finish_reason(finish: Finish, *, refused: bool) -> FinishReason:
    """A refusal is text here, which this word tells apart from an answer."""
    reason = _FINISH[finish]
    return "SAFETY" if refused and reason == "STOP" else reason


def usage_out(usage: Usage) -> UsageOut:
    """Google counts thoughts apart from the tokens of the answer."""
    thoughts = usage.reasoning_tokens or 0
    out: UsageOut = {
        "promptTokenCount": usage.input_tokens or 0,
        "candidatesTokenCount": max(0, (usage.output_tokens or 0) - thoughts),
        "totalTokenCount": usage.total_tokens or 0,
    }
    if usage.reasoning_tokens is not None:
        out["thoughtsTokenCount"] = thoughts
    if usage.cached_tokens is not None:
        out["cachedContentTokenCount"] = usage.cached_tokens
    return out


# -- parts ------------------------------------------------------------------------------------------------


class Parts:
    """The parts of a whole answer: texts that follow each other are one, as clients join a stream's."""

    def __init__(self) -> None:
        self._parts: list[PartOut] = []
        self._pending: str | None = None

    def add(self, part: PartOut) -> None:
        if self._pending is not None and "thought" not in part and "thoughtSignature" not in part:
            part = {**part, "thoughtSignature": self._pending}
            self._pending = None
        last = self._parts[-1] if self._parts else None
        if last is None or not _continues(last, part):
            self._parts.append(part)
            return
        last["text"] += part["text"]
        if "thoughtSignature" in part:
            last["thoughtSignature"] = part["thoughtSignature"]

    def sign(self, signature: str | None) -> None:
        """For the part that came last."""
        if (text := wire_signature(signature)) is not None:
            self.add({"text": "", "thoughtSignature": text})

    def sign_next(self, signature: str | None) -> None:
        if (text := wire_signature(signature)) is not None:
            self._pending = text

    def all(self) -> list[PartOut]:
        """Never empty: the SDKs take a content without parts for a broken one."""
        if self._pending is not None or not self._parts:
            self.add({"text": ""})
        return self._parts


def _continues(last: PartOut, part: PartOut) -> bool:
    if "text" not in last or "text" not in part or last.get("thought") != part.get("thought"):
        return False
    return "thoughtSignature" not in last or "thoughtSignature" not in part


def part_out(part: Part) -> PartOut | None:
    match part:
        case MediaPart(data=str(data)):
            mime_type = part.mime_type or "application/octet-stream"
            return {"inlineData": {"mimeType": mime_type, "data": data}}
        case MediaPart(url=str(url)):
            return {"fileData": {"mimeType": part.mime_type or "application/octet-stream", "fileUri": url}}
        case MediaPart():
            return None
        case TextPart() | RefusalPart():
            return {"text": part.text} if part.text else None


def opaque_part(item: OpaqueItem) -> PartOut:
    """A part of Gemini's own that nobody here understands, as it came."""
    return cast(PartOut, item.payload)


def call_part(call: ToolCall, signature: str | None) -> PartOut:
    """`signature` as the wire wants it."""
    part: PartOut = {"functionCall": {"id": call.call_id, "name": call.name, "args": arguments_object(call)}}
    if signature is not None:
        part["thoughtSignature"] = signature
    return part


def is_whole(call: ToolCall) -> bool:
    """Whether the arguments can be read; those of a custom tool are text."""
    if call.kind == "custom" or not call.arguments.strip():
        return True
    try:
        loads(call.arguments)
    except JsonError:
        return False
    return True


def is_refusal(parts: Iterable[Part]) -> bool:
    return any(isinstance(part, RefusalPart) for part in parts)


def reasoning_text(item: Reasoning) -> str:
    """The full text where the upstream shows it, else the summary in paragraphs."""
    return item.text or "\n\n".join(item.summary)


_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def wire_signature(signature: str | None) -> str | None:
    """In standard base64, which SDKs decode and fail on when it is not; None for what is no base64 at all."""
    if not signature:
        return None
    text = signature.replace("-", "+").replace("_", "/").rstrip("=")
    if len(text) % 4 == 1 or not _BASE64.issuperset(text):
        return None
    return text + "=" * (-len(text) % 4)


# -- grounding --------------------------------------------------------------------------------------------


class Grounding:
    """Citations of web pages, with places counted in bytes of the whole text, as Google counts."""

    def __init__(self) -> None:
        self._before = 0
        self._chunks: list[GroundingChunk] = []
        self._supports: list[GroundingSupport] = []

    def message(self, parts: Sequence[Part]) -> None:
        for part in parts:
            if isinstance(part, TextPart):
                for citation in part.annotations:
                    self.cite(part.text, citation)
                self._before += len(part.text.encode())
            elif isinstance(part, RefusalPart):
                self._before += len(part.text.encode())

    def cite(self, text: str, citation: JsonObject) -> None:
        uri, title = citation.get("url"), citation.get("title")
        if not is_citation(citation) or not isinstance(uri, str):
            return
        self._chunks.append({"web": {"uri": uri, "title": title if isinstance(title, str) else uri}})
        start, end = citation.get("start_index"), citation.get("end_index")
        if isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text):
            ahead = self._before + len(text[:start].encode())
            cited = text[start:end]
            self._supports.append(
                {
                    "segment": {
                        "startIndex": ahead,
                        "endIndex": ahead + len(cited.encode()),
                        "text": cited,
                    },
                    "groundingChunkIndices": [len(self._chunks) - 1],
                }
            )

    def metadata(self) -> GroundingMetadata | None:
        if not self._chunks:
            return None
        return {"groundingChunks": self._chunks, "groundingSupports": self._supports}


def is_citation(annotation: JsonObject) -> bool:
    """Whether grounding can say it."""
    return annotation.get("type") == "url_citation" and isinstance(annotation.get("url"), str)


def annotations_of(parts: Iterable[Part]) -> Iterator[JsonObject]:
    for part in parts:
        if isinstance(part, TextPart):
            yield from part.annotations
