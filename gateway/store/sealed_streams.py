"""Streams and the turn log with sealed payloads, around any others: commands, frames, dead letters.

An entry is bound to its stream: copied to another turn's stream it does not open. What does not open is
handed on as it is, for the codec to call it undecodable; plain entries of processes that do not seal yet are
read.
Called by store/backends.py, where a key ring is configured.
"""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.store.keys import Keys
from gateway.store.sealing import SealRing, Unsealable
from gateway.store.streams import START, Entry, StreamReader, Streams
from gateway.store.turnlog import Fence, TurnLog, TurnRecord, TurnState, Write


class _Seal:
    """Seals for streams and for what a turn's record keeps."""

    def __init__(self, ring: SealRing) -> None:
        self._ring = ring

    def entry(self, key: bytes, payload: bytes) -> bytes:
        return self._ring.seal(payload, b"stream\0" + key)

    def payload(self, key: bytes, entry: bytes) -> bytes:
        return self._opened(entry, b"stream\0" + key)

    def entries(self, key: bytes, entries: list[Entry]) -> list[Entry]:
        return [(entry_id, self.payload(key, entry)) for entry_id, entry in entries]

    def meta(self, turn_id: str, meta: bytes) -> bytes:
        return self._ring.seal(meta, b"meta\0" + turn_id.encode()) if meta else meta

    def opened_meta(self, turn_id: str, meta: bytes) -> bytes:
        return self._opened(meta, b"meta\0" + turn_id.encode())

    def _opened(self, sealed: bytes, place: bytes) -> bytes:
        try:
            return self._ring.open(sealed, place)
        except Unsealable:
            return sealed


class SealedReader:
    """See StreamReader."""

    def __init__(self, inner: StreamReader, seal: _Seal) -> None:
        self._inner = inner
        self._seal = seal

    async def read(
        self, cursors: Mapping[bytes, bytes], *, block_ms: int, count: int
    ) -> list[tuple[bytes, list[Entry]]]:
        found = await self._inner.read(cursors, block_ms=block_ms, count=count)
        return [(key, self._seal.entries(key, entries)) for key, entries in found]

    async def aclose(self) -> None:
        await self._inner.aclose()


class SealedStreams:
    """See Streams."""

    def __init__(self, inner: Streams, ring: SealRing) -> None:
        self._inner = inner
        self._seal = _Seal(ring)

    async def append(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> bytes:
        return await self._inner.append(key, self._seal.entry(key, payload), max_len=max_len)

    def post(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> None:
        self._inner.post(key, self._seal.entry(key, payload), max_len=max_len)

    async def range(self, key: bytes, *, after: bytes = START, count: int = 1000) -> list[Entry]:
        return self._seal.entries(key, await self._inner.range(key, after=after, count=count))

    async def length(self, key: bytes) -> int:
        return await self._inner.length(key)

    async def ensure_group(self, key: bytes, group: bytes) -> None:
        await self._inner.ensure_group(key, group)

    async def read_group(
        self, key: bytes, group: bytes, consumer: bytes, *, pending: bool, block_ms: int, count: int
    ) -> list[Entry]:
        entries = await self._inner.read_group(
            key, group, consumer, pending=pending, block_ms=block_ms, count=count
        )
        return self._seal.entries(key, entries)

    async def settle(self, key: bytes, group: bytes, *ids: bytes) -> None:
        await self._inner.settle(key, group, *ids)

    async def expire(self, key: bytes, ttl_s: float) -> None:
        await self._inner.expire(key, ttl_s)

    async def delete(self, *keys: bytes) -> None:
        await self._inner.delete(*keys)

    def reader(self, bucket_key: bytes) -> StreamReader:
        return SealedReader(self._inner.reader(bucket_key), self._seal)


class SealedTurnLog:
    """See TurnLog."""

    def __init__(self, inner: TurnLog, ring: SealRing, keys: Keys) -> None:
        self._inner = inner
        self._keys = keys
        self._seal = _Seal(ring)

    def _entry(self, turn_id: str, entry: bytes) -> bytes:
        return self._seal.entry(self._keys.frames(turn_id), entry)

    async def create(self, record: TurnRecord, *, ttl_s: float, lease_ms: int) -> bool:
        meta = self._seal.meta(record.turn_id, record.meta)
        sealed = msgspec.structs.replace(record, meta=meta)
        return await self._inner.create(sealed, ttl_s=ttl_s, lease_ms=lease_ms)

    async def get(self, turn_id: str) -> TurnRecord | None:
        record = await self._inner.get(turn_id)
        if record is None:
            return None
        return msgspec.structs.replace(record, meta=self._seal.opened_meta(turn_id, record.meta))

    async def exists(self, turn_ids: Sequence[str]) -> list[bool]:
        return await self._inner.exists(turn_ids)

    async def assign(self, turn_id: str, *, expected_attempt: int, fence: Fence, instance: str) -> bool:
        return await self._inner.assign(
            turn_id, expected_attempt=expected_attempt, fence=fence, instance=instance
        )

    async def accept(self, turn_id: str, fence: Fence, entry: bytes) -> Write:
        return await self._inner.accept(turn_id, fence, self._entry(turn_id, entry))

    async def decline(self, turn_id: str, fence: Fence, entry: bytes) -> Write:
        return await self._inner.decline(turn_id, fence, self._entry(turn_id, entry))

    async def append(self, turn_id: str, fence: Fence, entry: bytes, *, last_seq: int) -> Write:
        return await self._inner.append(turn_id, fence, self._entry(turn_id, entry), last_seq=last_seq)

    async def finish(
        self, turn_id: str, state: TurnState, *, fence: Fence | None, entry: bytes | None
    ) -> Write:
        sealed = None if entry is None else self._entry(turn_id, entry)
        return await self._inner.finish(turn_id, state, fence=fence, entry=sealed)

    async def renew_leases(self, turn_ids: Sequence[str], *, lease_ms: int) -> list[bool]:
        return await self._inner.renew_leases(turn_ids, lease_ms=lease_ms)

    async def live_leases(self, turn_ids: Sequence[str]) -> list[bool]:
        return await self._inner.live_leases(turn_ids)
