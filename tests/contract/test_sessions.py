"""The contract of SessionCache, on every implementation. Replicas judge ages by their clock, here a fake."""

import asyncio

from gateway.kernel.clock import FakeClock
from gateway.sessions.key import build_key
from gateway.sessions.store import SessionCache, SessionEntry
from tests.contract.session_caches import Open, limits, settled, totals

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
    await settled(replicas)
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
    await settled([one, other])
    assert await one.stats() == await other.stats()
    assert (await one.stats())["hit_total"] == 1, "figures are sums of all replicas"


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
