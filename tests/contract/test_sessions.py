"""The contract of SessionCache, on every implementation. Replicas judge ages by their clock, here a fake."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from gateway.kernel.clock import Clock, FakeClock
from gateway.kernel.errors import StoreUnavailable
from gateway.kernel.json import JsonObject
from gateway.sessions.key import build_key
from gateway.sessions.store import SessionCache, SessionEntry, SessionLimits
from gateway.sessions.store_memory import MemorySessionCache
from gateway.sessions.store_redis import RedisSessionCache
from gateway.store.calls import Arg, ReplyFuture
from gateway.store.connect import Redis, connect
from gateway.store.keys import Keys
from gateway.store.scripts import Script
from tests.support.redis_server import RedisServer

Open = Callable[[SessionLimits, Clock], SessionCache]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with connect(redis_url) as redis:
        yield redis


@pytest.fixture(params=["memory", "redis", "cluster"])
async def open_cache(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Makes a cache; a second one is another replica's where that is possible, else the same."""
    made: list[SessionCache] = []
    if request.param == "memory":

        def in_memory(limits: SessionLimits, clock: Clock) -> SessionCache:
            made.append(made[0] if made else MemorySessionCache(limits, clock))
            return made[-1]

        yield in_memory
        return
    url: str = request.getfixturevalue(f"{request.param}_url")
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connect(url)) for _ in range(2)]
        for connection in connections:
            await connection.wait_connected(5)

        def on_redis(limits: SessionLimits, clock: Clock) -> SessionCache:
            redis = connections[len(made) % len(connections)]
            made.append(RedisSessionCache(redis, Keys(buckets=redis.buckets), limits, clock))
            return made[-1]

        yield on_redis


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def limits(most: int = 256, ttl_s: float = 1800, *, enabled: bool = True) -> SessionLimits:
    return SessionLimits(enabled=enabled, max_entries=lambda: most, ttl_s=ttl_s)


@pytest.fixture
def cache(open_cache: Open, clock: FakeClock) -> SessionCache:
    return open_cache(limits(), clock)


async def totals(cache: SessionCache) -> JsonObject:
    """The figures that are not zero."""
    stats = await cache.stats()
    return {name: value for name, value in stats.items() if name not in _CONFIGURED and value}


_CONFIGURED = ("enabled", "max", "ttl_sec", "hit_rate")


# -- put and get ------------------------------------------------------------------------------------------


async def test_a_session_is_found_under_its_key_only(cache: SessionCache, clock: FakeClock) -> None:
    await cache.put("k", "s-1", "worker-0/inst-0", worker="worker-0")
    clock.advance(5)
    at = clock.now_ms() / 1000
    assert await cache.get("k") == SessionEntry(
        session_id="s-1",
        instance_name="worker-0/inst-0",
        worker="worker-0",
        created_at=at - 5,
        last_used_at=at,
        hit_count=1,
    )
    assert await cache.get("other") is None
    assert await totals(cache) == {"size": 1, "hit_total": 1, "miss_total": 1}


async def test_every_look_is_a_hit_of_the_entry(cache: SessionCache, clock: FakeClock) -> None:
    await cache.put("k", "s-1", "inst-0")
    for hits in (1, 2, 3):
        clock.advance(1)
        entry = await cache.get("k")
        assert entry is not None
        assert (entry.hit_count, entry.last_used_at) == (hits, clock.now_ms() / 1000)


async def test_putting_again_renews_the_value_but_not_the_age(cache: SessionCache, clock: FakeClock) -> None:
    await cache.put("k", "s-1", "worker-0/inst-0", worker="worker-0")
    await cache.get("k")
    created_at = clock.now_ms() / 1000
    clock.advance(5)
    await cache.put("k", "s-2", "worker-1/inst-3", worker="worker-1")
    entry = await cache.get("k")
    assert entry == SessionEntry(
        session_id="s-2",
        instance_name="worker-1/inst-3",
        worker="worker-1",
        created_at=created_at,
        last_used_at=created_at + 5,
        hit_count=2,
    )
    assert (await totals(cache))["size"] == 1


async def test_an_empty_instance_name_keeps_the_old_one(cache: SessionCache) -> None:
    await cache.put("k", "s-1", "inst-0", worker="worker-0")
    await cache.put("k", "s-2")
    entry = await cache.get("k")
    assert entry is not None
    assert (entry.session_id, entry.instance_name, entry.worker) == ("s-2", "inst-0", "worker-0")


async def test_a_named_instance_brings_its_worker_even_if_that_is_empty(cache: SessionCache) -> None:
    await cache.put("k", "s-1", "inst-0", worker="worker-0")
    await cache.put("k", "s-2", "inst-1")
    entry = await cache.get("k")
    assert entry is not None
    assert (entry.instance_name, entry.worker) == ("inst-1", "")


async def test_an_empty_session_id_is_not_stored(cache: SessionCache) -> None:
    await cache.put("k", "")
    assert await cache.get("k") is None
    await cache.put("k", "s-1", "inst-0")
    await cache.put("k", "", "inst-1")
    entry = await cache.get("k")
    assert entry is not None
    assert (entry.session_id, entry.instance_name) == ("s-1", "inst-0")


async def test_any_text_is_a_key(cache: SessionCache) -> None:
    keys = ["", "a:b", "a b\n", "{a}", "樹" * 1000, "\x1f\x00"]
    for index, key in enumerate(keys):
        await cache.put(key, f"s-{index}", "樹")
    found = [await cache.claim(key) for key in keys]
    assert [entry and entry.session_id for entry in found] == [f"s-{index}" for index in range(len(keys))]
    assert {entry.instance_name for entry in found if entry} == {"樹"}


async def test_the_cache_builds_keys(cache: SessionCache) -> None:
    assert cache.build_key("t", "u", "-") == build_key("t", "u", "-") == "t:u:-"
    assert cache.build_key("t", "u", "-", "b") == "t:u:-:b"


# -- claim ------------------------------------------------------------------------------------------------


async def test_a_claimed_session_is_gone(cache: SessionCache, clock: FakeClock) -> None:
    await cache.put("k", "s-1", "inst-0", worker="worker-0")
    at = clock.now_ms() / 1000
    assert await cache.claim("k") == SessionEntry(
        session_id="s-1",
        instance_name="inst-0",
        worker="worker-0",
        created_at=at,
        last_used_at=at,
        hit_count=1,
    )
    assert await cache.claim("k") is None
    assert await cache.get("k") is None
    assert await totals(cache) == {"hit_total": 1, "miss_total": 2}


async def test_what_is_written_after_a_claim_is_a_new_entry(cache: SessionCache, clock: FakeClock) -> None:
    await cache.put("k", "s-1", "inst-0")
    await cache.claim("k")
    clock.advance(5)
    await cache.put("k", "s-1")
    entry = await cache.get("k")
    assert entry is not None
    assert (entry.created_at, entry.hit_count, entry.instance_name) == (clock.now_ms() / 1000, 1, "")


async def test_of_fifty_claims_on_two_replicas_one_gets_the_session(
    open_cache: Open, clock: FakeClock
) -> None:
    replicas = [open_cache(limits(), clock), open_cache(limits(), clock)]
    for turn in range(20):
        await replicas[0].put("k", f"s-{turn}", "inst-0")
        claims = await asyncio.gather(*(replicas[i % 2].claim("k") for i in range(50)))
        assert [claim.session_id for claim in claims if claim] == [f"s-{turn}"]
    await _settled(replicas)
    assert await totals(replicas[0]) == {"hit_total": 20, "miss_total": 980}


async def test_no_session_is_given_twice_while_claims_meet_puts_and_looks(
    open_cache: Open, clock: FakeClock
) -> None:
    replicas = [open_cache(limits(), clock), open_cache(limits(), clock)]
    given: list[str] = []

    async def work(number: int) -> None:
        replica = replicas[number % 2]
        for turn in range(10):
            await replica.put("k", f"s-{number}-{turn}", "inst-0")
            await replica.get("k")
            if (entry := await replica.claim("k")) is not None:
                given.append(entry.session_id)

    async with asyncio.timeout(30):
        await asyncio.gather(*map(work, range(50)))
    assert given
    assert len(given) == len(set(given))


async def test_a_second_replica_sees_what_the_first_has_put(open_cache: Open, clock: FakeClock) -> None:
    one, other = open_cache(limits(), clock), open_cache(limits(), clock)
    await one.put("k", "s-1", "worker-0/inst-0")
    entry = await other.claim("k")
    assert entry is not None
    assert entry.session_id == "s-1"
    await _settled([one, other])
    assert await one.stats() == await other.stats()
    assert (await one.stats())["hit_total"] == 1, "figures are sums of all replicas"


# -- age --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["get", "claim"])
async def test_lv_36_a_session_that_is_too_old_is_expired_and_missed(
    open_cache: Open, clock: FakeClock, read: str
) -> None:
    """Given TTL 0.2 s and a read after 0.3 s; expected a miss, expire_total +1, miss_total +1, size 0."""
    cache = open_cache(limits(ttl_s=0.2), clock)
    await cache.put("k", "s-1", "inst-0")
    clock.advance(0.3)
    assert await getattr(cache, read)("k") is None
    await _settled([cache])
    assert await cache.stats() == {
        "enabled": True,
        "size": 0,
        "max": 256,
        "ttl_sec": 0.2,
        "hit_total": 0,
        "miss_total": 1,
        "hit_rate": 0.0,
        "evict_total": 0,
        "expire_total": 1,
        "invalidate_total": 0,
    }
    assert await getattr(cache, read)("k") is None
    assert await totals(cache) == {"miss_total": 2, "expire_total": 1}, "it expires once"


async def test_age_counts_from_the_creation_and_not_from_the_last_use(
    open_cache: Open, clock: FakeClock
) -> None:
    cache = open_cache(limits(ttl_s=10), clock)
    await cache.put("k", "s-1", "inst-0")
    clock.advance(6)
    assert await cache.get("k") is not None
    await cache.put("k", "s-1")
    clock.advance(4)
    assert await cache.get("k") is not None, "one that is exactly a TTL old is good"
    clock.advance(0.001)
    assert await cache.get("k") is None


async def test_a_new_entry_takes_the_place_of_one_that_is_too_old(open_cache: Open, clock: FakeClock) -> None:
    cache = open_cache(limits(ttl_s=10), clock)
    await cache.put("k", "s-1", "inst-0", worker="worker-0")
    await cache.get("k")
    clock.advance(11)
    await cache.put("k", "s-2")
    entry = await cache.get("k")
    assert entry is not None
    assert (entry.session_id, entry.instance_name, entry.worker, entry.hit_count) == ("s-2", "", "", 1)
    assert entry.created_at == clock.now_ms() / 1000


@pytest.mark.parametrize("ttl_s", [0, -5])
async def test_without_a_ttl_sessions_do_not_age(open_cache: Open, clock: FakeClock, ttl_s: float) -> None:
    cache = open_cache(limits(ttl_s=ttl_s), clock)
    await cache.put("k", "s-1", "inst-0")
    clock.advance(10**9)
    await cache.put("other", "s-2", "inst-0")
    assert await cache.get("k") is not None
    assert await totals(cache) == {"size": 2, "hit_total": 1}
    assert (await cache.stats())["ttl_sec"] == ttl_s


async def test_what_nobody_asks_for_is_forgotten_a_minute_after_its_time(
    open_cache: Open, clock: FakeClock
) -> None:
    cache = open_cache(limits(ttl_s=10), clock)
    await cache.put("old", "s-1", "inst-0")
    clock.advance(70)
    assert await totals(cache) == {"size": 1}
    await cache.put("young", "s-2", "inst-0")
    assert await totals(cache) == {"size": 2}
    clock.advance(0.001)
    assert await totals(cache) == {"size": 1}
    await cache.put("young", "s-3")
    await _settled([cache])
    assert await totals(cache) == {"size": 1, "expire_total": 1}


# -- size -------------------------------------------------------------------------------------------------


async def test_lv_37_the_least_recently_used_makes_room(open_cache: Open, clock: FakeClock) -> None:
    """Given max 2: put a, put b, get a, put c; expected b evicted, evict_total 1."""
    cache = open_cache(limits(most=2), clock)
    await cache.put("a", "s-a", "inst-0")
    await cache.put("b", "s-b", "inst-0")
    await cache.get("a")
    await cache.put("c", "s-c", "inst-0")
    assert (await cache.stats())["evict_total"] == 1
    found = {key: await cache.get(key) is not None for key in "abc"}
    assert found == {"a": True, "b": False, "c": True}
    assert await totals(cache) == {"size": 2, "hit_total": 3, "miss_total": 1, "evict_total": 1}


async def test_putting_again_is_a_use(open_cache: Open, clock: FakeClock) -> None:
    cache = open_cache(limits(most=2), clock)
    for key in "aba":
        await cache.put(key, f"s-{key}", "inst-0")
    await cache.put("c", "s-c", "inst-0")
    assert [await cache.get(key) is not None for key in "abc"] == [True, False, True]


async def test_looking_for_what_is_not_there_takes_no_place(open_cache: Open, clock: FakeClock) -> None:
    cache = open_cache(limits(most=2), clock)
    await cache.put("a", "s-a", "inst-0")
    await cache.put("b", "s-b", "inst-0")
    for key in ("x", "y"):
        assert await cache.get(key) is None
        assert await cache.claim(key) is None
        assert not await cache.invalidate(key)
    assert await totals(cache) == {"size": 2, "miss_total": 4}


async def test_a_claimed_or_invalidated_entry_gives_its_place(open_cache: Open, clock: FakeClock) -> None:
    cache = open_cache(limits(most=2), clock)
    await cache.put("a", "s-a", "inst-0")
    await cache.put("b", "s-b", "inst-0")
    await cache.claim("a")
    await cache.put("c", "s-c", "inst-0")
    await cache.invalidate("b")
    await cache.put("d", "s-d", "inst-0")
    assert await totals(cache) == {"size": 2, "hit_total": 1, "invalidate_total": 1}


async def test_many_puts_at_once_evict_no_more_than_they_must(open_cache: Open, clock: FakeClock) -> None:
    replicas = [open_cache(limits(most=20), clock), open_cache(limits(most=20), clock)]
    await asyncio.gather(*(replicas[i % 2].put(f"k{i}", f"s-{i}", "inst-0") for i in range(100)))
    await _settled(replicas)
    assert await totals(replicas[0]) == {"size": 20, "evict_total": 80}
    found = await asyncio.gather(*(replicas[0].claim(f"k{i}") for i in range(100)))
    assert sum(entry is not None for entry in found) == 20


async def test_the_limit_is_asked_at_every_use(open_cache: Open, clock: FakeClock) -> None:
    most = 3
    cache = open_cache(SessionLimits(max_entries=lambda: most, ttl_s=60), clock)
    for key in "abc":
        await cache.put(key, f"s-{key}", "inst-0")
    most = 1
    assert (await cache.stats())["max"] == 1
    await cache.put("d", "s-d", "inst-0")
    assert await totals(cache) == {"size": 1, "evict_total": 3}
    most = 0
    assert not cache.enabled
    assert await cache.get("d") is None
    most = 5
    assert await cache.get("d") is not None, "being disabled for a while loses nothing"


@pytest.mark.parametrize(("most", "enabled", "shown"), [(0, True, 0), (-3, True, 0), (256, False, 256)])
async def test_a_disabled_cache_does_and_counts_nothing(
    open_cache: Open, clock: FakeClock, most: int, enabled: bool, shown: int
) -> None:
    cache = open_cache(limits(most, enabled=enabled), clock)
    assert not cache.enabled
    await cache.put("k", "s-1", "inst-0")
    assert await cache.get("k") is None
    assert await cache.claim("k") is None
    assert not await cache.invalidate("k")
    assert await totals(cache) == {}
    stats = await cache.stats()
    assert (stats["enabled"], stats["max"]) == (False, shown)


# -- invalidate and figures -------------------------------------------------------------------------------


async def test_an_invalidated_session_is_gone_and_counted_once(cache: SessionCache) -> None:
    await cache.put("k", "s-1", "inst-0")
    assert await cache.invalidate("k")
    assert not await cache.invalidate("k")
    assert await cache.get("k") is None
    assert await totals(cache) == {"miss_total": 1, "invalidate_total": 1}


async def test_the_hit_rate_has_four_decimals(cache: SessionCache) -> None:
    assert (await cache.stats())["hit_rate"] == 0.0
    await cache.put("k", "s-1", "inst-0")
    for key in ("k", "k", "x"):
        await cache.get(key)
    stats = await cache.stats()
    assert stats["hit_rate"] == 0.6667
    assert list(stats) == [
        *("enabled", "size", "max", "ttl_sec", "hit_total", "miss_total", "hit_rate"),
        *("evict_total", "expire_total", "invalidate_total"),
    ]
    assert isinstance(stats["ttl_sec"], int)


async def test_the_figures_as_metrics(open_cache: Open, clock: FakeClock) -> None:
    cache = open_cache(limits(most=2), clock)
    for key in "abc":
        await cache.put(key, f"s-{key}", "inst-0")
    for key in "bcbx":
        await cache.get(key)
    await cache.invalidate("b")
    assert await cache.prometheus_lines() == [
        "# TYPE gateway_session_cache_size gauge",
        "gateway_session_cache_size 1",
        "# TYPE gateway_session_cache_hit_total counter",
        "gateway_session_cache_hit_total 3",
        "# TYPE gateway_session_cache_miss_total counter",
        "gateway_session_cache_miss_total 1",
        "# TYPE gateway_session_cache_evict_total counter",
        "gateway_session_cache_evict_total 1",
        "# TYPE gateway_session_cache_expire_total counter",
        "gateway_session_cache_expire_total 0",
        "# TYPE gateway_session_cache_invalidate_total counter",
        "gateway_session_cache_invalidate_total 1",
    ]


# -- one implementation only ------------------------------------------------------------------------------


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


async def _settled(caches: list[SessionCache]) -> None:
    """Figures are sent behind an operation; a replica's own next answer comes after them."""
    for cache in caches:
        await cache.stats()
