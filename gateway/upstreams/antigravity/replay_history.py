"""A history while items are replayed into it: found by id, by value, by place, and changed in pieces. Pure.

Everything is found without walking the history again, and contents keep their key however many are inserted
before them, so that a long history costs what it is long. The payload that it is made of is never changed:
contents and parts are copied when they are first written to. Used by replay_apply.py alone.
"""

from bisect import bisect_left
from collections import defaultdict
from typing import NamedTuple

from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity_items import Kind
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
    with_contents,
    with_parts,
    with_signature,
    without_signature,
)
from gateway.upstreams.antigravity.pairing import in_call_order

_GAP = 1 << 20
"""Between the keys of contents: room for those that are inserted, each behind the last."""


class Place(NamedTuple):
    """Of a part. Places order like the history."""

    key: int
    """Of its content."""
    part: int


class WorkingHistory:
    def __init__(self, payload: JsonObject) -> None:
        self._payload = payload
        self._contents = list(contents_of(payload))
        self._keys = [index * _GAP for index in range(len(self._contents))]
        self._own: set[int] = set()
        """Contents whose list of parts is ours to write."""
        self.contexts = Contexts(request_of(payload), self._contents)
        self.changed = False
        self.calls: defaultdict[str, list[Place]] = defaultdict(list)
        """By id, first ones first."""
        self.responses: defaultdict[str, list[Place]] = defaultdict(list)
        self._segments: dict[int, dict[tuple[Kind, str], list[int]]] = {}
        self._args: dict[Place, bytes] = {}
        self._by_value: dict[tuple[str, bytes], list[Place]] | None = None
        for key, content in zip(self._keys, self._contents, strict=True):
            for number, part in enumerate(parts_of(content)):
                self._note(Place(key, number), part)

    def payload(self) -> JsonObject:
        return with_contents(self._payload, self._contents) if self.changed else self._payload

    # reading

    def __len__(self) -> int:
        return len(self._contents)

    def key(self, index: int) -> int:
        return self._keys[index]

    def index(self, key: int) -> int:
        """Where the content is now."""
        return bisect_left(self._keys, key)

    def role(self, index: int) -> str:
        return role_of(self._contents[index])

    def parts(self, index: int) -> list[Json]:
        return parts_of(self._contents[index])

    def part(self, place: Place) -> JsonObject:
        part = self.parts(self.index(place.key))[place.part]
        return part if isinstance(part, dict) else {}

    def segments(self, index: int) -> dict[tuple[Kind, str], list[int]]:
        """The texts and thoughts of a content, by kind and hash."""
        key = self._keys[index]
        if key not in self._segments:
            found: dict[tuple[Kind, str], list[int]] = {}
            for number, part in enumerate(self.parts(index)):
                if (segment := segment_of(part)) is not None:
                    found.setdefault((segment[0], text_hash(*segment)), []).append(number)
            self._segments[key] = found
        return self._segments[key]

    def args(self, place: Place) -> bytes:
        """The arguments of the call there, canonical."""
        if place not in self._args:
            call = call_of(self.part(place))
            self._args[place] = canonical(args_of(call)) if call is not None else b""
        return self._args[place]

    def equal_calls(self, name: str, args: bytes) -> list[Place]:
        """Every call in the history with this name and these canonical arguments."""
        if self._by_value is None:
            self._by_value = {}
            for index, key in enumerate(self._keys):
                for number, part in enumerate(self.parts(index)):
                    if (call := call_of(part)) is not None:
                        place = Place(key, number)
                        self._by_value.setdefault((name_of(call), self.args(place)), []).append(place)
        return self._by_value.get((name, args), [])

    # writing

    def sign(self, place: Place, signature: str) -> None:
        """The signature moves there from wherever else its content had it."""
        self._take_away(place, signature)
        self._put(place, with_signature(self.part(place), signature))

    def restore(self, place: Place, call: JsonObject, signature: str) -> None:
        """Another call in this part, with this signature or with none."""
        old = self.part(place)
        value = (name_of(call_of(old) or {}), self.args(place))
        part: JsonObject = {**without_signature(old), "functionCall": call}
        if signature:
            self._take_away(place, signature)
            part = with_signature(part, signature)
        self._put(place, part)
        self._args[place] = canonical(args_of(call))
        if value != (name_of(call), self._args[place]):
            self._by_value = None
        self.contexts.forget(self.index(place.key))

    def rename_responses(self, current_id: str, call_id: str, name: str) -> None:
        places = self.responses.pop(current_id, [])
        for place in places:
            part = self.part(place)
            response = response_of(part) or {}
            self._put(place, {**part, "functionResponse": {**response, "id": call_id, "name": name}})
            self.contexts.forget(self.index(place.key))
        self.responses[call_id] += places

    def append(self, index: int, part: JsonObject) -> None:
        """A call at the end of a content."""
        place = Place(self._keys[index], len(self.parts(index)))
        self._writable(index).append(part)
        self._by_value = None
        self._note(place, part)
        self.contexts.forget(index)

    def insert(self, index: int, content: JsonObject) -> None:
        """A content with calls, before the one that is there now."""
        key = (self._keys[index - 1] if index else -_GAP) + 1
        self._keys.insert(index, key)
        self._contents.insert(index, content)
        self.changed = True
        self._by_value = None
        for number, part in enumerate(parts_of(content)):
            self._note(Place(key, number), part)
        self.contexts.forget(index)

    def order_responses(self, index: int, calls_index: int) -> None:
        """In the order of the calls, once all of those are there."""
        calls = [call for call in map(call_of, self.parts(calls_index)) if call is not None]
        parts = self.parts(index)
        ordered = in_call_order(parts, calls)
        if all(new is old for new, old in zip(ordered, parts, strict=True)):
            return
        key = self._keys[index]
        self._writable(index)[:] = ordered
        self.contexts.forget(index)
        for number, part in enumerate(ordered):
            if (response := response_of(part)) is not None:
                others = [place for place in self.responses[id_of(response)] if place.key != key]
                self.responses[id_of(response)] = sorted([*others, Place(key, number)])

    def _take_away(self, place: Place, signature: str) -> None:
        for number, part in enumerate(self.parts(self.index(place.key))):
            if number != place.part and isinstance(part, dict) and signature_of(part) == signature:
                self._put(Place(place.key, number), without_signature(part))

    def _put(self, place: Place, part: JsonObject) -> None:
        self._writable(self.index(place.key))[place.part] = part

    def _writable(self, index: int) -> list[Json]:
        key = self._keys[index]
        if key not in self._own:
            self._own.add(key)
            self._contents[index] = with_parts(self._contents[index], list(self.parts(index)))
        self.changed = True
        return self.parts(index)

    def _note(self, place: Place, part: Json) -> None:
        for index, call in ((self.calls, call_of(part)), (self.responses, response_of(part))):
            if call is not None and (call_id := id_of(call)):
                index[call_id].append(place)
