"""What of a completed answer is kept for replay. Pure.

Only a response that completed is kept, which decode.py tells: the client of one that was cut short, failed or
stayed incomplete may not have what it was about.
"""

import hashlib
from collections.abc import Sequence

from gateway.kernel.json import Json, dumps
from gateway.replay.lookups import text_of
from gateway.replay.turns import Marker, ReplayTurn
from gateway.store.keys import trim
from gateway.upstreams.codex.replay_items import CALLS, assistant_fingerprint, stored, type_of


def answered_turn(request_fingerprint: str, output: Sequence[Json]) -> ReplayTurn | None:
    """The turn to append for a completed output, repaired; None when nothing in it can be replayed.

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
