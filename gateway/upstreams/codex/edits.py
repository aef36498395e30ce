"""The body of a Responses client made fit for an upstream, by named edits in a fixed order. Pure.

Whatever the client says that nobody here knows goes upstream as it came, and where no edit applies the body
goes out unchanged. Reasoning is only given back where it can have come from; a body that was refused for its
reasoning is sent once more without any.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from gateway.kernel.json import Json, JsonObject
from gateway.replay.signatures import is_gpt_signature
from gateway.upstreams.codex.item_ids import with_sound_ids
from gateway.wire.responses import COMPACTED, CONTEXT_GONE

CLIENTS_OWN: Final = "internal_chat_message_metadata_passthrough"
"""A field of Codex's items that is meant for nobody else."""
SOCKETS_OWN: Final = "generate"
"""A field of requests that only means something on a WebSocket."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How this upstream wants this attempt's request."""

    model: str
    stream: bool | None
    """None where the endpoint has no streams."""
    drop: tuple[str, ...] = ()
    """Fields that this upstream refuses."""
    reasoning: bool = True
    """The model reasons, and so has no sampling."""
    compaction: bool = False
    """The upstream compacts conversations itself, and reads what it has compacted."""
    fresh: bool = False
    """Without anything that only an upstream knows: what it has sealed, what it has stored."""


Edit = Callable[[JsonObject, Shape], JsonObject]


def edited(body: JsonObject, shape: Shape) -> JsonObject:
    """The very same object when no edit applies."""
    for edit in EDITS:
        body = edit(body, shape)
    return body


def without_fields(body: JsonObject, shape: Shape) -> JsonObject:
    dropped = {SOCKETS_OWN, *shape.drop} & body.keys()
    return {name: value for name, value in body.items() if name not in dropped} if dropped else body


def _model(body: JsonObject, shape: Shape) -> JsonObject:
    return body if body.get("model") == shape.model else {**body, "model": shape.model}


def _stream(body: JsonObject, shape: Shape) -> JsonObject:
    if shape.stream is None:
        return {name: value for name, value in body.items() if name != "stream"} if "stream" in body else body
    return body if bool(body.get("stream")) is shape.stream else {**body, "stream": shape.stream}


def _items(body: JsonObject, shape: Shape) -> JsonObject:
    given = body.get("input")
    if not isinstance(given, list):
        return body
    stored = body.get("store") is not False
    items = [_item(item, shape, stored=stored) if isinstance(item, dict) else item for item in given]
    if not shape.fresh and all(new is old for new, old in zip(items, given, strict=True)):
        return body
    unbound = shape.fresh or any(
        new is None and isinstance(old, dict) and old.get("type") == "reasoning"
        for new, old in zip(items, given, strict=True)
    )
    kept: list[Json] = [_unbound(item) if unbound else item for item in items if item is not None]
    return {**body, "input": kept}


def _item(item: JsonObject, shape: Shape, *, stored: bool) -> JsonObject | None:
    """None for an item that had better not be there."""
    if CLIENTS_OWN in item:
        item = {name: value for name, value in item.items() if name != CLIENTS_OWN}
    kind = item.get("type")
    if kind == "reasoning":
        return _reasoning(item, shape, stored=stored)
    if kind in COMPACTED and item.get("encrypted_content") is not None:
        return item if shape.compaction and not shape.fresh else _note()
    if kind == "item_reference":
        return None  # to an item of the same input: the parser lets no other pass
    return item


def _reasoning(item: JsonObject, shape: Shape, *, stored: bool) -> JsonObject | None:
    """Without a blob that this upstream did not write. What is left without any content goes, too: an id
    alone names something that was never stored.
    """
    blob = item.get("encrypted_content")
    if not shape.fresh:
        if isinstance(blob, str) and is_gpt_signature(blob):
            return item
        if stored:
            kept = {name: value for name, value in item.items() if name != "encrypted_content"}
            return kept if "encrypted_content" in item else item
    if item.get("summary") or item.get("content"):
        return {name: value for name, value in item.items() if name not in ("encrypted_content", "id")}
    return None


def _unbound(item: Json) -> Json:
    """Without its id, by which the upstream would know that it followed from reasoning that is missing."""
    if not isinstance(item, dict) or item.get("type", "message") not in _FOLLOWS or "id" not in item:
        return item
    return {name: value for name, value in item.items() if name != "id"}


_FOLLOWS: Final = frozenset({"message", "function_call", "custom_tool_call"})


def _note() -> JsonObject:
    return {
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": CONTEXT_GONE}],
    }


def _ids(body: JsonObject, shape: Shape) -> JsonObject:
    given = body.get("input")
    if not isinstance(given, list):
        return body
    items = with_sound_ids(given)
    if items is given:
        return body
    return {**body, "input": [_unbound(item) for item in items] if len(items) < len(given) else items}


EDITS: Final[tuple[Edit, ...]] = (_model, _stream, without_fields, _items, _ids)


def has_sealed(body: JsonObject) -> bool:
    """Whether the input holds anything that only an upstream can open."""
    return any(isinstance(item.get("encrypted_content"), str) for item in _objects(body))


def has_stored(body: JsonObject) -> bool:
    """Whether the input names reasoning by an id alone, which only who has stored it can know."""
    return any(item.get("type") == "reasoning" and item.get("id") is not None for item in _objects(body))


def _objects(body: JsonObject) -> Iterator[JsonObject]:
    given = body.get("input")
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict):
            yield item
