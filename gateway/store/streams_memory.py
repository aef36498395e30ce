"""Streams of one process, for `lingma-gateway up` and for tests. Nothing is shared and nothing survives.

An append wakes blocked reads at once; nobody polls. Streams with an end are dropped by the first call after
it. Ids are one counter in fixed width, so their bytes compare as the numbers do.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Container, Mapping

from gateway.kernel.clock import Clock
from gateway.store.expiry import Expiries
from gateway.store.streams import START, Entry, StreamReader

TRIM_SLACK = 100
"""Entries beyond max_len before the oldest go, all at once: as on Redis, which drops nodes of a hundred."""


class _Group:
    def __init__(self) -> None:
        self.given = START
        """The last id given to any consumer."""
        self.held: dict[bytes, dict[bytes, None]] = {}
        """Consumer -> ids it has and has not settled, oldest first."""


class _Stream:
    """Entries in order of id."""

    def __init__(self) -> None:
        self.ids: list[bytes] = []
        self.payloads: list[bytes] = []
        self.groups: dict[bytes, _Group] = {}

    def add(self, entry_id: bytes, payload: bytes, max_len: int | None) -> None:
        self.ids.append(entry_id)
        self.payloads.append(payload)
        if max_len is not None and len(self.ids) >= max_len + TRIM_SLACK:
            del self.ids[:-max_len]
            del self.payloads[:-max_len]

    def after(self, position: bytes, count: int) -> list[Entry]:
        if not self.ids or self.ids[-1] <= position:
            return []
        first = bisect_right(self.ids, position)
        return list(zip(self.ids[first : first + count], self.payloads[first : first + count], strict=True))

    def get(self, entry_id: bytes) -> bytes | None:
        at = bisect_right(self.ids, entry_id) - 1
        return self.payloads[at] if at >= 0 and self.ids[at] == entry_id else None

    def remove(self, entry_id: bytes) -> None:
        at = bisect_right(self.ids, entry_id) - 1
        if at >= 0 and self.ids[at] == entry_id:
            del self.ids[at]
            del self.payloads[at]


class _Waiter:
    """A blocked read: which keys end it."""

    def __init__(self, keys: Container[bytes]) -> None:
        self.keys = keys
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class MemoryStreams:
    def __init__(self, clock: Clock) -> None:
        self._expiries = Expiries(clock)
        self._streams: dict[bytes, _Stream] = {}
        self._waiters: set[_Waiter] = set()
        self._last = 0

    def __len__(self) -> int:
        """Streams kept."""
        self._drop_expired()
        return len(self._streams)

    async def append(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> bytes:
        return self.add(key, payload, max_len=max_len)

    def add(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> bytes:
        """append() for callers in the same loop turn, such as the turn log."""
        self._drop_expired()
        self._last += 1
        entry_id = b"%016d" % self._last
        self._stream(key).add(entry_id, payload, max_len)
        for waiter in self._waiters:
            if key in waiter.keys and not waiter.woken.done():
                waiter.woken.set_result(None)
        return entry_id

    def post(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> None:
        self.add(key, payload, max_len=max_len)

    async def range(self, key: bytes, *, after: bytes = START, count: int = 1000) -> list[Entry]:
        self._drop_expired()
        stream = self._streams.get(key)
        return [] if stream is None else stream.after(after, count)

    def behind(self, cursors: Mapping[bytes, bytes], count: int) -> list[tuple[bytes, list[Entry]]]:
        """The entries behind each position, for streams that have any."""
        self._drop_expired()
        streams = self._streams
        return [
            (key, entries)
            for key, position in cursors.items()
            if (stream := streams.get(key)) is not None and (entries := stream.after(position, count))
        ]

    async def length(self, key: bytes) -> int:
        self._drop_expired()
        stream = self._streams.get(key)
        return 0 if stream is None else len(stream.ids)

    async def ensure_group(self, key: bytes, group: bytes) -> None:
        self._drop_expired()
        self._stream(key).groups.setdefault(group, _Group())

    async def read_group(
        self, key: bytes, group: bytes, consumer: bytes, *, pending: bool, block_ms: int, count: int
    ) -> list[Entry]:
        deadline = asyncio.get_running_loop().time() + block_ms / 1000
        while True:
            self._drop_expired()
            stream = self._streams.get(key)
            if stream is None or group not in stream.groups:
                await self.ensure_group(key, group)
                return []
            if pending:
                return _held(stream, group, consumer, count)
            if taken := _take(stream, group, consumer, count):
                return taken
            if not await self.wait((key,), deadline):
                return []

    async def settle(self, key: bytes, group: bytes, *ids: bytes) -> None:
        self._drop_expired()
        stream = self._streams.get(key)
        if stream is None:
            return
        for entry_id in ids:
            stream.remove(entry_id)
            if group in stream.groups:
                for held in stream.groups[group].held.values():
                    held.pop(entry_id, None)

    async def expire(self, key: bytes, ttl_s: float) -> None:
        self.expire_now(key, ttl_s)

    def expire_now(self, key: bytes, ttl_s: float) -> None:
        """expire() for callers in the same loop turn."""
        self._drop_expired()
        if key in self._streams:
            self._expiries.set(key, ttl_s)

    def ttl_s(self, key: bytes) -> float | None:
        """Seconds left; None for a stream that is absent or has no end."""
        self._drop_expired()
        return self._expiries.left_s(key)

    async def delete(self, *keys: bytes) -> None:
        for key in keys:
            self._streams.pop(key, None)
            self._expiries.clear(key)

    def __contains__(self, key: bytes) -> bool:
        self._drop_expired()
        return key in self._streams

    def reader(self, bucket_key: bytes) -> StreamReader:
        return MemoryStreamReader(self)

    async def wait(self, keys: Container[bytes], deadline: float) -> bool:
        """Wait for an append to one of the keys; False when the deadline (loop time) has come first."""
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return False
        waiter = _Waiter(keys)
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(left):
                await waiter.woken
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    def _stream(self, key: bytes) -> _Stream:
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = _Stream()
        return stream

    def _drop_expired(self) -> None:
        for key in self._expiries.due():
            self._streams.pop(key, None)


class MemoryStreamReader:
    def __init__(self, streams: MemoryStreams) -> None:
        self._streams = streams

    async def read(
        self, cursors: Mapping[bytes, bytes], *, block_ms: int, count: int
    ) -> list[tuple[bytes, list[Entry]]]:
        deadline = asyncio.get_running_loop().time() + block_ms / 1000
        cursors = dict(cursors)
        while True:
            found = self._streams.behind(cursors, count)
            if found or not await self._streams.wait(cursors, deadline):
                return found

    async def aclose(self) -> None:
        """Nothing is held."""


def _take(stream: _Stream, group: bytes, consumer: bytes, count: int) -> list[Entry]:
    state = stream.groups[group]
    taken = stream.after(state.given, count)
    if taken:
        state.given = taken[-1][0]
        state.held.setdefault(consumer, {}).update((entry_id, None) for entry_id, _ in taken)
    return taken


def _held(stream: _Stream, group: bytes, consumer: bytes, count: int) -> list[Entry]:
    """What a consumer holds; ids whose entry was trimmed or deleted are let go, as they say nothing."""
    held = stream.groups[group].held.get(consumer, {})
    found: list[Entry] = []
    for entry_id in list(held)[:count]:
        payload = stream.get(entry_id)
        if payload is None:
            del held[entry_id]
        else:
            found.append((entry_id, payload))
    return found
