"""Sums over replicas: counted once, gone with the replica where they are gauges, best effort throughout."""

import asyncio
from collections.abc import Mapping

from gateway.admin.cluster import RECORD_S, ClusterStats
from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.connect import connect
from gateway.store.keys import Keys
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_redis import RedisKV
from gateway.store.leases_memory import MemoryLeases
from gateway.store.leases_redis import RedisLeases
from tests.support.redis_server import RedisServer


class Store:
    """What several replicas share."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kv = MemoryKV(self.clock)
        self.leases = MemoryLeases(self.clock)
        self.keys = Keys()


class Replica:
    def __init__(self, store: Store, name: str) -> None:
        self.counters: dict[str, int] = {"accepted_total": 0}
        self.gauges: dict[str, int] = {"in_flight": 0}
        self.stats = ClusterStats(
            store.kv,
            store.leases,
            store.keys,
            replica_id=name,
            counters=lambda: self.counters,
            gauges=lambda: self.gauges,
        )

    async def sums(self) -> Mapping[str, int] | None:
        return await self.stats.sums()


async def test_every_replica_sees_the_sums_of_all() -> None:
    store = Store()
    one, two = Replica(store, "r-1"), Replica(store, "r-2")
    one.counters["accepted_total"], one.gauges["in_flight"] = 3, 1
    two.counters["accepted_total"], two.gauges["in_flight"] = 4, 2
    await one.stats.sync()
    assert await two.sums() == {"accepted_total": 7, "in_flight": 3}
    assert await one.sums() == {"accepted_total": 7, "in_flight": 3}


async def test_what_was_told_is_not_told_again() -> None:
    replica = Replica(Store(), "r-1")
    replica.counters["accepted_total"] = 3
    await replica.stats.sync()
    await replica.stats.sync()
    replica.counters["accepted_total"] = 5
    assert (await replica.sums() or {})["accepted_total"] == 5


async def test_counts_outlive_a_replica_and_its_gauges_do_not() -> None:
    store = Store()
    gone, left = Replica(store, "r-1"), Replica(store, "r-2")
    gone.counters["accepted_total"], gone.gauges["in_flight"] = 3, 9
    await gone.stats.sync()
    store.clock.advance(RECORD_S + 1)
    assert await left.sums() == {"accepted_total": 3, "in_flight": 0}


async def test_a_replica_that_leaves_tells_its_last_counts_and_takes_its_gauges_along() -> None:
    store = Store()
    leaving, left = Replica(store, "r-1"), Replica(store, "r-2")
    leaving.counters["accepted_total"], leaving.gauges["in_flight"] = 3, 9
    await leaving.stats.leave()
    assert await left.sums() == {"accepted_total": 3, "in_flight": 0}


async def test_a_record_of_another_version_counts_nothing() -> None:
    store = Store()
    await store.kv.kv_set(store.keys.replica("odd"), b"not json")
    await store.kv.kv_set(store.keys.replica("older"), b'{"in_flight": "many"}')
    for name in ("odd", "older", "silent"):
        await store.leases.acquire(store.keys.replicas, name, limit=0, ttl_s=60)
    assert await Replica(store, "r-1").sums() == {"accepted_total": 0, "in_flight": 0}


class Slow(MemoryKV):
    """A store whose increments take a while."""

    async def kv_incrby(self, key: bytes, delta: int) -> int:
        await asyncio.sleep(0)
        return await super().kv_incrby(key, delta)


async def test_the_loop_and_a_reader_at_the_same_time_count_once() -> None:
    store = Store()
    store.kv = Slow(store.clock)
    replica = Replica(store, "r-1")
    replica.counters["accepted_total"] = 3
    await asyncio.gather(replica.stats.sync(), replica.stats.sync())
    assert (await replica.sums() or {})["accepted_total"] == 3


class Away(MemoryKV):
    """A store that does not answer while `away`."""

    away = True

    async def kv_incrby(self, key: bytes, delta: int) -> int:
        if self.away:
            raise StoreUnavailable("the store did not answer")
        return await super().kv_incrby(key, delta)


async def test_without_the_store_there_are_no_sums_and_nothing_is_forgotten() -> None:
    store = Store()
    store.kv = away = Away(store.clock)
    replica = Replica(store, "r-1")
    replica.counters["accepted_total"] = 3
    assert await replica.sums() is None
    await replica.stats.leave()
    away.away = False
    assert await replica.sums() == {"accepted_total": 3, "in_flight": 0}


async def test_a_counter_that_is_no_number_counts_nothing() -> None:
    store = Store()
    replica = Replica(store, "r-1")
    await store.kv.kv_set(store.keys.stat("accepted_total"), b"zz")
    assert (await replica.sums() or {})["accepted_total"] == 0


async def test_an_index_entry_that_is_no_name_counts_nothing(
    redis_server: RedisServer, redis_url: str
) -> None:
    store = Store()
    async with connect(redis_url) as redis:
        store.kv, store.leases = RedisKV(redis), RedisLeases(redis)  # type: ignore[assignment]
        replica = Replica(store, "r-1")
        replica.gauges["in_flight"] = 2
        redis_server.command("ZADD", store.keys.replicas, "9e15", b"\xff")
        redis_server.command("SET", store.keys.replica("zz"), b"\xff\x00")
        redis_server.command("ZADD", store.keys.replicas, "9e15", "zz")
        assert await replica.sums() == {"accepted_total": 0, "in_flight": 2}
