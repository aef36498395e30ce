"""What the contract suites of streams, leases and the turn log share: the Redis side, and waiting."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import pytest

from gateway.store.connect import Redis, connect
from gateway.store.keys import Keys
from gateway.store.kv import KVClient
from gateway.store.kv_redis import RedisKV
from gateway.store.leases_redis import RedisLeases
from gateway.store.streams_redis import RedisStreams
from gateway.store.turnlog_redis import RedisTurnLog

OpenKV = Callable[[], KVClient]
"""The store as one replica sees it, another one with every call where replicas exist."""


class Ttl(Protocol):
    async def __call__(self, key: bytes) -> float | None: ...


class RedisStore:
    """Everything that is built on one connected Redis."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.keys = Keys(buckets=redis.buckets)
        self.streams = RedisStreams(redis)
        self.leases = RedisLeases(redis)
        self.turns = RedisTurnLog(redis, self.keys)
        self.kv = RedisKV(redis)

    async def ttl_s(self, key: bytes) -> float | None:
        """Seconds that a key has left, None without an end or without the key."""
        left_ms: int = await self.redis.call(key, "PTTL", key)
        return left_ms / 1000 if left_ms >= 0 else None


@contextlib.asynccontextmanager
async def redis_store(request: pytest.FixtureRequest, kind: str = "redis") -> AsyncIterator[RedisStore]:
    """On a private redis-server that is empty, or on a `cluster`."""
    async with connect(request.getfixturevalue(f"{kind}_url")) as redis:
        await redis.wait_connected(5)
        store = RedisStore(redis)
        yield store
        await store.streams.aclose()


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.005)
