"""The items that Codex scopes keep, in the key-value store: read, replaced, appended to, purged.

The store is whatever the process uses: the shared one, or its own memory when nothing is shared; a process
that shares never looks at its memory (store/kv_modes.py). Keys and values are those of HOME nodes.

Writing is best effort: what cannot be kept is logged, and the next turn reasons anew. What a failing read
means is the owner's choice: with `strict` it raises, else it is a miss. Two things go beyond HOME nodes:

- A purge holds. It leaves a fence (turns.py), and a turn that read the entry before the purge cannot append
  to it after, for its items came from the same account and history as those that were refused.
- A value that cannot be read is overwritten by the next turn, instead of standing in its way until it ends.

Pure parts are in turns.py; which items there are, and where they go, is upstreams/codex/replay*.py.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.kernel.errors import CasUnsupported, StoreError, StoreUnavailable
from gateway.kernel.ids import new_hex
from gateway.replay.limits import APPEND_WITHIN_S, CAS_ATTEMPTS, MAX_VALUE_BYTES, TTL_S
from gateway.replay.scope import ReplayScope
from gateway.replay.turns import ReplayTurn, appended, fence, fence_of, marker_of, trimmed
from gateway.replay.values import CorruptValue, decode_items, encode_items
from gateway.store.kv import KVClient, KVSetOptions

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.002
_MAX_PAUSE_S = 0.1


class Seen(NamedTuple):
    """What a reader remembers of an entry, to tell later whether it was purged meanwhile."""

    present: bool
    fence: str


class Replay(msgspec.Struct, frozen=True):
    """What an entry held when it was read."""

    items: tuple[bytes, ...] = ()
    """Markers included, fences not; empty for a miss."""
    seen: Seen | None = None
    """None when the store did not answer."""


MISS = Replay()


class _Value(NamedTuple):
    raw: bytes | None
    items: list[bytes]


class CodexReplay:
    """One for a process. kv: raises when the store fails (RequiredKV)."""

    def __init__(self, kv: KVClient, *, strict: bool = False) -> None:
        self._kv = kv
        self._strict = strict
        self._locks: dict[bytes, _Lock] = {}

    # -- reading

    async def read(self, scope: ReplayScope) -> Replay:
        """The entry, renewed. Raises StoreError when strict."""
        try:
            return await self._read(scope)
        except StoreError as error:
            if self._strict:
                raise
            _failed("read", scope, error)
            return MISS

    async def get_items(self, scope: ReplayScope) -> tuple[bytes, ...]:
        """Its items, markers included. A store that fails is a miss."""
        try:
            return (await self._read(scope)).items
        except StoreError as error:
            _failed("read", scope, error)
            return ()

    async def get_items_required(self, scope: ReplayScope) -> tuple[bytes, ...]:
        """get_items(), but raises StoreError."""
        return (await self._read(scope)).items

    async def get_item(self, scope: ReplayScope) -> bytes | None:
        """The first that is no marker."""
        return next((item for item in await self.get_items(scope) if marker_of(item) is None), None)

    async def _read(self, scope: ReplayScope) -> Replay:
        raw = await self._kv.kv_get(scope.key)
        if raw is None:
            return Replay(seen=Seen(False, ""))
        try:
            items = _decoded(raw)
        except CorruptValue as error:
            raise StoreError(f"a replay entry cannot be read ({error})") from None
        seen = Seen(True, fence_of(items))
        found = items[1:] if seen.fence else items
        if found:
            await self._kv.kv_expire(scope.key, TTL_S)
        return Replay(tuple(found), seen)

    # -- writing

    async def store(self, scope: ReplayScope, items: Sequence[bytes]) -> bool:
        """Replace the entry, whatever it holds. False when nothing was written: no items, or no store."""
        items = trimmed(items)
        if not items:
            return False
        try:
            return await self._kv.kv_set(scope.key, encode_items(items), KVSetOptions(ex=TTL_S))
        except StoreError as error:
            _failed("store", scope, error)
            return False

    async def append(self, scope: ReplayScope, turn: ReplayTurn, *, seen: Seen | None = None) -> bool:
        """Add a turn to the entry; one that is there already is only renewed. False when it is not there.

        seen: of the read that preceded the turn; the turn is not kept when the entry was purged since.
        """
        if not turn.items:
            return False
        try:
            async with asyncio.timeout(APPEND_WITHIN_S), self._alone(scope.key):
                return await self._append(scope, turn, seen)
        except (StoreError, TimeoutError) as error:
            _failed("append", scope, error)
            return False

    async def _append(self, scope: ReplayScope, turn: ReplayTurn, seen: Seen | None) -> bool:
        lost_reply = False
        for attempt in range(CAS_ATTEMPTS):
            value = await self._current(scope)
            if seen is not None and _purged_since(seen, value):
                log.info("replay.append_fenced", extra={"scope": scope.digest, "session_kind": scope.kind})
                return False
            items = appended(value.items, turn)
            if items is None:
                await self._kv.kv_expire(scope.key, TTL_S)
                return True
            if not items:
                log.warning(
                    "replay.turn_too_large", extra={"scope": scope.digest, "session_kind": scope.kind}
                )
                return False
            try:
                if await self._swap(scope, value.raw, encode_items(items)):
                    return True
            except StoreUnavailable:
                if lost_reply:
                    raise
                lost_reply = True  # it may have been written: the next look tells
            await asyncio.sleep(_pause_s(attempt))
        log.warning("replay.append_contended", extra={"scope": scope.digest, "session_kind": scope.kind})
        return False

    async def _current(self, scope: ReplayScope) -> _Value:
        raw = await self._kv.kv_get(scope.key)
        try:
            return _Value(raw, [] if raw is None else _decoded(raw))
        except CorruptValue as error:
            _failed("decode", scope, error)
            return _Value(raw, [])

    async def _swap(self, scope: ReplayScope, expected: bytes | None, value: bytes) -> bool:
        try:
            return await self._kv.kv_cas(scope.key, expected, value, TTL_S)
        except CasUnsupported:
            # The store has said so once. Turns that end at the same moment may lose one another; that costs
            # a miss, while keeping nothing would cost one with every turn.
            return await self._kv.kv_set(scope.key, value, KVSetOptions(ex=TTL_S))

    # -- purging

    async def purge(self, scope: ReplayScope, *, seen: Seen | None = None) -> bool:
        """delete(), as strict as reads are: raises StoreError when strict, for what was refused once would
        be refused again.
        """
        if not self._strict:
            return await self.delete(scope, seen=seen)
        await self.delete_required(scope, seen=seen)
        return True

    async def delete(self, scope: ReplayScope, *, seen: Seen | None = None) -> bool:
        """Forget every item of the entry. False when the store failed.

        seen: of the read whose items the upstream refused; an entry that was purged since is left alone.
        """
        try:
            await self.delete_required(scope, seen=seen)
        except StoreError as error:
            _failed("purge", scope, error)
            return False
        return True

    async def delete_required(self, scope: ReplayScope, *, seen: Seen | None = None) -> None:
        """delete(), but raises StoreError."""
        tombstone = encode_items([fence(new_hex(32))])
        if seen is None:
            await self._kv.kv_set(scope.key, tombstone, KVSetOptions(ex=TTL_S))
        elif not await self._purge_over(scope, tombstone, seen):
            return
        log.info("replay.purged", extra={"scope": scope.digest, "session_kind": scope.kind})

    async def _purge_over(self, scope: ReplayScope, tombstone: bytes, seen: Seen) -> bool:
        """False when the entry was purged since: what came after that was not refused."""
        for attempt in range(CAS_ATTEMPTS):
            value = await self._current(scope)
            if _purged_since(seen, value):
                return False
            if await self._swap(scope, value.raw, tombstone):
                return True
            await asyncio.sleep(_pause_s(attempt))
        # Others go on appending to what was refused.
        return await self._kv.kv_set(scope.key, tombstone, KVSetOptions(ex=TTL_S))

    # -- shared

    @contextlib.asynccontextmanager
    async def _alone(self, key: bytes) -> AsyncIterator[None]:
        """Appends of this process wait for each other, which is cheaper than to swap against each other."""
        lock = self._locks.setdefault(key, _Lock())
        lock.users += 1
        try:
            async with lock:
                yield
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[key]


class _Lock(asyncio.Lock):
    def __init__(self) -> None:
        super().__init__()
        self.users = 0


def _decoded(raw: bytes) -> list[bytes]:
    if len(raw) > MAX_VALUE_BYTES:
        raise CorruptValue("too large")
    return decode_items(raw)


def _purged_since(seen: Seen, value: _Value) -> bool:
    """By a fence that was not there; or by other nodes, which delete.

    A fence that has gone while the entry stands is no purge: it was trimmed away. An entry that ended by age
    counts as deleted: nobody can tell the two apart, and one turn is all that this costs.
    """
    if value.raw is None:
        return seen.present
    return fence_of(value.items) not in ("", seen.fence)


def _pause_s(attempt: int) -> float:
    """Longer with every attempt, up to a bound, and never in step with others."""
    bound: float = min(_FIRST_PAUSE_S * 2**attempt, _MAX_PAUSE_S)
    return bound * random.random()  # noqa: S311 - jitter, no secret


def _failed(operation: str, scope: ReplayScope, error: Exception) -> None:
    why = str(error) or type(error).__name__
    log.warning(
        "replay.store_failed",
        extra={"operation": operation, "scope": scope.digest, "session_kind": scope.kind, "error": why},
    )
