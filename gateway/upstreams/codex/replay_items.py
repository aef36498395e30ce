"""Replay items of the Responses API: which are kept and in which shape, and how they are recognised again.

Pure. Stored items are built anew, with nothing in them but what the next request needs: ids and summaries of
reasoning would only tie it to an account. Whoever reads the store builds them anew once more, so that nothing
else gets from there into a request. The shapes are those of HOME nodes.
"""

import hashlib
import re
from collections.abc import Sequence

from gateway.kernel.json import Json, JsonError, JsonObject, dumps, loads
from gateway.replay.lookups import text_of
from gateway.replay.signatures import is_gpt_signature
from gateway.store.keys import trim

CALLS = frozenset({"function_call", "custom_tool_call"})
OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_ID_CHARS = 64


# -- shapes


def normalised(item: Json) -> JsonObject | None:
    """The item as it is kept; None for one that is not."""
    if not isinstance(item, dict):
        return None
    match type_of(item):
        case "reasoning":
            return _reasoning(item)
        case "function_call":
            return _function_call(item)
        case "custom_tool_call":
            return _custom_tool_call(item)
    return None


def stored(item: Json) -> bytes | None:
    """normalised(), as bytes for the store."""
    kept = normalised(item)
    return None if kept is None else dumps(kept)


def from_store(item: bytes) -> JsonObject | None:
    """None for markers, and for what should not be there."""
    try:
        return normalised(loads(item))
    except JsonError:
        return None


def _reasoning(item: JsonObject) -> JsonObject | None:
    blob = item.get("encrypted_content")
    if not isinstance(blob, str) or blob != trim(blob) or not is_gpt_signature(blob):
        return None
    return {"type": "reasoning", "summary": [], "content": None, "encrypted_content": blob}


def _function_call(item: JsonObject) -> JsonObject | None:
    call_id, name, arguments = _id_of(item), trim(text_of(item.get("name"))), item.get("arguments")
    if not call_id or not name or not isinstance(arguments, str):
        return None
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def _custom_tool_call(item: JsonObject) -> JsonObject | None:
    call_id, name = _id_of(item), trim(text_of(item.get("name")))
    if not call_id or not name or "input" not in item:
        return None
    return {
        "type": "custom_tool_call",
        "status": trim(text_of(item.get("status"))) or "completed",
        "call_id": call_id,
        "name": name,
        "input": item["input"],
    }


# -- recognising


def type_of(item: Json) -> str:
    return trim(text_of(item.get("type"))) if isinstance(item, dict) else ""


def _id_of(item: JsonObject) -> str:
    return trim(text_of(item.get("call_id")))


def call_id_of(item: Json) -> str:
    """As it is written, which an output's call must repeat."""
    return text_of(item.get("call_id")) if isinstance(item, dict) else ""


def comparable_ids(call_id: str) -> tuple[str, ...]:
    """The ids under which a client may know a call: its own, and that id as Messages clients accept it."""
    visible = visible_id(call_id)
    return (call_id,) if visible == call_id else (call_id, visible)


def visible_id(call_id: str) -> str:
    visible = _UNSAFE.sub("_", call_id)
    if len(visible) <= _ID_CHARS:
        return visible
    return f"{visible[:47]}_{hashlib.sha256(visible.encode()).hexdigest()[:16]}"


def is_message(item: Json, *roles: str) -> bool:
    """Whether it is a message of one of these roles; without a type it is a message, too."""
    if not isinstance(item, dict) or type_of(item) not in ("", "message"):
        return False
    return text_of(item.get("role")).lower() in roles


def assistant_fingerprint(item: Json) -> str:
    """Hex SHA-256 of what a model's message says; empty when it is none, says nothing, or not only text."""
    if not isinstance(item, dict) or not is_message(item, "assistant"):
        return ""
    content = item.get("content")
    text = content if isinstance(content, str) else _text_of_parts(content)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() if text else ""


def _text_of_parts(content: Json) -> str:
    """Empty when a part is neither text nor a refusal."""
    texts = []
    for part in content if isinstance(content, list) else ():
        kind = type_of(part)
        if not isinstance(part, dict) or kind not in ("input_text", "output_text", "refusal"):
            return ""
        if kind == "refusal":
            texts.append("\0refusal\0" + text_of(part.get("refusal")))
        else:
            texts.append(text_of(part.get("text")))
    return "".join(texts)


def prefix_fingerprints(items: Sequence[Json]) -> list[str]:
    """Of the first 0, 1, ... all items, each hashed once: a fingerprint finds where an answer began.

    They hold as long as items are serialised as they are now: another order or form of members detaches
    every turn that is stored. Other nodes write other bytes, so turns that they stored are not found here.
    """
    digest = hashlib.sha256()
    found = [digest.hexdigest()]
    for item in items:
        digest.update(b"\0item\0")
        digest.update(dumps(item))
        found.append(digest.hexdigest())
    return found
