import asyncio
from collections import Counter

import pytest

from gateway.jobs.codec import encode_record
from gateway.jobs.directory import RESERVE_S, Directory, Wish
from gateway.jobs.messages import InstanceRecord, ModelInfo, WorkerRecord
from gateway.kernel.aio import background
from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.connect import connect
from gateway.store.keys import Keys
from gateway.store.kv import KVSetOptions
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_redis import RedisKV
from gateway.store.leases_memory import MemoryLeases
from gateway.store.leases_redis import RedisLeases
from gateway.store.writable import WriteWatch
from tests.support.redis_server import RedisServer


class Fleet:
    """Workers that are nothing but their records."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kv = MemoryKV(self.clock)
        self.leases = MemoryLeases(self.clock)
        self.keys = Keys()
        self.directory = Directory(self.kv, self.leases, self.keys, self.clock)

    async def beat(self, worker: str, *instances: InstanceRecord, draining: bool = False) -> None:
        record = WorkerRecord(
            worker=worker,
            epoch=1,
            software="x",
            beat_at_ms=0,
            instances=list(instances),
            draining=draining,
        )
        await self.kv.kv_set(self.keys.worker(worker), encode_record(record), KVSetOptions(ex=10))
        await self.leases.acquire(self.keys.workers, worker, limit=0, ttl_s=10)
        await self.directory.refresh()

    async def place(self, turn: str, **wish: object) -> str | None:
        placement = await self.directory.place(Wish(**wish), turn)  # type: ignore[arg-type]
        return placement.full_name if placement else None


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def instance(
    index: int, capacity: int = 4, *, ready: bool = True, models: tuple[str, ...] = ()
) -> InstanceRecord:
    return InstanceRecord(
        name=f"inst-{index}",
        index=index,
        ready=ready,
        state="ready",
        capacity=capacity,
        models=[ModelInfo(key=key) for key in models],
    )


async def test_workers_are_still_known_while_the_store_takes_no_writes(fleet: Fleet) -> None:
    """None of them can say that it lives: that its record has ended means nothing."""
    watch = WriteWatch(None, fleet.keys, "r1")
    fleet.directory = Directory(fleet.kv, fleet.leases, fleet.keys, fleet.clock, watch)
    await fleet.beat("w", instance(0))
    watch.refusal = "the store refuses commands (OOM)"
    fleet.clock.advance(60)
    with pytest.raises(StoreUnavailable, match="OOM"):
        await fleet.directory.refresh()
    assert [worker.worker for worker in fleet.directory.workers] == ["w"]
    watch.refusal = None
    await fleet.directory.refresh()
    assert fleet.directory.workers == []


async def test_the_least_loaded_instance_is_taken(fleet: Fleet) -> None:
    await fleet.beat("w", instance(0), instance(1), instance(2))
    taken = Counter([await fleet.place(f"t{n}") for n in range(6)])
    assert taken == {"w/inst-0": 2, "w/inst-1": 2, "w/inst-2": 2}


async def test_turns_that_come_together_are_spread(fleet: Fleet) -> None:
    await fleet.beat("v", instance(0))
    await fleet.beat("w", instance(0))
    taken = Counter(await asyncio.gather(*(fleet.place(f"t{n}") for n in range(6))))
    assert taken == {"v/inst-0": 3, "w/inst-0": 3}


async def test_ties_go_to_the_lowest_index(fleet: Fleet) -> None:
    await fleet.beat("w", instance(0), instance(1), instance(2))
    await fleet.leases.acquire(fleet.keys.slots("w", 0), "x", limit=4, ttl_s=10)
    assert await fleet.place("t") == "w/inst-1"


async def test_in_a_quiet_fleet_every_worker_has_its_share_of_turns(fleet: Fleet) -> None:
    for worker in ("u", "v", "w"):
        await fleet.beat(worker, instance(0), instance(1))
    taken: Counter[str] = Counter()
    for number in range(300):
        placement = await fleet.directory.place(Wish(), f"t{number}")
        assert placement is not None
        await fleet.directory.release(placement)
        taken[placement.full_name] += 1
    assert taken.keys() == {"u/inst-0", "v/inst-0", "w/inst-0"}
    assert min(taken.values()) > 60


async def test_full_instances_take_nothing_until_a_slot_is_released(fleet: Fleet) -> None:
    await fleet.beat("w", instance(0, capacity=1))
    first = await fleet.directory.place(Wish(), "a")
    assert first is not None
    assert await fleet.place("b") is None
    await fleet.directory.release(first)
    assert await fleet.place("b") == "w/inst-0"


async def test_a_reserved_slot_frees_itself(fleet: Fleet) -> None:
    await fleet.beat("w", instance(0, capacity=1))
    assert await fleet.place("a")
    fleet.clock.advance(RESERVE_S + 0.1)
    await fleet.beat("w", instance(0, capacity=1))
    assert await fleet.place("b") == "w/inst-0"


async def test_equal_affinity_goes_to_the_same_instance_and_spreads_over_all(fleet: Fleet) -> None:
    await fleet.beat("v", instance(0, 100), instance(1, 100))
    await fleet.beat("w", instance(0, 100), instance(1, 100))
    chosen = {name: await fleet.place(f"a{name}", affinity=name) for name in map(str, range(40))}
    again = {name: await fleet.place(f"b{name}", affinity=name) for name in chosen}
    assert again == chosen
    assert len(set(chosen.values())) == 4


async def test_who_leaves_moves_only_its_own(fleet: Fleet) -> None:
    await fleet.beat("w", *(instance(n, 1000) for n in range(4)))
    before = {name: await fleet.place(f"a{name}", affinity=name) for name in map(str, range(60))}
    await fleet.beat("w", *(instance(n, 1000) for n in range(3)))
    after = {name: await fleet.place(f"b{name}", affinity=name) for name in before}
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {name for name, where in before.items() if where == "w/inst-3"}


async def test_a_full_affinity_choice_gives_way_to_the_least_loaded(fleet: Fleet) -> None:
    await fleet.beat("w", instance(0, 1), instance(1, 1))
    first = await fleet.place("a", affinity="x")
    second = await fleet.place("b", affinity="x")
    assert {first, second} == {"w/inst-0", "w/inst-1"}
    assert await fleet.place("c", affinity="x") is None


async def test_draining_and_unready_ones_are_passed_over(fleet: Fleet) -> None:
    await fleet.beat("v", instance(0), draining=True)
    await fleet.beat("w", instance(0, ready=False), instance(1))
    assert [c.full_name for c in fleet.directory.candidates()] == ["w/inst-1"]
    assert len(fleet.directory.workers) == 2


async def test_a_worker_that_stops_beating_is_forgotten(fleet: Fleet) -> None:
    await fleet.beat("w", instance(0))
    fleet.clock.advance(10.1)
    await fleet.directory.refresh()
    assert fleet.directory.workers == []


async def test_an_instance_without_the_model_is_passed_over(fleet: Fleet) -> None:
    await fleet.beat("w", instance(0, models=("a",)), instance(1, models=("b",)), instance(2))
    places = {await fleet.place(f"t{n}", model="b") for n in range(4)}
    assert places == {"w/inst-1", "w/inst-2"}


async def test_excluded_instances_are_the_last_resort(fleet: Fleet) -> None:
    await fleet.beat("w", instance(0, 1), instance(1, 1))
    assert await fleet.place("a", excluded=frozenset({"w/inst-0"})) == "w/inst-1"
    assert await fleet.place("b", excluded=frozenset({"w/inst-0"})) is None
    await fleet.beat("w", instance(0, 1))
    assert await fleet.place("c", excluded=frozenset({"w/inst-0"})) == "w/inst-0"


async def test_names_are_found_in_full_and_bare_when_unique(fleet: Fleet) -> None:
    await fleet.beat("v", instance(0))
    await fleet.beat("w", instance(0), instance(1))
    found = fleet.directory.find
    assert [c and c.full_name for c in map(found, ("v/inst-0", "inst-1", "inst-0", "x"))] == [
        "v/inst-0",
        "w/inst-1",
        None,
        None,
    ]


async def test_changes_of_who_is_ready_are_announced(fleet: Fleet) -> None:
    calls: list[int] = []
    fleet.directory.on_change.append(lambda: calls.append(1))
    await fleet.beat("w", instance(0))
    await fleet.beat("w", instance(0))
    await fleet.beat("w", instance(0), instance(1))
    assert len(calls) == 2


async def test_records_of_another_version_are_left_out(fleet: Fleet) -> None:
    await fleet.kv.kv_set(fleet.keys.worker("z"), b"garbage")
    await fleet.leases.acquire(fleet.keys.workers, "z", limit=0, ttl_s=10)
    await fleet.beat("w", instance(0))
    assert [record.worker for record in fleet.directory.workers] == ["w"]


class LateAnswers(MemoryLeases):
    """The store has done it; the answer is still on its way."""

    async def acquire(self, key: bytes, holder: str, *, limit: int, ttl_s: float) -> bool:
        taken = await super().acquire(key, holder, limit=limit, ttl_s=ttl_s)
        if limit:
            await asyncio.Event().wait()
        return taken


async def test_a_client_that_leaves_while_a_slot_is_reserved_frees_it(fleet: Fleet) -> None:
    late = LateAnswers(fleet.clock)
    fleet.leases = late
    fleet.directory = Directory(fleet.kv, late, fleet.keys, fleet.clock)
    await fleet.beat("w", instance(0))
    task = asyncio.get_running_loop().create_task(fleet.place("t"))
    async with asyncio.timeout(5):
        while not await late.count(fleet.keys.slots("w", 0)):
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await late.count(fleet.keys.slots("w", 0)) == 0


async def test_garbage_in_the_index_hides_no_worker(redis_server: RedisServer, redis_url: str) -> None:
    fleet = Fleet()
    async with connect(redis_url) as redis:
        kv, leases = RedisKV(redis), RedisLeases(redis)
        fleet.kv, fleet.leases = kv, leases  # type: ignore[assignment]
        fleet.directory = Directory(kv, leases, fleet.keys, fleet.clock)
        redis_server.command("ZADD", fleet.keys.workers, "9e15", b"\xff\xfe", "9e15", "hash", "9e15", "junk")
        redis_server.command("HSET", fleet.keys.worker("hash"), "a", "b")
        redis_server.command("SET", fleet.keys.worker("junk"), b"\xff\x00")
        await fleet.beat("worker-0", instance(0))
        assert [record.worker for record in fleet.directory.workers] == ["worker-0"]


async def test_an_index_of_the_wrong_type_keeps_what_was_known(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jobs.directory.REFRESH_S", 0.01)
    fleet = Fleet()
    async with connect(redis_url) as redis:
        kv, leases = RedisKV(redis), RedisLeases(redis)
        fleet.kv, fleet.leases = kv, leases  # type: ignore[assignment]
        fleet.directory = Directory(kv, leases, fleet.keys, fleet.clock)
        await fleet.beat("worker-0", instance(0))
        redis_server.command("DEL", fleet.keys.workers)
        redis_server.command("SET", fleet.keys.workers, "x")
        async with background(fleet.directory.run()):
            await asyncio.sleep(0.1)
            assert [record.worker for record in fleet.directory.workers] == ["worker-0"]
            redis_server.command("DEL", fleet.keys.workers)
            async with asyncio.timeout(5):
                while fleet.directory.workers:
                    await asyncio.sleep(0.01)


async def test_a_record_that_nobody_can_read_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    await fleet.beat("w0")
    await fleet.kv.kv_set(fleet.keys.worker("w0"), b"\x01\x01asealed", KVSetOptions(ex=10))
    for _ in range(3):
        await fleet.directory.refresh()
    assert fleet.directory.workers == []
    assert [record.message for record in caplog.records] == ["directory.record_unreadable"]
