"""What of an answer is kept for replay: read off the upstream's events, complete or not at all. Pure.

Only `response.completed` completes a turn (`response.done` is its name on a WebSocket). An answer that was
cut short, failed or stayed incomplete is not kept: the client may not have what it was about.
"""

import hashlib
from collections.abc import Sequence

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.replay.lookups import text_of
from gateway.replay.turns import Marker, ReplayTurn
from gateway.store.keys import trim
from gateway.upstreams.codex.replay_items import CALLS, assistant_fingerprint, stored, type_of

COMPLETED = frozenset({"response.completed", "response.done"})
_ENDS = frozenset({*COMPLETED, "response.incomplete", "response.failed", "response.cancelled", "error"})


class AnswerReader:
    """Fed the events of one attempt in order; what follows the terminal one is not read."""

    def __init__(self) -> None:
        self._indexed: dict[int, JsonObject] = {}
        self._others: list[JsonObject] = []
        self._ended = False
        self.response: JsonObject | None = None
        """As completed, its output repaired; None while or unless it is."""

    def feed(self, event: JsonObject) -> None:
        if self._ended:
            return
        kind = event.get("type")
        if kind == "response.output_item.done":
            self._item_done(event)
        elif kind in _ENDS:
            self._ended = True
            response = event.get("response")
            if kind in COMPLETED and isinstance(response, dict):
                self.response = {**response, "output": self._repaired(response.get("output"))}

    def _item_done(self, event: JsonObject) -> None:
        item, index = event.get("item"), event.get("output_index")
        if not isinstance(item, dict):
            return
        if isinstance(index, int | float) and not isinstance(index, bool):
            self._indexed[int(index)] = item
        else:
            self._others.append(item)

    def _repaired(self, output: Json) -> list[Json]:
        """Some upstreams complete with an empty output, or one whose items lack the ids they had before."""
        if not isinstance(output, list) or not output:
            return [*(self._indexed[index] for index in sorted(self._indexed)), *self._others]
        return [self._with_id(index, item) for index, item in enumerate(output)]

    def _with_id(self, index: int, item: Json) -> Json:
        if not isinstance(item, dict) or trim(text_of(item.get("id"))):
            return item
        done = self._indexed.get(index, {})
        item_id = done.get("id")
        return {**item, "id": item_id} if item_id and type_of(done) == type_of(item) else item


def answered_turn(request_fingerprint: str, output: Sequence[Json]) -> ReplayTurn | None:
    """The turn to append for a completed output; None when nothing in it can be replayed.

    request_fingerprint: of the input that was answered, as inject() gave it. The same answer to the same
    input has the same id, so that appending it again changes nothing.
    """
    items: list[bytes] = []
    call_ids: list[str] = []
    said = ""
    digest = hashlib.sha256(request_fingerprint.encode())
    for item in output:
        said = assistant_fingerprint(item) or said
        kept = stored(item)
        if kept is None or not isinstance(item, dict):
            continue
        items.append(kept)
        if type_of(item) in CALLS:
            call_ids.append(trim(text_of(item.get("call_id"))))
    if not items:
        return None
    digest.update(b"\0assistant\0" + said.encode())
    for call_id in call_ids:
        digest.update(b"\0call\0" + call_id.encode())
    for item in output:
        if type_of(item) == "reasoning" or type_of(item) in CALLS:
            digest.update(b"\0item\0" + dumps(item))
    marker = Marker(
        id=digest.hexdigest(),
        assistant_fingerprint=said,
        request_fingerprint=request_fingerprint,
        call_ids=tuple(call_ids),
    )
    return ReplayTurn(marker, tuple(items))
