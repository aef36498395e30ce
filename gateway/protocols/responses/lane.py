"""The events of an upstream that speaks Responses itself, on their way to a client that does. Pure.

They go out byte for byte, but for these edits, made only where they apply:

- `response.model` is the name that the client asked for, and `response.prompt_cache_key` its own: the
  upstream may have been given another one
- an `output` that ends empty is filled with the items that were done
- an answer that was cut for its length is told to Codex as completed, which gives up on it otherwise
- where the gateway had to begin the stream itself, before the upstream had said anything, the upstream's own
  beginning is left out, and the response ends as the one that the client knows

What an upstream never said (a failure, a cancellation) is encoded from events by encode.py, which asks here
for the response as the client knows it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.kernel.json import JsonObject, dumps, loads
from gateway.turn.request import Turn
from gateway.wire.edits import edit_members, member, with_data
from gateway.wire.sse import parse_block

_BEGINNINGS: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_SAID_AT_THE_END: Final = ("status", "output", "usage", "error", "incomplete_details", "completed_at")
_ENDS: Final = frozenset({"response.completed", "response.done", "response.incomplete"})


_find_looked_at = re.compile(rb'"response(?:"|\.output_item\.done")').search


class _Event(msgspec.Struct):
    type: str = ""
    output_index: int = -1
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()


class _Numbered(msgspec.Struct):
    sequence_number: int | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_number = msgspec.json.Decoder(_Numbered).decode


class RawLane:
    """One stream. `passed` takes its events in order."""

    def __init__(self, turn: Turn, *, codex: bool) -> None:
        self._asked = _asked(turn)
        self._codex = codex
        self._own: bytes | None = None
        """The response with which the gateway had to begin."""
        self._last = b""
        self._count = 0
        self._response: bytes | None = None
        self._indexed: dict[int, bytes] = {}
        self._others: list[bytes] = []

    @property
    def begun(self) -> bool:
        """An event of the upstream has passed."""
        return bool(self._last)

    @property
    def last_number(self) -> int:
        """Of the event that passed last."""
        number = _number(self._last)
        return self._count - 1 if number is None else number

    def begun_by_gateway(self, response: Mapping[str, object]) -> None:
        """The client was told of this response before its upstream said anything."""
        self._own = dumps(response)

    def passed(self, raw: bytes, *, starting_after: int = -1) -> bytes:
        """What the client gets for one event of the upstream's; nothing for one that it has."""
        self._last = raw
        self._count += 1
        # The hot path: texts hold neither, for their quotes are escaped.
        out = raw if _find_looked_at(raw) is None else self._looked_at(raw)
        return b"" if starting_after >= 0 and self.last_number <= starting_after else out

    def all_passed(self, raws: Sequence[bytes], *, starting_after: int = -1) -> bytes:
        """The same for several that are one frame."""
        joined = b"".join(raws)
        if starting_after >= 0 or b'"response"' in joined:
            return b"".join([self.passed(raw, starting_after=starting_after) for raw in raws])
        self._last = raws[-1]
        self._count += len(raws)
        return joined

    def _looked_at(self, raw: bytes) -> bytes:
        data = parse_block(raw).data
        try:
            event = _decode_event(data or b"")
        except msgspec.DecodeError:
            return raw
        if event.type == "response.output_item.done":
            self._done(event.output_index, bytes(event.item))
            return raw
        response = bytes(event.response)
        if not response or data is None:
            return raw
        if event.type in _BEGINNINGS and self._own is not None:
            return b""
        changed = edit_members(response, self._asked)
        kind = event.type
        if kind in _ENDS:
            changed = self._ended(changed)
            if self._codex and kind == "response.incomplete":
                kind, changed = "response.completed", as_completed(changed)
        else:
            self._response = changed
        renamed = None if kind == event.type else kind
        members = {"type": dumps(kind), "response": changed}
        return with_data(raw, data, edit_members(data, members), event=renamed)

    def _done(self, index: int, item: bytes) -> None:
        if index < 0:
            self._others.append(item)
        else:
            self._indexed[index] = item

    def _ended(self, response: bytes) -> bytes:
        if self._items and _is_empty(response):
            response = edit_members(response, {"output": b"[" + b",".join(self._items) + b"]"})
        if self._own is None:
            return response
        said = {name: member(response, name) for name in _SAID_AT_THE_END}
        return edit_members(self._own, {name: value for name, value in said.items() if value is not None})

    @property
    def _items(self) -> list[bytes]:
        return [*(self._indexed[index] for index in sorted(self._indexed)), *self._others]

    # -- for what the upstream never said -----------------------------------------------------------------

    def response(self) -> JsonObject:
        """As the upstream has begun it; empty when it has not, or when the client knows another beginning."""
        if self._response is None:
            return {}
        value = loads(self._response)
        return value if isinstance(value, dict) else {}

    def output(self) -> list[JsonObject]:
        """The items that were done."""
        items = [loads(item) for item in self._items]
        return [item for item in items if isinstance(item, dict)]


def whole_response(raw: bytes, turn: Turn, *, codex: bool) -> bytes:
    """A response that was not streamed, with the same edits."""
    response = edit_members(raw, _asked(turn))
    incomplete = codex and b'"incomplete"' in response and _status(response) == "incomplete"
    return as_completed(response) if incomplete else response


def _asked(turn: Turn) -> Mapping[str, bytes]:
    """What the response repeats of its request, as the client wrote it."""
    asked = {"model": dumps(turn.model)}
    if (key := turn.raw.body.get("prompt_cache_key")) is not None:
        asked["prompt_cache_key"] = dumps(key)
    return asked


def as_completed(response: bytes) -> bytes:
    return edit_members(response, {"status": b'"completed"', "incomplete_details": b"null"})


class _Output(msgspec.Struct):
    status: str | None = None
    output: list[msgspec.Raw] | None = None


_decode_output = msgspec.json.Decoder(_Output).decode


def _is_empty(response: bytes) -> bool:
    return not _decode_output(response).output


def _status(response: bytes) -> str | None:
    return _decode_output(response).status


def _number(raw: bytes) -> int | None:
    data = parse_block(raw).data
    try:
        return _decode_number(data or b"").sequence_number
    except msgspec.DecodeError:
        return None
