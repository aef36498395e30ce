"""All state ports of one process, opened from one address: in this process's memory, or on Redis.

Called by the composition roots of replicas and workers. Nobody else names the implementations.
"""

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import NamedTuple

from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreForbidden, StoreUnavailable
from gateway.store.connect import Redis, parse_redis_url
from gateway.store.deadletter import DeadLetters
from gateway.store.keys import Keys
from gateway.store.kv import Dialect, KVClient
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_redis import RedisKV
from gateway.store.leases import Leases
from gateway.store.leases_memory import MemoryLeases
from gateway.store.leases_redis import RedisLeases
from gateway.store.rights import missing_rights
from gateway.store.sealed import SealedKV
from gateway.store.sealed_streams import SealedStreams, SealedTurnLog
from gateway.store.sealing import SealRing
from gateway.store.streams import Streams
from gateway.store.streams_memory import MemoryStreams
from gateway.store.streams_redis import RedisStreams
from gateway.store.turnlog import TurnLog
from gateway.store.turnlog_memory import MemoryTurnLog
from gateway.store.turnlog_redis import RedisTurnLog

log = logging.getLogger(__name__)


class Stores(NamedTuple):
    keys: Keys
    kv: KVClient
    streams: Streams
    leases: Leases
    turns: TurnLog
    dead: DeadLetters
    redis: Redis | None
    """None when everything is in memory."""


@contextlib.asynccontextmanager
async def open_stores(
    url: str, clock: Clock, *, dialect: Dialect = "redis", ring: SealRing | None = None
) -> AsyncIterator[Stores]:
    """Open what the address names: `memory://`, or a Redis deployment. With a ring, what is kept is sealed.

    Raises ValueError for an address that makes no sense. A Redis that is down is no error: calls fail with
    StoreUnavailable until it is there.
    """
    address = parse_redis_url(url)
    if address.kind == "memory":
        async with open_memory(clock) as stores:
            yield stores  # nothing of it is ever at rest
        return
    redis = await Redis.open(url)
    streams = RedisStreams(redis)
    try:
        keys = Keys(buckets=redis.buckets)
        stores = Stores(
            keys=keys,
            kv=RedisKV(redis, dialect=dialect),
            streams=streams,
            leases=RedisLeases(redis),
            turns=RedisTurnLog(redis, keys),
            dead=DeadLetters(streams, keys, clock),
            redis=redis,
        )
        yield stores if ring is None else _sealed(stores, ring, clock)
    finally:
        await streams.aclose()
        await redis.aclose()


def _sealed(stores: Stores, ring: SealRing, clock: Clock) -> Stores:
    streams = SealedStreams(stores.streams, ring)
    return stores._replace(
        kv=SealedKV(stores.kv, ring),
        streams=streams,
        turns=SealedTurnLog(stores.turns, ring, stores.keys),
        dead=DeadLetters(streams, stores.keys, clock),
    )


@contextlib.asynccontextmanager
async def open_memory(clock: Clock) -> AsyncIterator[Stores]:
    """Everything in this process; gone with it."""
    keys = Keys()
    streams = MemoryStreams(clock)
    kv = MemoryKV(clock)
    yield Stores(
        keys=keys,
        kv=kv,
        streams=streams,
        leases=MemoryLeases(clock),
        turns=MemoryTurnLog(streams, kv, keys, clock),
        dead=DeadLetters(streams, keys, clock),
        redis=None,
    )


async def check_store(stores: Stores, *, replay: bool = False) -> None:
    """At start: refuse a Redis that is too old or forbids us what we need, warn of one that evicts. One that
    is down may come later. replay: what HTTP upstreams remember is kept there, too.

    Raises StoreError, StoreForbidden.
    """
    if stores.redis is None:
        return
    try:
        if lacks := await missing_rights(stores.redis, replay=replay):
            where = stores.redis.address.redacted()
            raise StoreForbidden(
                f"the user {stores.redis.user!r} of the store {where} lacks rights: {' '.join(lacks)}"
            )
        info = await stores.redis.server_info()
    except StoreUnavailable as error:
        log.warning("store.unavailable_at_start", extra={"why": error.message})
        return
    if info.maxmemory_policy not in ("", "noeviction"):
        remedy = "set maxmemory-policy to noeviction: turns and sessions must not vanish"
        log.warning("store.evicts", extra={"maxmemory_policy": info.maxmemory_policy, "remedy": remedy})
