"""Items of a turn to `systemInstruction` and `contents` of a Gemini request. Pure.

The upstream knows a user and a model who speak in turns. What follows each other by one of them becomes one
content; responses of functions are the user's, and stand first in it, for the upstream looks for them right
behind the calls. Nothing is empty: neither a content, nor its parts, nor the list. A signature goes out only
where it belongs: with an origin of this executor, or with the shape of one of Gemini's.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple, assert_never

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject
from gateway.turn.items import (
    Item,
    MediaKind,
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Part,
    Reasoning,
    ToolCall,
    ToolResult,
)
from gateway.turn.tools import arguments_object, value_or_text
from gateway.upstreams.antigravity.names import is_made_id, upstream_name
from gateway.upstreams.antigravity.signatures import gemini_signature_in

UNKNOWN: Final = "unknown"
"""Name of a response whose call nobody has seen; replay may know it."""
BLANK: Final = " "
"""What a user says who has to say something first."""

_BASE64_HEADS: Final = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("JVBERi0", "application/pdf"),
    ("SUQz", "audio/mp3"),
    ("T2dnUw", "audio/ogg"),
    ("ZkxhQ", "audio/flac"),
)
_SUFFIXES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "heic": "image/heic",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "json": "application/json",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
}
_KINDS: Final[dict[MediaKind, str]] = {
    "image": "image/png",
    "audio": "audio/wav",
    "video": "video/mp4",
    "file": "application/octet-stream",
}


class History(NamedTuple):
    system: JsonObject | None
    contents: list[Json]


def build_history(items: Sequence[Item], *, executor: str, signatures: bool = True) -> History:
    """signatures: what clients brought of them goes out. Raises InvalidRequest for what cannot be sent."""
    system, rest = _split(items)
    builder = _Builder(executor, signatures=signatures)
    for item in rest:
        builder.add(item)
    if not builder.contents:
        # Nobody has said anything but the instructions: then they are what the model is asked.
        said = system or [{"text": BLANK}]
        return History(None, [{"role": "user", "parts": said}])
    return History({"parts": system} if system else None, list(builder.contents))


def with_user_first(contents: list[Json]) -> list[Json]:
    """A conversation that the model begins is refused."""
    first = contents[0] if contents else None
    if isinstance(first, dict) and first.get("role", "user") in ("user", "function"):
        return contents
    return [{"role": "user", "parts": [{"text": BLANK}]}, *contents]


def _split(items: Sequence[Item]) -> tuple[list[Json], Sequence[Item]]:
    """What the conversation begins with as a system is its instruction."""
    said: list[Json] = []
    for number, item in enumerate(items):
        if not (isinstance(item, Message) and item.role in ("system", "developer")):
            return said, items[number:]
        said += [part_out(part) for part in item.parts if isinstance(part, MediaPart) or part.text]
    return said, ()


class _Builder:
    def __init__(self, executor: str, *, signatures: bool) -> None:
        self.contents: list[JsonObject] = []
        self._executor = executor
        self._signatures = signatures
        self._names: dict[str, str] = {}
        """Of calls, by their ids."""
        self._numbers: dict[str, int] = {}
        """Of calls, by their ids: the order in which they were made."""
        self._given: list[int] = []
        """Which calls have their responses in the content that is being said, by that order."""

    def add(self, item: Item) -> None:
        match item:
            case Message():
                self._message(item)
            case Reasoning():
                self._reasoning(item)
            case ToolCall():
                self._call(item)
            case ToolResult():
                self._result(item)
            case OpaqueItem():
                pass  # a loss; see request.losses_of
            case _:
                assert_never(item)

    def _message(self, message: Message) -> None:
        model = message.role == "assistant"
        parts = [part_out(part) for part in message.parts if isinstance(part, MediaPart) or part.text]
        if parts and (signature := self._signed(message.origin)) and "text" in parts[-1]:
            parts[-1] = {**parts[-1], "thoughtSignature": signature}
        for part in parts:
            self._part("model" if model else "user", part)

    def _reasoning(self, item: Reasoning) -> None:
        """Thoughts of nobody's are left out: another model's would be taken for its own."""
        signature = self._signed(item.origin)
        if signature is None and self._signatures:
            signature = gemini_signature_in(item.signature or "")
        if signature:
            text = item.text or "\n\n".join(item.summary)
            self._part("model", {"text": text, "thought": True, "thoughtSignature": signature})

    def _call(self, call: ToolCall) -> None:
        name = upstream_name(call.name)
        self._names.setdefault(call.call_id, name)
        self._numbers.setdefault(call.call_id, len(self._numbers))
        part: JsonObject = {
            "functionCall": {**_id(call.call_id), "name": name, "args": arguments_object(call)},
        }
        if (signature := self._signed(call.origin)) is not None:
            part["thoughtSignature"] = signature
        self._part("model", part)

    def _result(self, result: ToolResult) -> None:
        """Behind the responses to earlier calls, and in front of all else."""
        name = self._names.get(result.call_id) or upstream_name(result.name or UNKNOWN)
        response: JsonObject = {**_id(result.call_id), "name": name, "response": _response(result)}
        parts = self._parts("user")
        number = self._numbers.get(result.call_id, len(self._numbers))
        place = bisect_right(self._given, number)
        self._given.insert(place, number)
        parts.insert(place, {"functionResponse": response})
        parts += [part_out(part) for part in result.parts if isinstance(part, MediaPart)]

    def _signed(self, origin: Origin | None) -> str | None:
        if not self._signatures or origin is None or origin.executor != self._executor:
            return None
        return origin.signature

    def _part(self, role: str, part: JsonObject) -> None:
        self._parts(role).append(part)

    def _parts(self, role: str) -> list[Json]:
        """Of the content that is being said."""
        last = self.contents[-1] if self.contents else None
        if last is None or last["role"] != role:
            last = {"role": role, "parts": []}
            self.contents.append(last)
            self._given = []
        parts = last["parts"]
        assert isinstance(parts, list)
        return parts


# -- calls and responses ----------------------------------------------------------------------------------


def _id(call_id: str) -> JsonObject:
    return {} if is_made_id(call_id) else {"id": call_id}


def _response(result: ToolResult) -> JsonObject:
    """The object that a tool gave back, or its text in one."""
    text = "\n".join(part.text for part in result.parts if not isinstance(part, MediaPart))
    if result.is_error:
        return {"error": text}
    if text.lstrip().startswith("{"):
        value = value_or_text(text)
        if isinstance(value, dict):
            return value
    return {"output": text}


# -- parts ------------------------------------------------------------------------------------------------


def part_out(part: Part) -> JsonObject:
    """Raises InvalidRequest for a file that only somebody else has."""
    if not isinstance(part, MediaPart):
        return {"text": part.text}
    if part.data is not None:
        return {"inlineData": {"mimeType": _mime_type(part), "data": part.data}}
    if part.url is not None:
        return {"fileData": {"mimeType": _mime_type(part), "fileUri": part.url}}
    if part.file_id is not None:
        raise InvalidRequest(
            f"The {part.kind} '{part.file_id[:80]}' is stored elsewhere, where this model cannot read it; "
            "please send its content",
            code="unsupported_value",
        )
    return {"text": f"[{part.kind}]"}


def _mime_type(part: MediaPart) -> str:
    """As the client says it, else as the content or the address shows it."""
    if part.mime_type:
        return part.mime_type
    if part.data is not None:
        for head, mime_type in _BASE64_HEADS:
            if part.data.startswith(head):
                return mime_type
        if part.data.startswith("UklGR"):  # RIFF, whose form is told behind its length
            return "image/webp" if part.kind == "image" else "audio/wav"
    path = (part.url or "").partition("?")[0].partition("#")[0]
    for name in (part.name or "", path):
        if mime_type := _SUFFIXES.get(name.rpartition(".")[2].lower(), ""):
            return mime_type
    return _KINDS[part.kind]
