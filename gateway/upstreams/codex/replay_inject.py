"""Put the items of earlier turns back into the input of a request. Pure: a new body, the old one untouched.

A marked turn goes where its answer began: the fingerprint of the input it answered finds the place, and
something of the answer must still be there (one of its calls, a call's output, or its words). A history that
was edited or compacted matches no fingerprint and gets nothing. Legacy items, which know neither, go before
the call's output or the last answer. Whatever the input has already is left out, so that injecting twice is
injecting once.

Runs on the translated body, after its reasoning was sanitised and before cache keys and item ids are set.
Everything that is asked of the input is indexed once; 256 turns on 600 items take milliseconds.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from gateway.kernel.json import Json, JsonObject
from gateway.replay.signatures import is_gpt_signature
from gateway.replay.turns import Marker, ReplayTurn, turns_of
from gateway.upstreams.codex.replay_items import (
    CALLS,
    OUTPUTS,
    assistant_fingerprint,
    call_id_of,
    comparable_ids,
    from_store,
    is_message,
    prefix_fingerprints,
    type_of,
)


class Injection(NamedTuple):
    body: JsonObject
    """The body that was given when nothing was injected."""
    items: int
    """How many were injected."""
    request_fingerprint: str
    """Of the input as it was before; goes into the marker of the turn that answers it."""


def inject(body: JsonObject, items: Sequence[bytes]) -> Injection:
    """items: of the scope's entry (replay/codex.py), oldest first. A body whose input is no list is left."""
    given = body.get("input")
    if not isinstance(given, list):
        return Injection(body, 0, prefix_fingerprints(())[0])
    fingerprints = prefix_fingerprints(given)
    splice = _Splice(given, fingerprints)
    for turn in reversed(turns_of(items)):
        splice.add(turn)
    if not splice.count:
        return Injection(body, 0, fingerprints[-1])
    return Injection({**body, "input": splice.spliced()}, splice.count, fingerprints[-1])


class _Splice:
    """An input, and what is to be inserted before which of its items. Turns are added newest first."""

    def __init__(self, given: list[Json], fingerprints: Sequence[str]) -> None:
        self._given = given
        self._starts = {fingerprint: index for index, fingerprint in enumerate(fingerprints)}
        self._kinds = [type_of(item) for item in given]
        self._said = [assistant_fingerprint(item) for item in given]
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        """Where a call id occurs, and where an assistant's words do; each list ascends."""
        self._blobs: set[str] = set()
        self._reasoned = False
        """The input has reasoning that its client kept, or got some here."""
        self._calls: set[str] = set()
        """By id, of whichever type: clients without custom tools give their calls back as functions."""
        self._outputs: dict[str, int] = {}
        """The first of each id."""
        self._inserted: defaultdict[int, list[Json]] = defaultdict(list)
        self._anchors: set[int] = set()
        self._last_anchor = len(given)
        self.count = 0
        for index, item in enumerate(given):
            if isinstance(item, dict):
                self._look_at(index, item)

    def _look_at(self, index: int, item: JsonObject) -> None:
        kind = self._kinds[index]
        if kind == "reasoning":
            self._blobs.add(_blob(item))
            self._reasoned = self._reasoned or is_gpt_signature(_blob(item))
        elif kind in CALLS or kind in OUTPUTS:
            call_id = call_id_of(item)
            self._places[_call(call_id)].append(index)
            if kind in CALLS:
                self._calls.add(call_id)
            else:
                self._outputs.setdefault(call_id, index)
        elif self._said[index]:
            self._places[self._said[index]].append(index)

    @cached_property
    def _last_words(self) -> int:
        """Before the assistant's last message, else after what instructs."""
        for index in range(len(self._given) - 1, -1, -1):
            if is_message(self._given[index], "assistant"):
                return index
        for index, item in enumerate(self._given):
            if not is_message(item, "developer", "system"):
                return index
        return len(self._given)

    # -- one turn

    def add(self, turn: ReplayTurn) -> None:
        request = turn.marker.request_fingerprint if turn.marker else ""
        if request and request not in self._starts:
            return
        items = [item for item in map(from_store, turn.items) if item is not None]
        if not items:
            return
        missing = self._missing(items, legacy=turn.marker is None)
        if turn.marker is None or not _knows_anything(turn.marker):
            self._insert(self._legacy_place(missing), missing)
            return
        anchor = self._anchor(turn.marker, items)
        if anchor is not None:
            self._anchors.add(anchor)
            self._last_anchor = anchor
            self._insert(anchor, missing)

    def _insert(self, index: int, items: list[JsonObject]) -> None:
        for item in items:
            if type_of(item) == "reasoning":
                self._blobs.add(_blob(item))
                self._reasoned = True
            else:
                self._calls.add(call_id_of(item))
        if items:
            self._inserted[index] = [*items, *self._inserted[index]]
            self.count += len(items)

    # -- what of it is missing

    def _missing(self, items: Iterable[JsonObject], *, legacy: bool) -> list[JsonObject]:
        """Without what the input has and calls whose output it lacks; calls named as their outputs name them.

        Reasoning of marked turns is missing by its own bytes; that of legacy items only when there is none.
        """
        missing: dict[tuple[str, str], JsonObject] = {}
        for item in items:
            kind = type_of(item)
            if kind == "reasoning":
                blob = _blob(item)
                if not (self._reasoned if legacy else blob in self._blobs):
                    missing.setdefault((kind, blob), item)
                continue
            ids = comparable_ids(call_id_of(item))
            named = next((call_id for call_id in ids if call_id in self._outputs), None)
            if named is not None and self._calls.isdisjoint(ids):
                missing.setdefault(("call", named), {**item, "call_id": named})
        return list(missing.values())

    # -- where it goes

    def _anchor(self, marker: Marker, items: Sequence[JsonObject]) -> int | None:
        ids = {known for call_id in marker.call_ids for known in comparable_ids(call_id)}
        said = marker.assistant_fingerprint
        if marker.request_fingerprint:
            start = self._starts[marker.request_fingerprint]
            if start == len(self._given) or start in self._anchors:
                return None
            after = self._after_reasoning(start, {_blob(item) for item in items})
            return after if after > start or self._answers(start, ids, said) else None
        for places in (sorted(map(_call, ids)), [said] if said else []):
            found = max((self._before_last_anchor(place) for place in places), default=-1)
            if found >= 0:
                return self._first_of_calls(found, ids)
        return None

    def _after_reasoning(self, start: int, blobs: set[str]) -> int:
        """Past what the client kept of the turn's reasoning; calls that it left out go there."""
        while start < len(self._given) and self._kinds[start] == "reasoning":
            if _blob(self._given[start]) not in blobs:
                break
            start += 1
        return start

    def _answers(self, start: int, ids: set[str], said: str) -> bool:
        """Whether the items from here on are what the turn answered.

        Its calls or its words may stand anywhere in the answer: clients leave out, join or trim the rest.
        With neither known, the input that was answered is all the evidence there can be, unless something
        else was reasoned there.
        """
        if not ids and not said:
            return self._kinds[start] != "reasoning"
        if self._kinds[start] in OUTPUTS:  # the client left the calls out
            return call_id_of(self._given[start]) in ids
        for index in range(start, len(self._given)):
            if self._kinds[index] in CALLS:
                if call_id_of(self._given[index]) in ids:
                    return True
            elif not is_message(self._given[index], "assistant"):
                return False
            elif said and self._said[index] == said:
                return True
        return False

    def _before_last_anchor(self, place: str) -> int:
        """The last index before the last anchor; -1 for none."""
        indices = self._places.get(place, [])
        position = bisect_left(indices, self._last_anchor)
        return indices[position - 1] if position else -1

    def _first_of_calls(self, index: int, ids: set[str]) -> int:
        """Reasoning comes before the calls that followed from it, not between them and their outputs."""
        while index > 0:
            kind = self._kinds[index - 1]
            if (kind not in CALLS and kind not in OUTPUTS) or call_id_of(self._given[index - 1]) not in ids:
                break
            index -= 1
        return index

    def _legacy_place(self, items: Sequence[JsonObject]) -> int:
        ids = {call_id_of(item) for item in items if type_of(item) in CALLS}
        outputs = [self._outputs[call_id] for call_id in ("", *ids) if call_id in self._outputs]
        return min(outputs) if ids and outputs else self._last_words

    # -- together

    def spliced(self) -> list[Json]:
        items: list[Json] = []
        for index, item in enumerate(self._given):
            items += self._inserted.get(index, ())
            items.append(item)
        return items + self._inserted.get(len(self._given), [])


def _knows_anything(marker: Marker) -> bool:
    return bool(marker.request_fingerprint or marker.call_ids or marker.assistant_fingerprint)


def _blob(item: Json) -> str:
    blob = item.get("encrypted_content") if isinstance(item, dict) else None
    return blob if isinstance(blob, str) else ""


def _call(call_id: str) -> str:
    """Call ids and fingerprints share one index."""
    return f"call {call_id}"
