"""How long sessions are kept, and how many: for every implementation of SessionCache."""

import asyncio

import pytest

from gateway.kernel.clock import FakeClock
from gateway.sessions.store import SessionLimits
from tests.contract.session_caches import Open, limits, settled, totals

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
    await settled([cache])
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
    await settled([cache])
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
    await settled(replicas)
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
