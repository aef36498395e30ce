"""Signatures and calls that a client did not give back, put back into its next request. Pure.

Every item has to prove its place. A signature goes back onto the text it signed, wherever the rest of the
conversation went; but in a chain that another conversation may have written, only behind what stood before it
then. A call is found by the upstream's id or by the id that was made for Claude's clients; the
latter proves that id, name and arguments are unchanged, the former must stand in the same conversation. A
call that a client changed gets nothing, for a signature of something else is refused. A call that it left
out, while it sent the response, is put back in front of it.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import assert_never

from gateway.kernel.json import JsonObject
from gateway.replay.antigravity_items import SENTINEL, CallPart, Item, Kind, ThoughtSignature
from gateway.upstreams.antigravity.arguments import Schemas, decoded, equal_but_for_defaults
from gateway.upstreams.antigravity.history import (
    args_of,
    call_of,
    canonical,
    claude_call_id,
    id_of,
    is_reserved_id,
    name_of,
    response_of,
    segment_of,
    signature_of,
)
from gateway.upstreams.antigravity.pairing import UNNAMED
from gateway.upstreams.antigravity.replay_history import Place, WorkingHistory


def with_replay(
    payload: JsonObject, items: Sequence[Item], schemas: Schemas | None = None, *, shared: bool = False
) -> JsonObject:
    """The payload itself when no item changes anything.

    schemas: of the client's tools, for clients that fill in defaults. shared: several conversations may have
    the chain.
    """
    if not items:
        return payload
    history = WorkingHistory(payload)
    owned = {item.call_id for item in items if isinstance(item, CallPart)}
    for item in items:
        match item:
            case ThoughtSignature():
                _replay_signature(history, item, shared=shared)
            case CallPart():
                _CallReplay(history, item, schemas or {}, owned).apply()
            case _:
                assert_never(item)
    return history.payload()


# -- signatures of texts and thoughts ---------------------------------------------------------------------


def _replay_signature(history: WorkingHistory, item: ThoughtSignature, *, shared: bool) -> None:
    index = item.content_index
    if index is None or not 0 <= index < len(history) or history.role(index) != "model":
        return
    if shared and not history.contexts.matches(item.context_hash, index):
        return  # the same words, such as "Done.", to another question
    number = _by_hash(history, item, index) if item.target_hash else _by_place(history, item, index)
    if number is None:
        return
    place = Place(history.key(index), number)
    if not signature_of(history.part(place)):
        history.sign(place, item.signature)


def _by_hash(history: WorkingHistory, item: ThoughtSignature, index: int) -> int | None:
    kinds: tuple[Kind, ...] = (item.target_kind,) if item.target_kind else ("text", "thought")
    segments = history.segments(index)
    equal = [number for kind in kinds for number in segments.get((kind, item.target_hash), ())]
    if item.target_occurrence is not None:
        return equal[item.target_occurrence] if item.target_occurrence < len(equal) else None
    if item.part_index in equal:
        return item.part_index
    return equal[0] if equal else None


def _by_place(history: WorkingHistory, item: ThoughtSignature, index: int) -> int | None:
    """Nothing proves which part it was, so the conversation before must be the same."""
    if not history.contexts.matches(item.context_hash, index):
        return None
    numbers = [n for n, part in enumerate(history.parts(index)) if segment_of(part) is not None]
    if item.part_index in numbers:
        return item.part_index
    return numbers[-1] if numbers else None


# -- calls ------------------------------------------------------------------------------------------------


class _CallReplay:
    """One item's way into the history."""

    def __init__(
        self, history: WorkingHistory, item: CallPart, schemas: Schemas, owned: AbstractSet[str]
    ) -> None:
        """owned: ids of the chain's calls."""
        self._history = history
        self._item = item
        self._schemas = schemas
        self._owned = owned
        self._args = canonical(item.args)
        claude_id = claude_call_id(item.call_id, item.name, item.args)
        self._ids = [call_id for call_id in (item.call_id, claude_id) if call_id]
        self._claude_id = claude_id

    def apply(self) -> None:
        known = [call_id for call_id in self._ids if self._history.calls.get(call_id)]
        answered = next((call_id for call_id in self._ids if self._history.responses.get(call_id)), None)
        if known:
            if (found := self._by_id(known)) is not None:
                self._restore(found)
        elif answered is not None:
            self._put_back(answered)
        elif (place := self._by_value()) is not None:
            self._complete(place)

    def _by_id(self, known: list[str]) -> Place | None:
        """None when the client changed the call, or goes on from another conversation."""
        for call_id in known:
            places = self._history.calls[call_id]
            there = [place for place in places if self._index(place) == self._item.content_index]
            for place in (*there, places[0]):
                if self._is_equal(place) and (
                    call_id == self._claude_id or self._in_context(self._index(place))
                ):
                    return place
        return None

    def _by_value(self) -> Place | None:
        """A call that the client knows by another id, or by none: the one in this place, or the only one."""
        history, item = self._history, self._item
        if item.target_occurrence is None:
            equal = [place for place in history.equal_calls(item.name, self._args) if self._is_free(place)]
            equal = [place for place in equal if self._in_context(self._index(place))]
            return equal[0] if len(equal) == 1 else None
        index = item.content_index
        if index is None or not 0 <= index < len(history) or not self._in_context(index):
            return None
        places = [Place(history.key(index), number) for number in range(len(history.parts(index)))]
        equal = [place for place in places if self._is_free(place) and self._is_equal(place)]
        return equal[item.target_occurrence] if item.target_occurrence < len(equal) else None

    def _restore(self, place: Place) -> None:
        """The call as the upstream knows it, its responses under its id and name."""
        item, history = self._item, self._history
        part = history.part(place)
        call = call_of(part) or {}
        current = id_of(call)
        if current == item.call_id:
            self._complete(place)
        elif self._can_rename(current):
            history.restore(place, self._native(call), item.signature)
            history.rename_responses(current, item.call_id, item.name)

    def _complete(self, place: Place) -> None:
        """A call keeps its id, and a signature that it has."""
        item, history = self._item, self._history
        part = history.part(place)
        call = call_of(part) or {}
        signature = signature_of(part) or item.signature
        args = decoded(item.args)
        if history.args(place) != canonical(args):
            history.restore(place, {**call, "args": args}, signature)
        elif signature and not signature_of(part):
            history.sign(place, signature)

    def _put_back(self, current: str) -> None:
        """In front of the response that has this id, behind the calls that came before it."""
        history, item = self._history, self._item
        if not self._can_rename(current):
            return
        index = self._index(history.responses[current][0])
        before = index - 1
        if before >= 0 and history.role(before) == "model" and self._in_context(before):
            parts = history.parts(before)
            if not any(response_of(part) is not None for part in parts):
                first = not any(call_of(part) is not None for part in parts)
                history.append(before, self._part(item.signature or (SENTINEL if first else "")))
                history.rename_responses(current, item.call_id, item.name)
                history.order_responses(index, before)
                return
        if self._in_context(index):
            history.insert(index, {"role": "model", "parts": [self._part(item.signature or SENTINEL)]})
            history.rename_responses(current, item.call_id, item.name)

    def _part(self, signature: str) -> JsonObject:
        part: JsonObject = {"functionCall": self._native({})}
        if signature:
            part["thoughtSignature"] = signature
        return part

    def _native(self, call: JsonObject) -> JsonObject:
        item = self._item
        return {**call, "name": item.name, "id": item.call_id, "args": decoded(item.args)}

    # conditions

    def _index(self, place: Place) -> int:
        return self._history.index(place.key)

    def _in_context(self, index: int) -> bool:
        return self._history.contexts.matches(self._item.context_hash, index)

    def _is_free(self, place: Place) -> bool:
        """No id says that the call is another one's."""
        call = call_of(self._history.part(place))
        if call is None:
            return False
        call_id = id_of(call)
        return not call_id or not (is_reserved_id(call_id) or call_id in self._owned)

    def _is_equal(self, place: Place) -> bool:
        call = call_of(self._history.part(place))
        if call is None or name_of(call) != self._item.name:
            return False
        if self._history.args(place) == self._args:
            return True
        schema = self._schemas.get(self._item.name)
        return schema is not None and equal_but_for_defaults(args_of(call), self._item.args, schema)

    def _can_rename(self, current: str) -> bool:
        """A response that names another tool is not the response to this call."""
        responses = (
            response_of(self._history.part(place)) for place in self._history.responses.get(current, ())
        )
        return all(name_of(response) in (*UNNAMED, self._item.name) for response in responses if response)
