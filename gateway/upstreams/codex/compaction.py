"""What a conversation that an upstream compacted has to be like, and how failing at it is judged. Pure.

Clients give up a session whose compaction is not what they asked for, so it is checked before it is told.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.kernel.errors import COMPACTION_UNSUPPORTED, ErrorKind
from gateway.kernel.json import Json, JsonObject, loads
from gateway.turn.events import ErrorInfo
from gateway.upstreams.codex.errors import ITEM_MISSING
from gateway.upstreams.faults import Fault
from gateway.wire.responses import COMPACTED

_REFUSED: Final = frozenset({400, 409, 413, 415, 422})
_ABSENT: Final = frozenset({404, 405, 501})
_OF_CREDENTIALS: Final = frozenset({"auth_unavailable", "rate_limited"})

NO_COMPACTION: Final = Fault(
    name="no_compaction",
    info=ErrorInfo(
        kind=ErrorKind.UPSTREAM_PROTOCOL,
        message="The upstream did not compact the conversation as it was asked to",
        retryable=True,
    ),
    again="next",
)


def wanted_types(body: JsonObject) -> frozenset[str]:
    """Of the item that has to come back: the one that the trigger, last in the input, belongs to."""
    given = body.get("input")
    last = given[-1] if isinstance(given, list) and given else given
    kind = last.get("type") if isinstance(last, dict) else None
    return frozenset({"context_compaction"}) if kind == "context_compaction" else _CURRENT


_CURRENT: Final = frozenset({"compaction", "compaction_summary"})


def is_compacted(output: Sequence[bytes], types: frozenset[str] = COMPACTED) -> bool:
    """Exactly one of the items holds the conversation; others may stand beside it."""
    return sum(_is_sealed(loads(item), types) for item in output) == 1


def _is_sealed(item: Json, types: frozenset[str]) -> bool:
    return (
        isinstance(item, dict)
        and item.get("type") in types
        and isinstance(item.get("encrypted_content"), str)
    )


def judged(fault: Fault, status: int) -> Fault:
    """A fault of the endpoint for compaction: it says nothing about the upstream's answers to turns."""
    if fault.name in _OF_CREDENTIALS:
        return fault
    if status in _ABSENT and fault.name != ITEM_MISSING:
        info = ErrorInfo(
            kind=ErrorKind.INVALID_REQUEST, message=fault.info.message, code=COMPACTION_UNSUPPORTED
        )
        return Fault(name="compaction_unsupported", info=info)
    again = "no" if status in _REFUSED or status in _ABSENT else fault.again
    return msgspec.structs.replace(fault, again=again, rest=None)
