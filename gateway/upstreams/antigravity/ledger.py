"""What an answer leaves to be replayed: its signatures and calls, behind those of the request. Pure.

One ledger for each attempt, made of the payload exactly as it was sent, so that it holds the whole chain and
nothing that the upstream has not seen. It is fed the chunks of a stream, or a whole answer. Signatures of
texts come before the text, on any of its chunks, or after it on a part of their own; clients see texts whole,
so what is remembered is which whole text a signature belongs to. How the parts of an answer are spread over
chunks makes no difference. Not the store: see replay/antigravity.py for what becomes of the chain.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity_items import (
    MIN_SIGNATURE_CHARS,
    CallPart,
    Item,
    Kind,
    ThoughtSignature,
)
from gateway.replay.limits import MAX_BYTES, MAX_CHAIN_ITEMS
from gateway.replay.lookups import at, text_of
from gateway.store.keys import trim
from gateway.upstreams.antigravity.history import (
    Contexts,
    args_of,
    call_of,
    canonical,
    contents_of,
    id_of,
    name_of,
    parts_of,
    request_of,
    response_of,
    role_of,
    segment_of,
    signature_of,
    text_hash,
)

_CARRIER_MEMBERS = {"text", "thought", "thoughtSignature", "thought_signature", "extra_content"}

_Last: TypeAlias = Literal["", "text", "thought", "call", "other"]


class _At(NamedTuple):
    """Where an item belongs."""

    content: int
    part: int
    occurrence: int
    context_hash: str


class _Segment:
    """A text or a thought, as far as it was said without a break."""

    def __init__(self, kind: Kind, part_index: int) -> None:
        self.kind: Kind = kind
        self.part_index = part_index
        """Of its first chunk."""
        self.pieces: list[str] = []
        self.signatures: list[str] = []
        """Once there is one, the text goes on only under the same."""

    @property
    def value(self) -> tuple[Kind, str]:
        """By which equal texts are known."""
        return self.kind, text_hash(self.kind, "".join(self.pieces))


class _Chain:
    """The items, until they are too many or too large for any chain."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.overflow = False
        self._bytes = 0

    def add(self, item: Item | None) -> None:
        if item is None or self.overflow:
            return
        size = _size(item)
        self._bytes += size or 0
        self.overflow = size is None or self._bytes > MAX_BYTES or len(self.items) >= MAX_CHAIN_ITEMS
        self.items.append(item)

    def sign_last_call(self, signature: str) -> None:
        last = self.items[-1] if self.items else None
        if isinstance(last, CallPart) and not last.signature and not self.overflow:
            self._bytes -= _size(self.items.pop()) or 0
            self.add(msgspec.structs.replace(last, signature=signature))


def _size(item: Item) -> int | None:
    """None for arguments nested deeper than JSON is written."""
    try:
        return len(item.encode())
    except TypeError:
        return None


class Ledger:
    def __init__(self, payload: JsonObject) -> None:
        contents = contents_of(payload)
        self._contexts = Contexts(request_of(payload), contents)
        self._chain = _Chain()
        self._content_index, self._part_index = _next_slot(contents)
        self._texts: defaultdict[tuple[Kind, str], int] = defaultdict(int)
        """How many texts of the content that the answer is are equal."""
        self._uncounted: list[_Segment] = []
        """Texts that are yet to be counted there: where nothing is signed, nobody asks."""
        self._calls: defaultdict[tuple[str, bytes], int] = defaultdict(int)
        self._seen_calls: set[tuple[str, bytes, str, str | int]] = set()
        self._seen: set[str] = set()
        """Signatures that have their place."""
        self._pending: list[tuple[str, Kind | None]] = []
        """Signatures that came before what they sign, and of which kind that is, where they say so."""
        self._segment: _Segment | None = None
        self._last: _Last = ""
        self._terminal = False
        for index, content in enumerate(contents):
            self._note(index, content)

    def observe(self, chunk: JsonObject) -> None:
        """A chunk of a stream, or a whole answer; with or without its envelope."""
        candidates = at(chunk, "response", "candidates") or chunk.get("candidates")
        first = candidates[0] if isinstance(candidates, list) and candidates else None
        self._terminal = self._terminal or bool(trim(text_of(at(first, "finishReason"))))
        for part in parts_of(at(first, "content")):
            if self._chain.overflow:
                return
            try:
                self._observe(part)
            except InvalidRequest:  # arguments that could not be sent back
                self._chain.overflow = True
            self._part_index += 1

    def observe_text(self, text: str) -> None:
        """A chunk of a stream that holds nothing but this."""
        if not self._chain.overflow:
            if text:
                self._observe_text("text", text, "")
            self._part_index += 1

    def chain(self) -> Sequence[Item] | None:
        """What to store, once the stream has ended without an error. None when the answer is not complete and
        leaves nothing; empty when nothing can be replayed from here on.
        """
        if not self._terminal:
            return None
        if self._segment is not None and not self._segment.signatures:
            self._segment.signatures = [signature for signature, kind in self._pending if kind is None]
        self._pending = [held for held in self._pending if held[1] is not None]
        self._close()
        return () if self._chain.overflow else tuple(self._chain.items)

    # the request

    def _note(self, index: int, content: Json) -> None:
        parts = parts_of(content)
        if index == self._content_index:
            for kind, text in _segments(parts):
                self._texts[kind, text_hash(kind, text)] += 1
            for call in filter(None, map(call_of, parts)):
                self._calls[_value(call)] += 1
        if role_of(content) == "model" and any(call_of(part) or signature_of(part) for part in parts):
            self._note_model(index, parts)

    def _note_model(self, index: int, parts: Sequence[Json]) -> None:
        context_hash = self._contexts.before(index)
        calls: Counter[tuple[str, bytes]] = Counter()
        texts: Counter[tuple[Kind, str]] = Counter()
        target: tuple[tuple[Kind, str], _At] | None = None
        """The text that a signature here is for: one that says nothing itself signs the part before it."""
        after_call = False
        for number, part in enumerate(parts):
            signature = signature_of(part)
            call, segment = call_of(part), segment_of(part)
            says = segment is not None and bool(segment[1])
            if call is not None:
                value = _value(call)
                self._chain.add(_call(call, signature, _At(index, number, calls[value], context_hash)))
                calls[value] += 1
            if segment is not None:
                if says or (target is None and not after_call):
                    target = segment, _At(index, number, texts[segment], context_hash)
                texts[segment] += 1
            if signature and call is None and _is_carrier(part):
                if after_call and not says:
                    self._chain.sign_last_call(signature)
                elif target is not None:
                    (kind, text), place = target
                    self._chain.add(_signature(kind, text_hash(kind, text), signature, place))
            if signature:
                self._seen.add(signature)
            if segment is None:
                target = None
            after_call = call is not None

    # the answer

    def _observe(self, part: Json) -> None:
        if isinstance(part, dict) and len(part) == 1 and isinstance(text := part.get("text"), str) and text:
            self._observe_text("text", text, "")  # as nearly all are
            return
        signature = signature_of(part)
        if (call := call_of(part)) is not None:
            self._observe_call(call, signature)
        elif not _is_carrier(part):
            self._close()
            self._last = "other"
        elif (segment := segment_of(part)) is not None and segment[1]:
            self._observe_text(*segment, signature)
        elif signature and signature not in self._seen:
            self._observe_carrier(signature, "thought" if at(part, "thought") is True else None)

    def _observe_call(self, call: JsonObject, signature: str) -> None:
        self._close()
        unbound = [held for held, kind in self._pending if kind is None]
        if signature:
            self._pending = [held for held in self._pending if held[1] is not None]
        elif unbound:
            signature = unbound[-1]
            self._pending.remove((signature, None))
        value = _value(call)
        key = (*value, id_of(call), signature or self._part_index)
        if key in self._seen_calls:
            return
        self._seen_calls.add(key)
        self._chain.add(_call(call, signature, self._at(self._part_index, self._calls[value])))
        self._calls[value] += 1
        self._last = "call"
        if signature:
            self._seen.add(signature)

    def _observe_text(self, kind: Kind, text: str, signature: str) -> None:
        if signature:
            # It beats what came before the text, and may be the same.
            beaten = [held for held in self._pending if held[1] in (None, kind)]
            self._pending = [held for held in self._pending if held not in beaten]
            if any(held == signature for held, _ in beaten):
                self._seen.discard(signature)
        segment = self._segment
        if (
            segment is None
            or segment.kind != kind
            or (segment.signatures and signature not in segment.signatures)
        ):
            self._close()
            segment = self._segment = _Segment(kind, self._part_index)
        segment.pieces.append(text)
        self._last = kind
        if signature and signature not in self._seen:
            self._seen.add(signature)
            segment.signatures.append(signature)

    def _observe_carrier(self, signature: str, kind: Kind | None) -> None:
        """A signature on a part of its own. One that is left without anything to sign is dropped."""
        self._seen.add(signature)
        segment = self._segment
        match self._last:
            case "call":
                self._chain.sign_last_call(signature)
            case "other":
                return
            case "":
                self._pending.append((signature, kind))
            case said if kind not in (None, said):
                self._pending.append((signature, kind))
            case _ if segment is not None and not segment.signatures:
                segment.signatures.append(signature)

    def _close(self) -> None:
        """The open segment is whole."""
        segment, self._segment = self._segment, None
        if segment is None:
            return
        kind = segment.kind
        signatures = [held for held, of_kind in self._pending if of_kind == kind] + segment.signatures
        self._pending = [held for held in self._pending if held[1] != kind]
        if signatures:
            for said in self._uncounted:
                self._texts[said.value] += 1
            self._uncounted.clear()
            _, hashed = value = segment.value
            place = self._at(segment.part_index, self._texts[value])
            for signature in signatures:
                self._chain.add(_signature(kind, hashed, signature, place))
        self._uncounted.append(segment)

    def _at(self, part_index: int, occurrence: int) -> _At:
        context_hash = self._contexts.before(self._content_index)
        return _At(self._content_index, part_index, occurrence, context_hash)


def _next_slot(contents: Sequence[Json]) -> tuple[int, int]:
    """Where the parts of the answer will be in the next request: the answer goes on with what a client put
    into the model's mouth.
    """
    if contents and role_of(contents[-1]) == "model":
        parts = parts_of(contents[-1])
        if not any(response_of(part) is not None for part in parts):
            return len(contents) - 1, len(parts)
    return len(contents), 0


def _is_carrier(part: Json) -> bool:
    """Whether the part is text, thought or nothing but a signature."""
    return isinstance(part, dict) and part.keys() <= _CARRIER_MEMBERS


def _segments(parts: Sequence[Json]) -> Iterator[tuple[Kind, str]]:
    for part in parts:
        if (segment := segment_of(part)) is not None:
            yield segment


def _value(call: JsonObject) -> tuple[str, bytes]:
    return name_of(call), canonical(args_of(call))


def _call(call: JsonObject, signature: str, place: _At) -> CallPart | None:
    """None for a call of nothing."""
    name = name_of(call)
    if not name:
        return None
    return CallPart(
        name=name,
        args=args_of(call),
        call_id=id_of(call),
        signature=signature,
        content_index=place.content,
        part_index=place.part,
        target_occurrence=place.occurrence,
        context_hash=place.context_hash,
    )


def _signature(kind: Kind, hashed: str, signature: str, place: _At) -> ThoughtSignature | None:
    """None for a signature too short to be one."""
    if len(signature) < MIN_SIGNATURE_CHARS:
        return None
    return ThoughtSignature(
        signature=signature,
        content_index=place.content,
        part_index=place.part,
        target_kind=kind,
        target_hash=hashed,
        target_occurrence=place.occurrence,
        context_hash=place.context_hash,
    )
