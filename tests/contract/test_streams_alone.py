"""What only one implementation of Streams promises: the one in memory, the one on Redis."""

import asyncio
from collections.abc import Awaitable

import hiredis
import pytest

from gateway.kernel.clock import FakeClock, SystemClock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.streams import START, Streams
from gateway.store.streams_memory import MemoryStreams
from gateway.store.streams_redis import _Packed
from tests.contract.stores import eventually, redis_store
from tests.contract.test_streams import KEY, OTHER, payloads, settled, take
from tests.support.redis_server import RedisServer

# -- memory only ------------------------------------------------------------------------------------------


async def test_memory_streams_past_their_end_are_not_kept() -> None:
    clock = FakeClock()
    streams = MemoryStreams(clock)
    for i in range(100):
        await streams.append(b"%d" % i, b"x")
        await streams.expire(b"%d" % i, 10)
    for _ in range(1000):
        await streams.expire(b"0", 20)
    clock.advance(10)
    assert len(streams) == 1
    clock.advance(10)
    assert len(streams) == 0
    assert len(streams._expiries) == 0, "nothing is left of them"


async def test_memory_group_consumers_share_what_they_wait_for() -> None:
    streams = MemoryStreams(SystemClock())
    await streams.ensure_group(KEY, b"g")
    async with asyncio.TaskGroup() as tasks:
        reads = [
            tasks.create_task(streams.read_group(KEY, b"g", name, pending=False, block_ms=150, count=1))
            for name in (b"a", b"b")
        ]
        await settled()
        await streams.append(KEY, b"one")
    assert sorted(map(len, (read.result() for read in reads))) == [0, 1]


# -- Redis only -------------------------------------------------------------------------------------------


async def test_a_packed_read_is_what_the_packer_makes_of_it_however_often() -> None:
    packed = _Packed()
    for turn in range(50):
        cursors = {b"key-%d" % i: b"%d-%d" % (turn * i % 7, i) for i in range(turn)}
        for wait in ((), (b"BLOCK", 20)):
            args = (b"XREAD", b"COUNT", 100, *wait, b"STREAMS", *cursors, *cursors.values())
            sent = packed.xread(cursors, block_ms=20 if wait else 0, count=100)
            assert sent == hiredis.pack_command(args)


async def test_positions_that_were_packed_are_not_kept_for_ever() -> None:
    packed = _Packed()
    for turn in range(200):
        packed.xread({b"key-%d" % i: b"%d-%d" % (turn, i) for i in range(100)}, block_ms=0, count=1)
    assert len(packed) < 5000


async def test_one_connection_reads_any_number_of_streams(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> None:
    async with redis_store(request) as store:
        reader = store.streams.reader(KEY)
        cursors = {b"t:{b00}:%d" % i: START for i in range(1000)}
        async with asyncio.TaskGroup() as tasks:
            read = tasks.create_task(reader.read(cursors, block_ms=5000, count=10))
            await eventually(lambda: as_coroutine(redis_server.client_count() == 2))
            await store.streams.append(b"t:{b00}:777", b"x")
            assert [key for key, _ in await read] == [b"t:{b00}:777"]
        await reader.aclose()


async def test_a_reader_reads_on_after_the_store_has_crashed(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> None:
    async with redis_store(request) as store:
        streams = store.streams
        reader = streams.reader(KEY)
        await streams.ensure_group(KEY, b"owner")
        await streams.append(OTHER, b"lost")
        async with asyncio.TaskGroup() as tasks:
            read = tasks.create_task(ends_unavailable(reader.read({KEY: START}, block_ms=5000, count=10)))
            take_it = tasks.create_task(ends_unavailable(take(streams, block_ms=5000)))
            await eventually(lambda: as_coroutine(redis_server.client_count() == 3))
            redis_server.kill()
            async with asyncio.timeout(2):
                await read
                await take_it
        streams.post(b"t:{b00}:wake", b"nobody asks what became of it")
        redis_server.start()
        await eventually(lambda: is_back(streams))
        await eventually(lambda: answers(take(streams)))
        await streams.append(KEY, b"new")
        assert payloads(await take(streams, block_ms=2000)) == [b"new"]
        await eventually(lambda: answers(reader.read({OTHER: START}, block_ms=0, count=1)))
        found = await reader.read({KEY: START}, block_ms=2000, count=10)
        assert payloads(found[0][1]) == [b"new"]
        await reader.aclose()


async def test_nothing_stays_pending_that_is_settled_or_trimmed(request: pytest.FixtureRequest) -> None:
    async with redis_store(request) as store:
        await store.streams.ensure_group(KEY, b"owner")
        for _ in range(3):
            await store.streams.append(KEY, b"x")
        taken = await take(store.streams)
        await store.streams.settle(KEY, b"owner", taken[0][0])
        assert (await store.redis.call(KEY, "XPENDING", KEY, "owner"))[0] == 2
        await store.redis.call(KEY, "XTRIM", KEY, "MAXLEN", 0)
        assert await take(store.streams, pending=True) == []
        assert (await store.redis.call(KEY, "XPENDING", KEY, "owner"))[0] == 0


async def ends_unavailable(call: Awaitable[object]) -> None:
    with pytest.raises(StoreUnavailable):
        await call


async def is_back(streams: Streams) -> bool:
    return await answers(streams.length(KEY))


async def answers(call: Awaitable[object]) -> bool:
    try:
        await call
    except StoreUnavailable:
        return False
    return True


async def as_coroutine(value: bool) -> bool:
    return value
