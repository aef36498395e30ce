"""Chains of Gemini's signatures in the key-value store: who may write what over what.

A request reads a chain and keeps a snapshot of the value; its answer makes a longer chain, which is written
only over that snapshot or over a value that the new chain extends. So of two turns that answer the same
history the first wins, one that goes on from the other's chain is let through, and a chain that was purged
meanwhile does not come back. Absence is fenced too: who finds nothing leaves a tombstone, so that the first
of several first turns wins like any other. Nothing is ever removed before its time.

One code path for a shared store and for the one in memory. Replay is worth less than the request: unless
strict, a read that fails is a read that found nothing, and writes are never the caller's failure. Called by
upstreams/antigravity. The client must be one that raises (RequiredKV), or absence could not be told from an
outage.
"""

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from gateway.kernel.errors import CasUnsupported, StoreError
from gateway.replay.antigravity_items import (
    Chain,
    Item,
    chain_of,
    chain_value,
    encoded_items,
    new_branch,
    tombstone_value,
)
from gateway.replay.limits import CHAIN_CAS_ATTEMPTS, MAX_VALUE_BYTES, TTL_S
from gateway.replay.scope import ReplayScope
from gateway.store.kv import KVClient, KVSetOptions

log = logging.getLogger(__name__)

Committed: TypeAlias = Literal["stored", "cleared", "kept", "failed"]
"""stored: the chain is there now. cleared: none is there any more. kept: somebody else's newer one is."""


class Snapshot(msgspec.Struct, frozen=True):
    """What a request read, for its later writes to be compared with."""

    raw: bytes | None = None
    """None for absence."""
    encoded: tuple[bytes, ...] = ()
    branch: str = ""
    writable: bool = True
    """False for a value too large to be compared with; it ends by age."""
    buried: bool = False
    """A tombstone: there is no chain that could be ended."""


class ReplayRead(NamedTuple):
    items: tuple[Item, ...]
    snapshot: Snapshot
    found: bool
    """The entry is there, be it a tombstone or the one that this read left."""


class AntigravityReplay:
    """strict: reads raise StoreError instead of finding nothing. packs: chains are written in a form of ours,
    which HOME nodes cannot read, in a third of the space: calls repeat the files that they write.
    """

    def __init__(self, kv: KVClient, *, strict: bool = False, packs: bool = False) -> None:
        self._kv = kv
        self._strict = strict
        self._packs = packs

    async def read(self, scope: ReplayScope | None) -> ReplayRead:
        """The chain, which lives another hour. What is no chain is a miss, and lives no longer."""
        if scope is None:
            return ReplayRead((), Snapshot(), False)
        try:
            return await self._read(scope)
        except StoreError as error:
            if self._strict:
                raise
            _degraded(scope, "read", error)
            # As if absent: what this turn makes must not replace a chain that it has not seen.
            return ReplayRead((), Snapshot(), False)

    async def _read(self, scope: ReplayScope) -> ReplayRead:
        for _ in range(CHAIN_CAS_ATTEMPTS):
            raw = await self._kv.kv_get(scope.key)
            if raw is not None:
                return await self._seen(scope, raw)
            branch = new_branch()
            reservation = tombstone_value(branch)
            if await self._kv.kv_cas(scope.key, None, reservation, TTL_S):
                return ReplayRead((), Snapshot(reservation, branch=branch, buried=True), True)
        raise StoreError("could not fence absent antigravity reasoning replay state")

    async def _seen(self, scope: ReplayScope, raw: bytes) -> ReplayRead:
        if len(raw) > MAX_VALUE_BYTES:
            return ReplayRead((), Snapshot(writable=False), False)
        chain = chain_of(raw)
        if chain is None:
            return ReplayRead((), Snapshot(raw), False)
        if chain.deleted or not chain.items:
            return ReplayRead((), Snapshot(raw, branch=chain.branch, buried=chain.deleted), True)
        await self._kv.kv_expire(scope.key, TTL_S)
        return ReplayRead(chain.items, Snapshot(raw, chain.encoded, chain.branch), True)

    async def replace_if_unchanged(
        self, scope: ReplayScope, snapshot: Snapshot, items: Sequence[Item]
    ) -> bool:
        """Write a chain over the snapshot, or over what the chain extends; False leaves what is there.

        Raises ValueError for a chain that cannot be stored (none, too many, too large), StoreError.
        """
        encoded = encoded_items(items)
        if not encoded:
            raise ValueError("no chain that can be stored")
        return await self._replaced(scope, snapshot, encoded)

    async def _replaced(self, scope: ReplayScope, snapshot: Snapshot, encoded: tuple[bytes, ...]) -> bool:
        if not snapshot.writable:
            return False
        grows = snapshot.branch and _is_prefix(snapshot.encoded, encoded)
        branch = snapshot.branch if grows else new_branch()
        expected = snapshot.raw
        for _ in range(CHAIN_CAS_ATTEMPTS):
            value = chain_value(encoded, branch, packed=self._packs)
            if await self._kv.kv_cas(scope.key, expected, value, TTL_S):
                return True
            expected = await self._kv.kv_get(scope.key)
            current = chain_of(expected) if expected is not None else None
            if current is None or not _descends(encoded, current, snapshot):
                return False
        return False

    async def delete_if_unchanged(self, scope: ReplayScope, snapshot: Snapshot) -> bool:
        """Bury the chain that the snapshot shows; a newer one stays. Raises StoreError."""
        if not snapshot.writable:
            return False
        return await self._kv.kv_cas(scope.key, snapshot.raw, tombstone_value(), TTL_S)

    # what callers do when a turn ends; none of it is their failure

    async def commit(self, scope: ReplayScope, snapshot: Snapshot, items: Sequence[Item]) -> Committed:
        """After a complete answer: its chain, or the end of the chain when nothing of it can be replayed."""
        try:
            if encoded := encoded_items(items):
                return "stored" if await self._replaced(scope, snapshot, encoded) else "kept"
        except StoreError as error:
            _degraded(scope, "store", error)
            # Whether it was written is not known. If not, the old chain is one turn short from now on.
            await self.invalidate(scope, snapshot)
            return "failed"
        match await self.invalidate(scope, snapshot):
            case None:
                return "failed"
            case done:
                return "cleared" if done else "kept"

    async def invalidate(self, scope: ReplayScope, snapshot: Snapshot) -> bool | None:
        """After the upstream refused a signature: delete_if_unchanged(), or None when the store fails."""
        try:
            return await self.delete_if_unchanged(scope, snapshot)
        except CasUnsupported:
            # Nobody can write chains there; one that others left must not be refused for ever.
            return await self._bury(scope)
        except StoreError as error:
            _degraded(scope, "invalidate", error)
            return None

    async def _bury(self, scope: ReplayScope) -> bool | None:
        """Whatever is there."""
        try:
            return await self._kv.kv_set(scope.key, tombstone_value(), KVSetOptions(ex=TTL_S, xx=True))
        except StoreError as error:
            _degraded(scope, "invalidate", error)
            return None


def _descends(encoded: tuple[bytes, ...], current: Chain, snapshot: Snapshot) -> bool:
    """Whether the new chain goes on from what somebody wrote since the snapshot."""
    same_branch = bool(snapshot.branch) and current.branch == snapshot.branch
    return not current.deleted and same_branch and _is_prefix(current.encoded, encoded)


def _is_prefix(beginning: tuple[bytes, ...], whole: tuple[bytes, ...]) -> bool:
    return whole[: len(beginning)] == beginning


def _degraded(scope: ReplayScope, stage: str, error: StoreError) -> None:
    if isinstance(error, CasUnsupported):
        # The store has said so itself, once, and will fail every call.
        log.debug("replay.unsupported", extra={"stage": stage, "scope": scope.digest})
        return
    log.warning(
        "replay.degraded",
        extra={
            "stage": stage,
            "scope": scope.digest,
            "session_kind": scope.kind,
            "error": type(error).__name__,
        },
    )
