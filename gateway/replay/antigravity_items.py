"""Items of a Gemini conversation's reasoning: signatures, and calls with theirs. Pure.

An item says where in the request's contents it belongs, what it signs and what came before. Stored items are
JSON of exactly these members in this order, byte for byte alike on every node that shares them; what another
node wrote otherwise is normalised when it is read. The chain of items as a value in the store begins with a
marker: its generation is another one with every write, so that no value ever comes back, and its branch stays
as long as chains only grow. A marker alone that says deleted is a tombstone. Called by antigravity.py, which
stores chains, and by upstreams/antigravity, which makes and applies them.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import msgspec

from gateway.kernel.ids import new_hex
from gateway.kernel.json import Json, JsonError, JsonObject, dumps, loads
from gateway.replay.limits import MAX_BYTES, MAX_CHAIN_ITEMS, MAX_VALUE_BYTES
from gateway.replay.lookups import text_of
from gateway.replay.values import CorruptValue, decode_items, encode_items, pack_items
from gateway.store.keys import trim

SENTINEL: Final = "skip_thought_signature_validator"
"""Stands where a signature is missing: the upstream then checks none. The one that we send."""
SENTINELS: Final = frozenset({SENTINEL, "context_engineering_is_the_way_to_go"})
MIN_SIGNATURE_CHARS: Final = 16
"""Of a signature that is an item of its own; calls keep shorter ones."""

MARKER: Final = "cpa_antigravity_replay_generation"
_INT64: Final = 2**63

Kind: TypeAlias = Literal["text", "thought"]


class ThoughtSignature(msgspec.Struct, frozen=True, kw_only=True):
    """The signature of a text or a thought."""

    signature: str
    content_index: int | None = None
    part_index: int | None = None
    target_kind: Kind | None = None
    target_hash: str = ""
    """Of the whole text that it signs; empty in items of old nodes, which know the place alone."""
    target_occurrence: int | None = None
    """How many equal texts the content has before it."""
    context_hash: str = ""
    """Of all that came before the content; empty matches everything."""

    def encode(self) -> bytes:
        item: JsonObject = {"type": "thought_signature", "thoughtSignature": self.signature}
        _put_place(item, self.content_index, self.part_index)
        if self.target_kind:
            item["targetKind"] = self.target_kind
        if self.target_hash:
            item["targetHash"] = self.target_hash
        _put_proof(item, self.target_occurrence, self.context_hash)
        return dumps(item)


class CallPart(msgspec.Struct, frozen=True, kw_only=True):
    """A function call, signed or not."""

    name: str
    args: Json
    call_id: str = ""
    """The upstream's own; empty when it gave none."""
    signature: str = ""
    content_index: int | None = None
    part_index: int | None = None
    target_occurrence: int | None = None
    """How many calls with the same name and arguments the content has before it."""
    context_hash: str = ""

    def encode(self) -> bytes:
        item: JsonObject = {"type": "function_call_part"}
        if self.call_id:
            item["call_id"] = self.call_id
        item["name"] = self.name
        item["args"] = self.args
        if self.signature:
            item["thoughtSignature"] = self.signature
        _put_place(item, self.content_index, self.part_index)
        _put_proof(item, self.target_occurrence, self.context_hash)
        return dumps(item)


Item: TypeAlias = ThoughtSignature | CallPart


def _put_place(item: JsonObject, content_index: int | None, part_index: int | None) -> None:
    if content_index is not None:
        item["contentIndex"] = content_index
    if part_index is not None:
        item["partIndex"] = part_index


def _put_proof(item: JsonObject, occurrence: int | None, context_hash: str) -> None:
    if occurrence is not None:
        item["targetOccurrence"] = occurrence
    if context_hash:
        item["contextHash"] = context_hash


# -- one item ---------------------------------------------------------------------------------------------


def normalised(value: Json) -> Item | None:
    """The item that a JSON value means; None for what is none, or not enough of one."""
    if not isinstance(value, dict):
        return None
    match trim(text_of(value.get("type"))):
        case "thought_signature":
            return _thought_signature(value)
        case "function_call_part":
            return _call_part(value)
        case _:
            return None


def _thought_signature(value: JsonObject) -> ThoughtSignature | None:
    signature = trim(text_of(value.get("thoughtSignature"))) or trim(text_of(value.get("thought_signature")))
    if len(signature) < MIN_SIGNATURE_CHARS or signature in SENTINELS:
        return None
    kind = trim(text_of(value.get("targetKind")))
    return ThoughtSignature(
        signature=signature,
        content_index=_index(value.get("contentIndex")),
        part_index=_index(value.get("partIndex")),
        target_kind="text" if kind == "text" else "thought" if kind == "thought" else None,
        target_hash=trim(text_of(value.get("targetHash"))),
        target_occurrence=_occurrence(value.get("targetOccurrence")),
        context_hash=trim(text_of(value.get("contextHash"))),
    )


def _call_part(value: JsonObject) -> CallPart | None:
    call_id = trim(text_of(value.get("call_id"))) or trim(text_of(value.get("id")))
    name = trim(text_of(value.get("name")))
    held = value
    if not name or "args" not in value:
        nested = value.get("functionCall")
        if not isinstance(nested, dict):
            return None
        call_id = call_id or trim(text_of(nested.get("id")))
        name = name or trim(text_of(nested.get("name")))
        held = value if "args" in value else nested
    if not name or "args" not in held:
        return None
    signature = trim(text_of(value.get("thoughtSignature")))
    return CallPart(
        name=name,
        args=held["args"],
        call_id=call_id,
        signature="" if signature in SENTINELS else signature,
        content_index=_index(value.get("contentIndex")),
        part_index=_index(value.get("partIndex")),
        target_occurrence=_occurrence(value.get("targetOccurrence")),
        context_hash=trim(text_of(value.get("contextHash"))),
    )


def _index(value: Json) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return max(-_INT64, min(_INT64 - 1, int(value)))


def _occurrence(value: Json) -> int | None:
    index = _index(value)
    return index if index is not None and index >= 0 else None


# -- a chain as a value -----------------------------------------------------------------------------------


class Chain(msgspec.Struct, frozen=True):
    """What a value says."""

    items: tuple[Item, ...] = ()
    encoded: tuple[bytes, ...] = ()
    """The items as we would write them, which is how chains are compared."""
    branch: str = ""
    """Empty in values of old nodes, which wrote no marker."""
    deleted: bool = False


def new_branch() -> str:
    return new_hex(32)


def encoded_items(items: Sequence[Item]) -> tuple[bytes, ...] | None:
    """None when they are too many or too large together: a chain is stored whole or not at all, for a gap
    would break the order of its signatures.
    """
    if len(items) > MAX_CHAIN_ITEMS:
        return None
    try:
        encoded = tuple(item.encode() for item in items)
    except TypeError:  # arguments nested deeper than JSON is written
        return None
    return encoded if sum(map(len, encoded)) <= MAX_BYTES else None


def chain_value(encoded: Iterable[bytes], branch: str, *, packed: bool = False) -> bytes:
    write = pack_items if packed else encode_items
    return write([_marker(branch), *encoded])


def tombstone_value(branch: str = "") -> bytes:
    """On a branch of its own unless said: the chain that ended here has no descendants."""
    return encode_items([_marker(branch or new_branch(), deleted=True)])


def _marker(branch: str, *, deleted: bool = False) -> bytes:
    marker: JsonObject = {"type": MARKER, "generation": new_hex(32), "branch": branch}
    if deleted:
        marker["deleted"] = True
    return dumps(marker)


def chain_of(value: bytes) -> Chain | None:
    """None for a value that is no chain, or too large; one item that is none spoils it all."""
    if len(value) > MAX_VALUE_BYTES:
        return None
    if len(value) <= _SHORT and value.startswith(b"[") and (tombstone := _tombstone(value)) is not None:
        return tombstone
    return _read_chain(value)


def _read_chain(value: bytes) -> Chain | None:
    branch, deleted = "", False
    try:
        raw = [loads(item) for item in decode_items(value)]
        if raw and isinstance(marker := raw[0], dict) and trim(text_of(marker.get("type"))) == MARKER:
            branch, deleted = trim(text_of(marker.get("branch"))), marker.get("deleted") is True
            raw = raw[1:]
        items = tuple(item for item in map(normalised, raw) if item is not None)
    except (CorruptValue, JsonError, TypeError):  # TypeError: something nested deeper than JSON is written
        return None
    encoded = encoded_items(items)
    if encoded is None or len(items) != len(raw):
        return None
    return Chain(items, encoded, branch, deleted)


_SHORT: Final = 256
"""Bytes of a value that may be a tombstone."""


@lru_cache(maxsize=1024)
def _tombstone(value: bytes) -> Chain | None:
    """Kept, for it is read with every turn of who signs nothing; None for any other value."""
    chain = _read_chain(value)
    return chain if chain is not None and chain.deleted and not chain.items else None
