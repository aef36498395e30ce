import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.kernel.errors import StoreUnavailable
from gateway.store.connect import Redis
from gateway.store.outage import Outage
from tests.support.redis_server import RedisServer

LONG_S = 60.0


@pytest.fixture
def server() -> RedisServer:
    return RedisServer()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    with server:
        redis = await Redis.open(server.url)
        await redis.wait_connected(5)
        yield redis
        await redis.aclose()


async def lost(redis: Redis) -> None:
    async with asyncio.timeout(5):
        while redis.healthy:
            await asyncio.sleep(0.002)


async def test_a_store_in_memory_is_never_away() -> None:
    outage = Outage(None, wait_s=LONG_S)
    assert not outage.told
    assert await outage.ride_out()


async def test_a_store_that_is_there_is_not_waited_for(redis: Redis) -> None:
    outage = Outage(redis, wait_s=0)
    assert not outage.told
    assert await outage.ride_out()


async def test_a_store_that_has_just_gone_is_waited_for(server: RedisServer, redis: Redis) -> None:
    outage = Outage(redis, wait_s=LONG_S)
    server.kill()
    await lost(redis)
    waiting = asyncio.ensure_future(outage.ride_out())
    assert not outage.told
    await asyncio.sleep(0)
    assert not waiting.done()
    server.start()
    assert await asyncio.wait_for(waiting, 10)
    assert redis.lost_at is None


async def test_a_long_outage_is_told_at_once(server: RedisServer, redis: Redis) -> None:
    """Counted from the loss, not from the question."""
    outage = Outage(redis, wait_s=0.2)
    server.kill()
    await lost(redis)
    assert not await outage.ride_out()
    assert outage.told
    asked_at = asyncio.get_running_loop().time()
    assert not await outage.ride_out()
    assert redis.lost_at is not None
    assert asked_at - redis.lost_at >= 0.2


async def test_a_store_that_was_never_there_is_told_at_once(server: RedisServer) -> None:
    redis = await Redis.open(server.url)
    outage = Outage(redis, wait_s=LONG_S)
    assert outage.told
    assert not await outage.ride_out()
    with pytest.raises(StoreUnavailable):
        await redis.wait_connected(0.01)
    await redis.aclose()
