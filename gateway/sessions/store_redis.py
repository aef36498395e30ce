"""Sessions of a cluster on Redis: a hash an entry, a sorted set of entries by last use, a hash of counters.

Claims are made on the server in one step, so replicas cannot share a session. The three keys are in different
slots of a Cluster, hence no script spans two of them. What an operation sends leaves in one write; counters
and the removal of dead members are sent behind it and not waited for.

An entry enters the set after its hash is written and leaves it before its hash is deleted, so a race leaves a
member without a hash at worst: it takes a place until it is the least recently used. (On a Cluster, where the
nodes do not wait for each other, a hash may be left without a member; it ends by age.)

What is malformed is nothing: an entry is deleted and missed, the set is made anew by the next put, counters
begin again. A session is never worth a failed turn.

Ages are judged by the replicas' clocks: a few seconds between them are nothing against a TTL of minutes.
"""

import asyncio
import logging
from typing import Final

from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreError, StoreRefused
from gateway.sessions.store import GRACE_S, BaseSessionCache, SessionEntry, SessionLimits, Totals
from gateway.store.calls import Arg, Reply, ReplyFuture, gather
from gateway.store.connect import Redis
from gateway.store.keys import Keys
from gateway.store.scripts import Script

log = logging.getLogger(__name__)

_PUT = Script("session_put")
_READ = Script("session_read")
_INDEX = Script("session_index")

_COUNTERS: Final = Totals.__struct_fields__


class RedisSessionCache(BaseSessionCache):
    def __init__(self, redis: Redis, keys: Keys, limits: SessionLimits, clock: Clock) -> None:
        super().__init__(limits, clock)
        self._redis = redis
        self._keys = keys
        self._used = 0.0
        """The latest last-use score given out here."""

    async def claim(self, key: str) -> SessionEntry | None:
        if not self.enabled:
            return None
        name = self._keys.session(key)
        now = self._clock.now_ms()
        index = self._keys.session_index
        _, fields = await _both(
            self._redis.call(index, b"ZREM", index, name),
            self._redis.run(_READ, [name], [1, now, self._ttl_ms]),
        )
        return self._judge(fields, now)

    async def get(self, key: str) -> SessionEntry | None:
        if not self.enabled:
            return None
        name = self._keys.session(key)
        index = self._keys.session_index
        now = self._clock.now_ms()
        fields = self._redis.run(_READ, [name], [0, now, self._ttl_ms])
        _, found = await _both(self._redis.call(index, b"ZADD", index, b"XX", self._score(now), name), fields)
        entry = self._judge(found, now)
        if entry is None:
            self._post(index, b"ZREM", index, name)
            if found:  # too old, which is deleted already, or malformed
                self._post(name, b"DEL", name)
        return entry

    async def put(self, key: str, session_id: str, instance_name: str = "", *, worker: str = "") -> None:
        if not session_id or not self.enabled:
            return
        name = self._keys.session(key)
        now = self._clock.now_ms()
        keep_ms = self._ttl_ms + round(GRACE_S * 1000) if self._ttl_ms else 0
        room: list[Arg] = [self._score(now), name, self._forgotten_ms(now), self._max]
        _, (forgotten, *evicted) = await gather(
            [
                self._redis.run(
                    _PUT, [name], [now, self._ttl_ms, keep_ms, session_id, instance_name, worker]
                ),
                self._redis.run(_INDEX, [self._keys.session_index], room),
            ]
        )
        self._count("expire", forgotten)
        if evicted:
            deleted = await gather([self._redis.call(member, b"DEL", member) for member in evicted])
            self._count("evict", sum(deleted))

    async def invalidate(self, key: str) -> bool:
        if not self.enabled:
            return False
        name = self._keys.session(key)
        index = self._keys.session_index
        _, deleted = await _both(
            self._redis.call(index, b"ZREM", index, name), self._redis.call(name, b"DEL", name)
        )
        self._count("invalidate", deleted)
        return bool(deleted)

    async def _figures(self) -> tuple[int, Totals]:
        index, stats = self._keys.session_index, self._keys.session_stats
        forgotten_ms = self._forgotten_ms(self._clock.now_ms())
        size, values = await asyncio.gather(
            _unless_wrong(self._redis.call(index, b"ZCOUNT", index, forgotten_ms, b"+inf")),
            _unless_wrong(self._redis.call(stats, b"HMGET", stats, *_COUNTERS)),
        )
        if values is None:
            self._post(stats, b"DEL", stats)
        totals = Totals()
        for name, value in zip(_COUNTERS, values or (), strict=False):
            try:
                setattr(totals, name, int(value or 0))
            except ValueError:
                self._post(stats, b"HDEL", stats, name)
        return size or 0, totals

    def _judge(self, found: list[bytes], now: int) -> SessionEntry | None:
        """Count what was found, and see whether it is of use."""
        entry = _entry(found, now) if found else None
        if entry is None:
            self._count("miss")
            return None
        if self._too_old(round(entry.created_at * 1000), now):
            self._count("expire")
            self._count("miss")
            return None
        self._count("hit")
        return entry

    def _score(self, now_ms: int) -> float:
        """The time of a use, a little later than that of the use before, so that their order is kept."""
        self._used = max(float(now_ms), self._used + 0.001)
        return self._used

    def _count(self, name: str, by: int = 1) -> None:
        if by:
            self._post(self._keys.session_stats, b"HINCRBY", self._keys.session_stats, name, by)

    def _post(self, key: bytes, *args: Arg) -> None:
        """Send a command and do not wait for it: only figures depend on it."""
        self._redis.call(key, *args).add_done_callback(_log_failure)


async def _both(index: ReplyFuture, entry: ReplyFuture) -> tuple[Reply, Reply]:
    """The replies about the set and about an entry, issued together. None for a set that is none."""
    used, found = await asyncio.gather(index, entry, return_exceptions=True)
    if _is_wrong_type(used):
        used = None
    for reply in (used, found):
        if isinstance(reply, BaseException):
            raise reply
    return used, found


async def _unless_wrong(future: ReplyFuture) -> Reply:
    """None when the key holds something else."""
    try:
        return await future
    except StoreRefused as error:
        if _is_wrong_type(error):
            return None
        raise


def _is_wrong_type(reply: object) -> bool:
    return isinstance(reply, StoreRefused) and reply.word == "WRONGTYPE"


def _entry(found: list[bytes], now: int) -> SessionEntry | None:
    """None for one that nobody here has written."""
    fields = dict(zip(found[::2], found[1::2], strict=True))
    try:
        entry = SessionEntry(
            session_id=fields[b"session_id"].decode(),
            instance_name=fields[b"instance_name"].decode(),
            worker=fields[b"worker"].decode(),
            created_at=int(fields[b"created_at_ms"]) / 1000,
            last_used_at=now / 1000,
            hit_count=int(fields[b"hit_count"]) + 1,
        )
    except (KeyError, ValueError, OverflowError):
        log.warning("session.malformed")
        return None
    return entry if entry.session_id else None


def _log_failure(future: ReplyFuture) -> None:
    if not future.cancelled() and isinstance(error := future.exception(), StoreError):
        log.debug("session.post_failed", extra={"error": type(error).__name__})
