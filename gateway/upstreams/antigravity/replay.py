"""Replay around one attempt on a Gemini model: read, prepare, observe, commit or give up.

A lane begins a ReplayAttempt for its request, sends its payload, shows it each chunk, and ends it in one of
three ways: commit() after a stream that ended well, give_up() when the upstream has refused a signature, and
nothing at all when the stream was cut, for half an answer leaves nothing. Nothing but the client's own
mistake is raised: replay is worth less than the request.
"""

import logging
from collections.abc import Coroutine
from typing import Any

from gateway.kernel.json import JsonObject
from gateway.replay.antigravity import AntigravityReplay, Committed, Snapshot
from gateway.replay.scope import ReplayScope
from gateway.upstreams.antigravity.arguments import Schemas
from gateway.upstreams.antigravity.ledger import Ledger
from gateway.upstreams.antigravity.pairing import RESPONSE_ROLE
from gateway.upstreams.antigravity.replay_prepare import prepared
from gateway.upstreams.antigravity.replay_scope import FOUND_BY_WORDS

log = logging.getLogger(__name__)


class ReplayAttempt:
    """Made by begin()."""

    def __init__(
        self, store: AntigravityReplay, scope: ReplayScope | None, snapshot: Snapshot, payload: JsonObject
    ) -> None:
        self.payload = payload
        """To be sent exactly so."""
        self.replayed = False
        self._store = store
        self._scope = scope
        self._snapshot = snapshot
        self._ledger = Ledger(payload) if scope is not None else None

    def observe(self, chunk: JsonObject) -> None:
        """A chunk of the stream, or the whole answer."""
        if self._ledger is not None:
            self._ledger.observe(chunk)

    def observe_text(self, text: str) -> None:
        """A chunk of the stream that holds nothing but this."""
        if self._ledger is not None:
            self._ledger.observe_text(text)

    def commit(self) -> Coroutine[Any, Any, Committed] | None:
        """What is to be done once the stream has ended without an error. None where that is nothing: an
        incomplete answer leaves nothing, and one that signed nothing ends no chain where there is none.
        """
        chain = self._ledger.chain() if self._ledger is not None else None
        if chain is None or self._scope is None or (not chain and self._snapshot.buried):
            return None
        return self._store.commit(self._scope, self._snapshot, chain)

    async def give_up(self) -> bool:
        """The upstream has refused a signature. Whether that ended the chain which was replayed."""
        if self._scope is None:
            return False
        return await _given_up(self._store, self._scope, self._snapshot, "refused")


async def begin(
    store: AntigravityReplay,
    scope: ReplayScope | None,
    payload: JsonObject,
    *,
    schemas: Schemas | None = None,
    response_role: str = RESPONSE_ROLE,
    fresh: bool = False,
) -> ReplayAttempt:
    """Without a scope the payload is prepared all the same, and nothing is read or kept.

    fresh: nothing is put back, whatever is remembered, for the upstream has refused it.

    Raises InvalidRequest for a history that cannot be sent, StoreError where reads are strict.
    """
    items, snapshot, _ = await store.read(scope)
    shared = scope is not None and scope.kind in FOUND_BY_WORDS
    ready = prepared(payload, () if fresh else items, schemas, response_role=response_role, shared=shared)
    if scope is not None and not items and ready.degraded:
        # Another session or system prompt, an entry that ended, a turn that was never committed.
        log.info("replay.ledger_missed", extra={"scope": scope.digest, "ids": ready.degraded})
    if scope is not None and ready.replayed:
        log.info("replay.injected", extra={"scope": scope.digest, "session_kind": scope.kind})
    if scope is not None and ready.degraded:
        log.info("replay.ids_degraded", extra={"scope": scope.digest, "ids": ready.degraded})
    if scope is not None and ready.broken:
        await _given_up(store, scope, snapshot, "broken")
        snapshot = (await store.read(scope)).snapshot
    attempt = ReplayAttempt(store, scope, snapshot, ready.payload)
    attempt.replayed = ready.replayed
    return attempt


async def _given_up(store: AntigravityReplay, scope: ReplayScope, snapshot: Snapshot, reason: str) -> bool:
    purged = bool(await store.invalidate(scope, snapshot))
    log.info(
        "replay.purged",
        extra={"scope": scope.digest, "session_kind": scope.kind, "reason": reason, "purged": purged},
    )
    return purged
