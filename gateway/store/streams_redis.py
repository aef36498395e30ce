"""Streams on Redis 6.2 and later. Each entry has one field, `m`.

Commands that do not wait share the connections of connect.Redis; each reader, and each stream read as a
group, has one of its own, because a blocked connection answers nobody else.

A read over 300 streams costs the server 110 us. Packing its 600 arguments would cost 60 us here; with the
packed form of each key and position kept from read to read it is 25 us, 15 of the positions having moved.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence

from gateway.kernel.errors import StoreError, StoreRefused, StoreUnavailable
from gateway.store.calls import Arg, ReplyFuture, gather
from gateway.store.connect import Redis
from gateway.store.following import Follower
from gateway.store.refusals import is_half_moved
from gateway.store.scripts import Script
from gateway.store.streams import START, Entry, StreamReader

log = logging.getLogger(__name__)

FIELD = b"m"
_SETTLE = Script("stream_settle")
_BLOCK_MARGIN_S = 3.0
"""How much later than its own time a blocking read may answer before its connection is given up."""
_KEEP_PACKED = 4096
_LOOK_S = 0.05
"""Between two looks at streams that cannot be read together for the moment."""


class RedisStreams:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._group_links: dict[bytes, Follower] = {}

    async def append(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> bytes:
        entry_id: bytes = await self._redis.call(key, *_xadd(key, payload, max_len))
        return entry_id

    def post(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> None:
        self._redis.call(key, *_xadd(key, payload, max_len)).add_done_callback(_log_failure)

    async def range(self, key: bytes, *, after: bytes = START, count: int = 1000) -> list[Entry]:
        return _entries(await self._redis.call(key, b"XRANGE", key, b"(" + after, b"+", b"COUNT", count))

    async def length(self, key: bytes) -> int:
        length: int = await self._redis.call(key, b"XLEN", key)
        return length

    async def ensure_group(self, key: bytes, group: bytes) -> None:
        try:
            await self._redis.call(key, b"XGROUP", b"CREATE", key, group, START, b"MKSTREAM")
        except StoreRefused as error:
            if error.word != "BUSYGROUP":
                raise

    async def read_group(
        self, key: bytes, group: bytes, consumer: bytes, *, pending: bool, block_ms: int, count: int
    ) -> list[Entry]:
        wait = () if pending or block_ms <= 0 else (b"BLOCK", block_ms)
        position = START if pending else b">"
        try:
            reply = await self._group_link(key).call(
                *(b"XREADGROUP", b"GROUP", group, consumer, b"COUNT", count, *wait),
                *(b"STREAMS", key, position),
                timeout_s=block_ms / 1000 + _BLOCK_MARGIN_S,
            )
        except StoreRefused as error:
            # UNBLOCKED is what a waiting read is told when its stream is deleted.
            if error.word not in ("NOGROUP", "UNBLOCKED"):
                raise
            await self.ensure_group(key, group)
            return []
        found = reply[0][1] if reply else []
        if trimmed := [entry_id for entry_id, fields in found if fields is None]:
            await self.settle(key, group, *trimmed)
        return _entries(found)

    async def settle(self, key: bytes, group: bytes, *ids: bytes) -> None:
        if ids:
            await self._redis.run(_SETTLE, [key], [group, *ids])

    async def expire(self, key: bytes, ttl_s: float) -> None:
        await self._redis.call(key, b"PEXPIRE", key, round(ttl_s * 1000))

    async def delete(self, *keys: bytes) -> None:
        if keys:
            await gather(self._redis.call(key, b"DEL", key) for key in keys)

    def reader(self, bucket_key: bytes) -> StreamReader:
        return RedisStreamReader(self._redis, self._redis.dedicated(bucket_key))

    async def aclose(self) -> None:
        """Close the connections of group reads; readers are closed by their owners."""
        links = list(self._group_links.values())
        self._group_links.clear()
        for link in links:
            await link.aclose()

    def _group_link(self, key: bytes) -> Follower:
        link = self._group_links.get(key)
        if link is None:
            link = self._group_links[key] = self._redis.dedicated(key)
        return link


class RedisStreamReader:
    def __init__(self, redis: Redis, link: Follower) -> None:
        self._redis = redis
        self._link = link
        self._packed = _Packed()

    async def read(
        self, cursors: Mapping[bytes, bytes], *, block_ms: int, count: int
    ) -> list[tuple[bytes, list[Entry]]]:
        try:
            reply = await self._link.call_packed(
                self._packed.xread(cursors, block_ms=block_ms, count=count),
                timeout_s=block_ms / 1000 + _BLOCK_MARGIN_S,
            )
        except StoreUnavailable as error:
            if not is_half_moved(error):
                raise
            return await self._read_apart(cursors, block_ms=block_ms, count=count)
        return [(key, _entries(entries)) for key, entries in reply or ()]

    async def _read_apart(
        self, cursors: Mapping[bytes, bytes], *, block_ms: int, count: int
    ) -> list[tuple[bytes, list[Entry]]]:
        """Each stream by itself, again and again: while their slot is being moved no node reads streams of
        which it lacks one, and a stream that nobody has written to is on neither.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + block_ms / 1000
        while True:
            replies = await gather(
                self._redis.call(key, b"XREAD", b"COUNT", count, b"STREAMS", key, cursor)
                for key, cursor in cursors.items()
            )
            found = [(key, _entries(entries)) for reply in replies for key, entries in reply or ()]
            left_s = until - loop.time()
            if found or left_s <= 0:
                return found
            await asyncio.sleep(min(_LOOK_S, left_s))

    async def aclose(self) -> None:
        await self._link.aclose()


class _Packed(dict[bytes, bytes]):
    """Keys and positions as they go over the wire."""

    def __missing__(self, data: bytes) -> bytes:
        packed = self[data] = _bulk(data)
        return packed

    def xread(self, cursors: Mapping[bytes, bytes], *, block_ms: int, count: int) -> bytes:
        if len(self) > _KEEP_PACKED + 2 * len(cursors):
            self.clear()
        wait = (b"BLOCK", b"%d" % block_ms) if block_ms > 0 else ()
        options = (b"XREAD", b"COUNT", b"%d" % count, *wait, b"STREAMS")
        get = self.__getitem__
        return b"".join(
            (
                b"*%d\r\n" % (len(options) + 2 * len(cursors)),
                *map(_bulk, options),
                *map(get, cursors),
                *map(get, cursors.values()),
            )
        )


def _bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def _xadd(key: bytes, payload: bytes, max_len: int | None) -> Sequence[Arg]:
    bound = () if max_len is None else (b"MAXLEN", b"~", max_len)
    return (b"XADD", key, *bound, b"*", FIELD, payload)


def _entries(found: Sequence[tuple[bytes, Sequence[bytes] | None]]) -> list[Entry]:
    return [(entry_id, fields[1]) for entry_id, fields in found if fields is not None]


def _log_failure(future: ReplyFuture) -> None:
    if not future.cancelled() and isinstance(error := future.exception(), StoreError):
        log.debug("store.post_failed", extra={"error": type(error).__name__})
