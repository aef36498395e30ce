"""When a turn may use an upstream session, and when it leaves one behind.

A session is claimed before the attempt, so it has one user. It is written back under its new key after a
clean finish, never under the old one: regenerating, editing and two turns at once never meet a session that
holds other history. The store being away means no session, never a failed turn.
"""

import hashlib
import logging
from typing import Literal

import msgspec

from gateway.kernel.errors import StoreError
from gateway.sessions.key import is_eligible, lookup_key, write_key
from gateway.sessions.store import SessionCache
from gateway.turn.flatten import flatten_parts
from gateway.turn.items import Message, TextPart
from gateway.turn.request import Turn

log = logging.getLogger(__name__)


class Session(msgspec.Struct, frozen=True):
    """An upstream conversation that this turn continues, and nobody else."""

    session_id: str
    instance: str
    """Full name of the instance whose process holds it."""


class SessionPolicy:
    def __init__(self, cache: SessionCache) -> None:
        self._cache = cache

    async def claim(self, turn: Turn, mode: Literal["chat", "agent"]) -> Session | None:
        """The session that holds exactly what came before the newest message, taken out of the cache."""
        if not is_eligible(turn, mode, enabled=self._cache.enabled):
            return None
        key = lookup_key(turn)
        if key is None:
            return None
        try:
            entry = await self._cache.claim(key)
        except StoreError as error:
            log.warning("session.claim_failed", extra={"turn_id": turn.id, "kind": str(error.kind)})
            return None
        return Session(entry.session_id, entry.instance_name) if entry is not None else None

    async def remember(
        self, turn: Turn, mode: Literal["chat", "agent"], *, reply_text: str, session_id: str, instance: str
    ) -> None:
        """After a clean finish: the next turn of this conversation may go on in the session."""
        if not session_id or not is_eligible(turn, mode, enabled=self._cache.enabled):
            return
        reply = Message(role="assistant", parts=(TextPart(reply_text),))
        try:
            await self._cache.put(write_key(turn, (reply,)), session_id, instance)
        except StoreError as error:
            log.warning("session.put_failed", extra={"turn_id": turn.id, "kind": str(error.kind)})


def affinity(turn: Turn) -> str:
    """Equal texts go to the same instance.

    The client's user id, else what its protocol knows the conversation by, else its system prompt, else
    nothing.
    """
    if turn.user:
        return f"user\x1f{turn.tenant}\x1f{turn.user}"
    if turn.affinity:
        return f"{turn.affinity}\x1f{turn.tenant}"
    system = [
        flatten_parts(item.parts)
        for item in turn.items
        if isinstance(item, Message) and item.role in ("system", "developer")
    ]
    if not system:
        return ""
    digest = hashlib.sha256("\x1e".join(system).encode("utf-8", "surrogatepass")).hexdigest()
    return f"system\x1f{turn.tenant}\x1f{digest}"
