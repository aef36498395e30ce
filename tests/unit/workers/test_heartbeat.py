"""The worker's record, the slots it keeps, the turns nobody reads."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.jobs.codec import decode_record, encode_record
from gateway.jobs.messages import WorkerRecord, slot_holder
from gateway.kernel.aio import Tasks
from gateway.kernel.clock import SystemClock
from gateway.store.backends import Stores, open_memory
from tests.fakes.worker import WORKER, FakeInstance, FakePool, Gateway, Switch, eventually
from workers import heartbeat as module
from workers.heartbeat import Heartbeat
from workers.publisher import Publisher
from workers.runner import Run, Runner
from workers.stats import WorkerStats
from workers.watch import Limits

EPOCH = 1_790_000_000_000


class Bench:
    def __init__(self, stores: Stores, tasks: Tasks) -> None:
        clock = SystemClock()
        self.stores = stores
        self.tasks = tasks
        self.gateway = Gateway(stores, clock, epoch=EPOCH)
        self.instance = FakeInstance()
        self.kv: Any = Switch(stores.kv, "kv_get", "kv_set")
        self.leases: Any = Switch(stores.leases, "renew_many")
        self.turns: Any = Switch(stores.turns, "live_leases")
        self.draining = False
        self.replaced = 0
        self.runner = Runner(
            worker=WORKER,
            publisher=Publisher(stores.turns, epoch=EPOCH, clock=clock, stats=WorkerStats(), tasks=tasks),
            leases=self.leases,
            kv=self.kv,
            keys=stores.keys,
            clock=clock,
            limits=Limits(),
            stats=WorkerStats(),
        )
        self.heartbeat = Heartbeat(
            runner=self.runner,
            pool=FakePool(self.instance),
            streams=stores.streams,
            turns=self.turns,
            draining=lambda: self.draining,
            on_replaced=self._replaced,
        )

    def _replaced(self) -> None:
        self.replaced += 1

    async def record(self) -> WorkerRecord | None:
        value = await self.stores.kv.kv_get(self.stores.keys.worker(WORKER))
        return None if value is None else decode_record(value)

    async def running(self, turn_id: str = "t", **fields: Any) -> Run:
        """A turn that was accepted and runs."""
        await self.gateway.create(turn_id, lease_ms=fields.pop("lease_ms", 60_000))
        run = self.runner.open(
            self.gateway.envelope(turn_id), self.gateway.submit_of(**fields), self.instance
        )
        self.tasks.spawn(run.run(lambda: None))
        await eventually(lambda: self.instance.client.answers)
        return run


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    tasks = Tasks()
    async with open_memory(SystemClock()) as stores:
        yield Bench(stores, tasks)
        await tasks.aclose()


async def beaten(bench: Bench) -> None:
    bench.tasks.spawn(bench.heartbeat.beat())
    await eventually(lambda: bench.heartbeat.store_ok)


async def test_a_record_says_who_lives_and_what_it_can_take(bench: Bench) -> None:
    await bench.running()
    await beaten(bench)
    record = await bench.record()
    assert record is not None
    assert (record.worker, record.epoch, record.draining) == (WORKER, EPOCH, False)
    assert record.software
    [instance] = record.instances
    assert (instance.name, instance.ready, instance.capacity, instance.in_flight) == ("inst-0", True, 4, 1)
    assert await bench.stores.leases.holders(bench.stores.keys.workers) == [WORKER]
    ttl = (await bench.stores.kv.kv_ttl(bench.stores.keys.worker(WORKER))).ttl_s
    assert 8 < ttl <= 10


async def test_a_change_is_written_at_once(bench: Bench) -> None:
    await beaten(bench)
    calls = bench.kv.calls
    bench.draining = True
    bench.heartbeat.announce()
    await eventually(lambda: bench.kv.calls >= calls + 2, within_s=1)
    record = await bench.record()
    assert record is not None
    assert record.draining


async def test_a_record_is_written_again_as_soon_as_the_store_is_back_which_is_told_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", module.__name__)
    monkeypatch.setattr(module, "RETRY_MIN_S", 0.01)
    monkeypatch.setattr(module, "RETRY_MAX_S", 0.02)
    bench.kv.mode = "off"
    bench.tasks.spawn(bench.heartbeat.beat())
    await eventually(lambda: bench.kv.calls > 2)
    assert not bench.heartbeat.store_ok
    bench.kv.mode = "on"
    await eventually(lambda: bench.heartbeat.store_ok, within_s=1)
    assert await bench.record() is not None
    told = [(vars(r)["ok"], vars(r)["why"]) for r in caplog.records if r.getMessage() == "heartbeat.store"]
    assert told == [(False, "switched off"), (True, "")]


async def test_a_younger_incarnation_takes_over(bench: Bench) -> None:
    other = WorkerRecord(worker=WORKER, epoch=EPOCH + 1, software="x", beat_at_ms=0, instances=[])
    await bench.stores.kv.kv_set(bench.stores.keys.worker(WORKER), encode_record(other))
    bench.tasks.spawn(bench.heartbeat.beat())
    await eventually(lambda: bench.replaced)
    assert await bench.record() == other
    await bench.heartbeat.remove()
    assert await bench.record() == other


async def test_an_older_incarnation_is_replaced(bench: Bench) -> None:
    other = WorkerRecord(worker=WORKER, epoch=EPOCH - 1, software="x", beat_at_ms=0, instances=[])
    await bench.stores.kv.kv_set(bench.stores.keys.worker(WORKER), encode_record(other))
    await beaten(bench)
    record = await bench.record()
    assert record is not None
    assert record.epoch == EPOCH


async def test_a_worker_that_leaves_takes_its_record_along(bench: Bench) -> None:
    await beaten(bench)
    await bench.heartbeat.remove()
    assert await bench.record() is None
    assert await bench.stores.leases.holders(bench.stores.keys.workers) == []


async def test_commands_outlive_the_worker_by_an_hour(bench: Bench) -> None:
    await bench.gateway.drain()
    await beaten(bench)
    streams: Any = bench.stores.streams
    assert 3500 < streams.ttl_s(bench.stores.keys.commands(WORKER)) <= 3600


async def test_slots_of_running_turns_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOT_RENEW_S", 0.01)
    monkeypatch.setattr(module, "SLOT_TTL_S", 0.2)
    await bench.running()
    await bench.stores.leases.release(bench.gateway.slots_key, slot_holder("t", 1))
    bench.tasks.spawn(bench.heartbeat.keep_slots())
    await eventually(lambda: bench.leases.calls > 2)
    assert await bench.gateway.slots() == [slot_holder("t", 1)]
    bench.leases.mode = "off"
    calls = bench.leases.calls
    await eventually(lambda: bench.leases.calls > calls + 1)
    bench.leases.mode = "on"
    calls = bench.leases.calls
    await eventually(lambda: bench.leases.calls > calls + 1)
    assert await bench.gateway.slots() == [slot_holder("t", 1)]


async def test_a_turn_without_a_reader_is_cancelled_after_its_grace(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READERS_S", 0.01)
    await bench.running(lease_ms=30, lease_grace_s=0.1)
    bench.tasks.spawn(bench.heartbeat.watch_readers())
    finished = await bench.gateway.finished("t")
    assert (finished.outcome, finished.reason) == ("cancelled", "client_gone")
    assert bench.instance.client.stops == [("req-1", "s-0")]


async def test_a_reader_that_comes_back_keeps_the_turn_alive(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READERS_S", 0.01)
    run = await bench.running(lease_ms=1, lease_grace_s=60.0)
    bench.tasks.spawn(bench.heartbeat.watch_readers())
    await eventually(lambda: run.unread_since is not None)
    await bench.stores.turns.renew_leases(["t"], lease_ms=60_000)
    await eventually(lambda: run.unread_since is None)


async def test_an_outage_does_not_count_as_absence(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READERS_S", 0.01)
    run = await bench.running(lease_ms=1, lease_grace_s=60.0)
    bench.tasks.spawn(bench.heartbeat.watch_readers())
    await eventually(lambda: run.unread_since is not None)
    bench.turns.mode = "off"
    await eventually(lambda: run.unread_since is None)


async def test_gateways_do_not_hear_of_instances_whose_account_is_elsewhere(bench: Bench) -> None:
    assert len(bench.heartbeat.record().instances) == 1
    bench.instance.held_by = "w-2"
    assert bench.heartbeat.record().instances == []
    [shown] = bench.heartbeat.instances()
    assert (shown.state, shown.login, shown.held_by) == ("waiting", "elsewhere", "w-2")
