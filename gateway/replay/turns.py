"""Turns in the list of items that one Codex scope keeps. Pure: lists of items in, lists of items out.

Each turn is a marker item and the items that its answer brought. Before markers, an entry was the items of
the last turn alone; such legacy items are read, and dropped by the next turn that is appended.

A purge leaves a fence: a marker of its own without items, first in the list. Its id is another one with every
purge, so that who read the entry before can tell that it was purged since. Other nodes that share the store
need not know: to them it is a turn that has nothing to replay, which their appends keep in front and their
trimming takes away first. What the items say is the business of upstreams/codex.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.kernel.json import Json, JsonError, JsonObject, dumps, loads
from gateway.replay.limits import MAX_BYTES, MAX_TURNS
from gateway.replay.lookups import text_of
from gateway.store.keys import trim

MARKER = "cpa_codex_replay_turn"
_MARKER = MARKER.encode()
_FENCE = "purged-"


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    assistant_fingerprint: str = ""
    """Of the last message that the model wrote; empty when it wrote none that can be compared."""
    request_fingerprint: str = ""
    """Of the input that the turn answered, as it was before anything was injected."""
    call_ids: tuple[str, ...] = ()

    def encode(self) -> bytes:
        item: JsonObject = {"type": MARKER, "id": self.id}
        if self.assistant_fingerprint:
            item["assistant_fingerprint"] = self.assistant_fingerprint
        if self.request_fingerprint:
            item["request_fingerprint"] = self.request_fingerprint
        if self.call_ids:
            item["call_ids"] = list(self.call_ids)
        return dumps(item)


class ReplayTurn(NamedTuple):
    marker: Marker | None
    """None for legacy items."""
    items: tuple[bytes, ...]

    def encode(self) -> list[bytes]:
        return [*([self.marker.encode()] if self.marker else []), *self.items]


def marker_of(item: bytes) -> Marker | None:
    """What a marker says; None for any other item."""
    if _MARKER not in item:
        return None
    try:
        value = loads(item)
    except JsonError:
        return None
    if not isinstance(value, dict) or trim(text_of(value.get("type"))) != MARKER:
        return None
    turn_id = trim(text_of(value.get("id")))
    if not turn_id:
        return None
    return Marker(
        id=turn_id,
        assistant_fingerprint=trim(text_of(value.get("assistant_fingerprint"))),
        request_fingerprint=trim(text_of(value.get("request_fingerprint"))),
        call_ids=tuple(_call_ids(value.get("call_ids"))),
    )


def _call_ids(value: Json) -> Iterator[str]:
    if isinstance(value, list):
        yield from (call_id for call_id in (trim(text_of(entry)) for entry in value) if call_id)


def fence(token: str) -> bytes:
    return Marker(id=_FENCE + token).encode()


def fence_of(items: Sequence[bytes]) -> str:
    """The id of the last purge that the list knows of; empty without one."""
    marker = marker_of(items[0]) if items else None
    return marker.id if marker is not None and marker.id.startswith(_FENCE) else ""


def turns_of(items: Sequence[bytes]) -> list[ReplayTurn]:
    """Oldest first, without a fence."""
    turns: list[ReplayTurn] = []
    for group, marker in _groups(items[1:] if fence_of(items) else items):
        turns.append(ReplayTurn(marker, tuple(group[1:] if marker else group)))
    return turns


def _groups(items: Sequence[bytes]) -> list[tuple[list[bytes], Marker | None]]:
    """The items of each turn, its marker included. The first item opens a turn, whatever it is."""
    groups: list[tuple[list[bytes], Marker | None]] = []
    for item in items:
        marker = marker_of(item)
        if marker is not None or not groups:
            groups.append(([item], marker))
        else:
            groups[-1][0].append(item)
    return groups


def appended(existing: Sequence[bytes], turn: ReplayTurn) -> list[bytes] | None:
    """The list with one turn more, trimmed; None when it has that turn already.

    Legacy items are dropped: nobody knows which turns they were. Empty when the turn alone is too large.
    """
    kept = list(existing) if existing and marker_of(existing[0]) else []
    new = turn.encode()
    if turn.marker and any((marker := marker_of(item)) and marker.id == turn.marker.id for item in kept):
        return None
    return trimmed([*kept, *new])


def trimmed(items: Sequence[bytes], *, max_turns: int = MAX_TURNS, max_bytes: int = MAX_BYTES) -> list[bytes]:
    """Without the oldest turns that are too many or too large together. A fence stays while any turn does."""
    fenced = list(items[:1]) if fence_of(items) else []
    groups = _groups(items[len(fenced) :])
    sizes = [sum(map(len, group)) for group, _ in groups]
    total = sum(map(len, items))
    first = max(0, len(groups) - max_turns)
    total -= sum(sizes[:first])
    while first < len(groups) and total > max_bytes:
        total -= sizes[first]
        first += 1
    rest = [item for group, _ in groups[first:] for item in group]
    return [*fenced, *rest] if rest else []
