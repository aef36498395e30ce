"""The output of a response as its upstream meant it, from the items it said were done. Pure.

Some upstreams complete with an empty output, or with items that lack the ids they had before. What is kept
here is the items' exact JSON; decode.py feeds it.
"""

from collections.abc import Sequence

from gateway.kernel.json import Json, JsonObject, dumps, loads
from gateway.upstreams.codex.items import text_at


class Output:
    def __init__(self) -> None:
        self._indexed: dict[int, bytes] = {}
        self._others: list[bytes] = []

    def done(self, index: int, item: bytes) -> None:
        """`index` is the upstream's own; negative where it gave none."""
        if index < 0:
            self._others.append(item)
        else:
            self._indexed[index] = item

    def move(self, index: int) -> None:
        """Another item gets this number: what is done under it goes behind those with numbers."""
        if (item := self._indexed.pop(index, None)) is not None:
            self._others.append(item)

    def repaired(self, given: Sequence[bytes]) -> list[bytes]:
        """The output that the terminal event gave; from what was done when that is nothing."""
        if not given:
            return [*(self._indexed[index] for index in sorted(self._indexed)), *self._others]
        return [self._with_id(index, item) for index, item in enumerate(given)]

    def _with_id(self, index: int, raw: bytes) -> bytes:
        done = self._indexed.get(index)
        if done is None or done == raw:
            return raw
        item, known = _object(raw), _object(done)
        if text_at(item, "id").strip() or not text_at(known, "id"):
            return raw
        same = text_at(item, "type") == text_at(known, "type")
        return dumps({**item, "id": known["id"]}) if same else raw


def _object(raw: bytes) -> JsonObject:
    value: Json = loads(raw)
    return value if isinstance(value, dict) else {}
