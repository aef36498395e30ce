"""What the SessionCache on Redis promises beyond the contract."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreUnavailable
from gateway.sessions.store_redis import RedisSessionCache
from gateway.store.calls import Arg, ReplyFuture
from gateway.store.connect import Redis, connect
from gateway.store.keys import Keys
from gateway.store.scripts import Script
from tests.contract.session_caches import limits, totals
from tests.support.redis_server import RedisServer


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect(redis_url) as redis:
        yield redis


async def test_redis_keeps_an_entry_a_minute_longer_than_it_is_good(redis: Redis) -> None:
    keys = Keys()
    cache = RedisSessionCache(redis, keys, limits(ttl_s=100), FakeClock())
    await cache.put("k", "s-1", "inst-0")
    left_ms: int = await redis.call(b"", "PTTL", keys.session("k"))
    assert 150_000 < left_ms <= 160_000
    await redis.call(b"", "PEXPIRE", keys.session("k"), 50_000)
    await cache.put("k", "s-2", "inst-0")
    left_ms = await redis.call(b"", "PTTL", keys.session("k"))
    assert left_ms <= 50_000, "another put does not make it younger"


async def test_redis_keeps_an_entry_without_a_ttl_for_ever(redis: Redis) -> None:
    keys = Keys()
    await RedisSessionCache(redis, keys, limits(ttl_s=0), FakeClock()).put("k", "s-1", "inst-0")
    assert await redis.call(b"", "PTTL", keys.session("k")) == -1


async def test_redis_holds_nothing_of_an_ended_entry(redis: Redis) -> None:
    keys = Keys()
    cache = RedisSessionCache(redis, keys, limits(most=2), FakeClock())
    for key in "abcd":
        await cache.put(key, f"s-{key}", "inst-0")
    await cache.claim("c")
    await cache.invalidate("d")
    assert await redis.call(b"", "KEYS", "*") == [keys.session_stats]


async def test_redis_keys_are_of_the_catalogue_and_hold_no_plain_session_key(redis: Redis) -> None:
    keys = Keys()
    cache = RedisSessionCache(redis, keys, limits(), FakeClock())
    await cache.put("tenant:user:-", "s-1", "inst-0")
    await cache.get("tenant:user:-")
    assert set(await redis.call(b"", "KEYS", "*")) == {
        keys.session("tenant:user:-"),
        keys.session_index,
        keys.session_stats,
    }
    assert await redis.call(b"", "ZRANGE", keys.session_index, 0, -1) == [keys.session("tenant:user:-")]


async def test_a_member_whose_entry_is_gone_is_not_counted_as_evicted(redis: Redis) -> None:
    keys = Keys()
    cache = RedisSessionCache(redis, keys, limits(most=2), FakeClock())
    await cache.put("a", "s-a", "inst-0")
    await cache.put("b", "s-b", "inst-0")
    await redis.call(b"", "DEL", keys.session("a"))
    await cache.put("c", "s-c", "inst-0")
    assert await totals(cache) == {"size": 2}
    assert await cache.get("b") is not None


async def test_a_look_at_a_member_whose_entry_is_gone_frees_its_place(redis: Redis) -> None:
    keys = Keys()
    cache = RedisSessionCache(redis, keys, limits(), FakeClock())
    await cache.put("a", "s-a", "inst-0")
    await redis.call(b"", "DEL", keys.session("a"))
    assert await cache.get("a") is None
    assert await totals(cache) == {"miss_total": 1}


class OpenReplies(Redis):
    """Takes commands and answers when told to."""

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[object]] = []

    def call(self, key: bytes, *args: Arg, timeout_s: float | None = None) -> ReplyFuture:
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]

    def run(
        self, script: Script, keys: Sequence[bytes], args: Sequence[Arg], *, timeout_s: float | None = None
    ) -> ReplyFuture:
        return self.call(keys[0], *args)


_SESSION = Keys().session("k")
_INDEX = Keys().session_index
_STATS = Keys().session_stats
_MALFORMED: dict[str, list[Sequence[Arg]]] = {
    "no hash": [("DEL", _SESSION), ("SET", _SESSION, "x")],
    "a list": [("DEL", _SESSION), ("RPUSH", _SESSION, "created_at_ms")],
    "no time": [("HDEL", _SESSION, "created_at_ms")],
    "a bad time": [("HSET", _SESSION, "created_at_ms", "zz")],
    "a time of another kind": [("HSET", _SESSION, "created_at_ms", "nan")],
    "a huge time": [("HSET", _SESSION, "created_at_ms", "9" * 400)],
    "no instance": [("HDEL", _SESSION, "instance_name")],
    "no worker": [("HDEL", _SESSION, "worker")],
    "no session": [("HDEL", _SESSION, "session_id")],
    "an empty session": [("HSET", _SESSION, "session_id", "")],
    "no text": [("HSET", _SESSION, "session_id", b"\xff\xfe")],
    "bad hits": [("HSET", _SESSION, "hit_count", "zz")],
    "no hits": [("HSET", _SESSION, "hit_count", b"\xff")],
}


@pytest.mark.parametrize("use", ["claim", "get"])
@pytest.mark.parametrize("damage", _MALFORMED.values(), ids=_MALFORMED.keys())
async def test_redis_deletes_a_malformed_entry_and_misses_it(
    redis: Redis, damage: list[Sequence[Arg]], use: str
) -> None:
    cache = RedisSessionCache(redis, Keys(), limits(), FakeClock())
    await cache.put("k", "s", "inst-0")
    for command in damage:
        await redis.call(_SESSION, *command)
    found = await (cache.claim("k") if use == "claim" else cache.get("k"))
    assert found is None
    assert await totals(cache) == {"miss_total": 1}
    assert await redis.call(_SESSION, "EXISTS", _SESSION) == 0
    assert await redis.call(_INDEX, "ZCARD", _INDEX) == 0
    await cache.put("k", "s-2", "inst-1")
    entry = await cache.claim("k")
    assert entry is not None
    assert (entry.session_id, entry.instance_name, entry.hit_count) == ("s-2", "inst-1", 1)


@pytest.mark.parametrize("damage", _MALFORMED.values(), ids=_MALFORMED.keys())
async def test_redis_puts_a_good_entry_over_a_malformed_one(
    redis: Redis, damage: list[Sequence[Arg]]
) -> None:
    cache = RedisSessionCache(redis, Keys(), limits(), FakeClock())
    await cache.put("k", "s", "inst-0")
    for command in damage:
        await redis.call(_SESSION, *command)
    await cache.put("k", "s-2", "inst-1", worker="w")
    await cache.claim("k")
    await cache.put("k", "s-3", "inst-2", worker="w")
    entry = await cache.claim("k")
    assert entry is not None and entry.session_id == "s-3"


async def test_redis_makes_a_wrong_index_anew_and_nobody_notices(redis: Redis) -> None:
    cache = RedisSessionCache(redis, Keys(), limits(2), FakeClock())
    await cache.put("k", "s", "inst-0")
    await redis.call(_INDEX, "DEL", _INDEX)
    await redis.call(_INDEX, "SET", _INDEX, "x")
    assert (await cache.stats())["size"] == 0
    assert await cache.get("k") is not None
    assert await cache.claim("k") is not None
    assert await cache.invalidate("k") is False
    for name in ("a", "b", "c"):
        await cache.put(name, "s")
    assert await redis.call(_INDEX, "ZCARD", _INDEX) == 2
    assert await cache.claim("a") is None
    assert await cache.claim("c") is not None


async def test_redis_counts_anew_when_the_counters_are_wrong(redis: Redis) -> None:
    cache = RedisSessionCache(redis, Keys(), limits(), FakeClock())
    await redis.call(_STATS, "SET", _STATS, "x")
    assert await cache.claim("k") is None
    assert await totals(cache) == {}
    await cache.claim("k")
    assert await totals(cache) == {"miss_total": 1}
    await redis.call(_STATS, "HSET", _STATS, "miss", "zz", "hit", 5)
    assert await totals(cache) == {"hit_total": 5}
    await cache.claim("k")
    assert await totals(cache) == {"hit_total": 5, "miss_total": 1}


async def test_a_claim_waits_for_one_round_trip_and_not_for_its_counters() -> None:
    redis = OpenReplies()
    cache = RedisSessionCache(redis, Keys(), limits(), FakeClock())
    async with asyncio.TaskGroup() as group:
        claim = group.create_task(cache.claim("k"))
        await asyncio.sleep(0)
        first = list(redis.sent)
        assert len(first) == 2
        first[0].set_result(0)
        first[1].set_result([])
        async with asyncio.timeout(5):
            assert await claim is None
    [counter] = redis.sent[2:]
    assert not counter.done()


async def test_a_silent_store_raises_and_leaves_no_noise() -> None:
    """Whoever asks goes on without a session; the commands nobody waits for fail quietly."""
    server = RedisServer()
    with server:
        async with connect(server.url, connect_wait_s=0.2) as redis:
            cache = RedisSessionCache(redis, Keys(), limits(), FakeClock())
            await cache.put("k", "s-1", "inst-0")
            server.kill()
            for call in (cache.get, cache.claim, cache.invalidate):
                with pytest.raises(StoreUnavailable):
                    await call("k")
            with pytest.raises(StoreUnavailable):
                await cache.put("k", "s-1", "inst-0")
            with pytest.raises(StoreUnavailable):
                await cache.stats()
            with pytest.raises(StoreUnavailable):
                await cache.prometheus_lines()
