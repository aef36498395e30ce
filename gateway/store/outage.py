"""Short outages of the store are waited out, so that a restart or a failover of it costs nobody a turn.

A new turn waits for a store that has just gone, and the replica stays ready meanwhile: balancers that look at
all replicas would find none. Counted from the loss, so that in a long outage nobody waits. A store that was
never there is not waited for. Called by the engine, the Lingma executor and the readiness page.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.kernel.errors import StoreUnavailable
from gateway.store.connect import Redis

WAIT_S = 5.0
T = TypeVar("T")


async def never_away() -> bool:
    """In place of Outage.ride_out(), where nothing can be waited for."""
    return True


async def once_more(work: Callable[[], Awaitable[T]], ride_out: Callable[[], Awaitable[bool]]) -> T:
    """What work gives, begun anew if the store goes meanwhile and comes back. Raises StoreUnavailable."""
    try:
        return await work()
    except StoreUnavailable:
        if not await ride_out():
            raise
    return await work()


class Outage:
    def __init__(self, redis: Redis | None, *, wait_s: float = WAIT_S) -> None:
        """redis: None for a store in this process' memory, which is never away."""
        self._redis = redis
        self._wait_s = wait_s

    @property
    def told(self) -> bool:
        """The store is away, and no longer waited for."""
        return self._redis is not None and not self._redis.healthy and self._left_s(self._redis) <= 0

    async def ride_out(self) -> bool:
        """Wait for a store that has just gone. Whether it is there now."""
        redis = self._redis
        if redis is None or redis.healthy:
            return True
        left_s = self._left_s(redis)
        if left_s > 0:
            with contextlib.suppress(StoreUnavailable):
                await redis.wait_connected(left_s)
        return redis.healthy

    def _left_s(self, redis: Redis) -> float:
        lost_at = redis.lost_at
        return 0.0 if lost_at is None else lost_at + self._wait_s - asyncio.get_running_loop().time()
