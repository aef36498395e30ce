"""From a request as it was translated to the request as it is sent: signatures and calls in place. Pure.

What clients send is cleaned first and what is stored is put back then, in a form that does not depend on what
was stored, so that the same conversation looks the same to the upstream with every turn.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity_items import Item
from gateway.upstreams.antigravity.arguments import Schemas
from gateway.upstreams.antigravity.history import (
    call_of,
    contents_of,
    id_of,
    is_reserved_id,
    parts_of,
    response_of,
    role_of,
    with_contents,
    with_degraded_id,
    with_parts,
)
from gateway.upstreams.antigravity.pairing import RESPONSE_ROLE, pairing_fault, with_responses_in_place
from gateway.upstreams.antigravity.replay_apply import with_replay
from gateway.upstreams.antigravity.sanitise import sanitised, with_first_calls_signed


class Prepared(NamedTuple):
    payload: JsonObject
    replayed: bool
    """An item changed the request."""
    broken: bool
    """Items would have broken a request that is sound without them, and were left out: their chain is bad."""
    degraded: int
    """Ids of calls that no item resolved, and which go out as others."""


def prepared(
    payload: JsonObject,
    items: Sequence[Item] = (),
    schemas: Schemas | None = None,
    *,
    response_role: str = RESPONSE_ROLE,
    shared: bool = False,
) -> Prepared:
    """Raises InvalidRequest when calls and responses do not fit together.

    payload: complete, for positions in it are remembered: what is put in front of the conversation must be
    there already. schemas, shared: see with_replay().
    """
    if not items and _only_asks(payload):
        return Prepared(payload, replayed=False, broken=False, degraded=0)
    clean = with_responses_in_place(sanitised(payload), role=response_role)
    replayed = with_replay(clean, items, schemas, shared=shared)
    changed = replayed is not clean
    done, degraded = _finished(replayed, response_role)
    fault = pairing_fault(done)
    if fault is not None and changed:
        plain, degraded_plain = _finished(clean, response_role)
        if pairing_fault(plain) is None:
            return Prepared(plain, replayed=False, broken=True, degraded=degraded_plain)
    if fault is not None:
        raise InvalidRequest(
            f"antigravity executor: invalid Gemini function call history: {fault}", param="contents"
        )
    return Prepared(done, replayed=changed, broken=False, degraded=degraded)


def _only_asks(payload: JsonObject) -> bool:
    """Whether there are no calls, no responses and nothing by the model, and so nothing to put in place."""
    for content in contents_of(payload):
        if role_of(content) == "model":
            return False
        if any(call_of(part) is not None or response_of(part) is not None for part in parts_of(content)):
            return False
    return True


def _finished(payload: JsonObject, response_role: str) -> tuple[JsonObject, int]:
    placed = with_responses_in_place(payload, role=response_role)
    reserved = reserved_ids(placed)
    if reserved:
        placed = with_contents(placed, [_degraded(content) for content in contents_of(placed)])
    return with_first_calls_signed(placed), reserved


def reserved_ids(payload: JsonObject) -> int:
    """How many calls and responses have an id that stands for the upstream's own."""
    found = 0
    for content in contents_of(payload):
        for part in parts_of(content):
            called = (call for call in (call_of(part), response_of(part)) if call is not None)
            found += sum(is_reserved_id(id_of(call)) for call in called)
    return found


def _degraded(content: Json) -> Json:
    parts = parts_of(content)
    renamed = [with_degraded_id(part) for part in parts]
    if all(new is old for new, old in zip(renamed, parts, strict=True)):
        return content
    return with_parts(content, renamed)
