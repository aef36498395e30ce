"""Items of a conversation: what goes into a turn and what comes out of it.

An item may carry its Origin: who produced it, with the exact bytes. An origin is only ever sent back to the
executor that produced it.
"""

from typing import Literal, TypeAlias

import msgspec

from gateway.kernel.json import JsonObject

Dialect: TypeAlias = Literal["chat", "responses", "messages", "gemini", "lingma"]
Role: TypeAlias = Literal["system", "developer", "user", "assistant"]
ItemKind: TypeAlias = Literal["message", "reasoning", "tool_call", "opaque"]
MediaKind: TypeAlias = Literal["image", "audio", "video", "file"]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    executor: str
    dialect: Dialect
    id: str | None = None
    signature: str | None = None
    raw: bytes | None = None
    """The item exactly as the upstream sent it."""


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    text: str
    annotations: tuple[JsonObject, ...] = ()
    """Citations, in OpenAI's form; only ever on text that a model wrote."""


class RefusalPart(msgspec.Struct, frozen=True, tag="refusal"):
    text: str


class MediaPart(msgspec.Struct, frozen=True, tag="media", kw_only=True):
    """Content that is no text: by url, by data or by file_id; none of them when only its place is known."""

    kind: MediaKind
    mime_type: str | None = None
    url: str | None = None
    data: str | None = None
    """Base64, as the client sent it."""
    file_id: str | None = None
    name: str | None = None
    detail: str | None = None


Part: TypeAlias = TextPart | RefusalPart | MediaPart


class Message(msgspec.Struct, frozen=True, tag_field="item", tag="message", kw_only=True):
    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    id: str | None = None
    origin: Origin | None = None


class Reasoning(msgspec.Struct, frozen=True, tag_field="item", tag="reasoning", kw_only=True):
    summary: tuple[str, ...] = ()
    text: str = ""
    """The full reasoning where the upstream shows it; the summary is separate."""
    signature: str | None = None
    id: str | None = None
    origin: Origin | None = None


class ToolCall(msgspec.Struct, frozen=True, tag_field="item", tag="tool_call", kw_only=True):
    call_id: str
    name: str
    arguments: str
    """JSON text for a function, free text for a custom tool."""
    kind: Literal["function", "custom"] = "function"
    result: str | None = None
    """Set when the upstream has already run the tool itself."""
    id: str | None = None
    origin: Origin | None = None


class ToolResult(msgspec.Struct, frozen=True, tag_field="item", tag="tool_result", kw_only=True):
    call_id: str
    parts: tuple[Part, ...]
    name: str | None = None
    is_error: bool = False
    id: str | None = None
    origin: Origin | None = None


class OpaqueItem(msgspec.Struct, frozen=True, tag_field="item", tag="opaque", kw_only=True):
    """An item nobody here understands; kept for the dialect that does."""

    dialect: Dialect
    type: str
    payload: JsonObject
    id: str | None = None
    origin: Origin | None = None


Item: TypeAlias = Message | Reasoning | ToolCall | ToolResult | OpaqueItem


def text_of(parts: tuple[Part, ...]) -> str:
    """The text of the parts, joined without a separator; media is left out."""
    return "".join(part.text for part in parts if not isinstance(part, MediaPart))
