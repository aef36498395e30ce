"""A worker as a whole, with instances that a test plays: start, work, drain, and the order of things."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.jobs.codec import decode_record, encode_record
from gateway.jobs.messages import LOGIN_REMEDY, Accepted, Declined, WorkerRecord
from gateway.kernel import json
from gateway.kernel.aio import Tasks
from gateway.kernel.clock import SystemClock
from gateway.store.backends import Stores, open_memory
from gateway.store.kv import KVSetOptions
from gateway.store.turnlog import TurnState
from tests.fakes.worker import (
    WORKER,
    FakeAccount,
    FakeInstance,
    FakePool,
    Gateway,
    Switch,
    delta,
    eventually,
    finish,
)
from tests.unit.workers.test_health import get
from workers import supervisor as module
from workers.accounts import leases
from workers.accounts.leases import Claim
from workers.settings import WorkerSettings
from workers.supervisor import Worker


def settings(**changes: Any) -> WorkerSettings:
    return WorkerSettings(**({"worker_id": WORKER, "port": 0, "drain_deadline_s": 5.0} | changes))


class Bench:
    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.instance = FakeInstance()
        self.pool = FakePool(self.instance)

    def worker(self, **changes: Any) -> Worker:
        return Worker(settings(**changes), self.stores, self.pool)

    @contextlib.asynccontextmanager
    async def working(self, **changes: Any) -> AsyncIterator[tuple[Worker, Gateway]]:
        worker = self.worker(**changes)
        async with worker.running():
            assert await worker.started(5)
            record = await self.record()
            assert record is not None
            yield worker, Gateway(self.stores, SystemClock(), epoch=record.epoch)

    async def record(self) -> WorkerRecord | None:
        value = await self.stores.kv.kv_get(self.stores.keys.worker(WORKER))
        return None if value is None else decode_record(value)

    @property
    def client(self) -> Any:
        return self.instance.client


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with open_memory(SystemClock()) as stores:
        yield Bench(stores)


async def test_a_started_worker_is_on_record_and_takes_turns(bench: Bench) -> None:
    async with bench.working() as (_, gateway):
        await gateway.submit("t")
        await eventually(lambda: bench.client.answers)
        bench.client.answers[0].say(delta("a"), finish())
        assert (await gateway.finished("t")).outcome == "completed"
    assert bench.pool.events == ["started", "stopped"]
    assert await bench.record() is None
    assert await bench.stores.leases.holders(bench.stores.keys.workers) == []


async def test_leaving_lets_running_turns_end(bench: Bench) -> None:
    tasks = Tasks()
    async with bench.working() as (worker, gateway):
        await gateway.submit("t")
        await eventually(lambda: bench.client.answers)

        async def end_later() -> None:
            await eventually(lambda: worker.draining)
            await gateway.submit("late")
            await gateway.until("late", Declined)
            bench.client.answers[0].say(finish())

        ended = tasks.spawn(end_later())
    await ended
    assert (await gateway.finished("t")).outcome == "completed"
    assert await gateway.until("late", Declined) == Declined(reason="draining")
    assert bench.pool.events == ["started", "stopped"]


async def test_turns_that_outlast_the_drain_get_a_legal_end(bench: Bench) -> None:
    async with bench.working(drain_deadline_s=0.05) as (_, gateway):
        await gateway.submit("t")
        await eventually(lambda: bench.client.answers)
    finished = await gateway.finished("t")
    assert (finished.outcome, finished.reason) == ("cancelled", "drain")
    assert bench.client.stops == [("req-1", "s-0")]
    assert await gateway.slots() == []


async def test_a_drain_can_be_cut_short(bench: Bench) -> None:
    async with bench.working(drain_deadline_s=60.0) as (worker, gateway):
        await gateway.submit("t")
        await eventually(lambda: bench.client.answers)
        worker.hurry()
    assert (await gateway.finished("t")).reason == "drain"


async def test_a_drain_by_command_is_shown_and_can_be_taken_back(bench: Bench) -> None:
    async with bench.working() as (worker, gateway):
        await gateway.drain()
        await eventually(lambda: worker.draining)

        async def shown(draining: bool) -> None:
            async with asyncio.timeout(1):
                while (record := await bench.record()) is None or record.draining is not draining:
                    await asyncio.sleep(0.005)

        await shown(True)
        await gateway.submit("late")
        assert await gateway.until("late", Declined) == Declined(reason="draining")
        await gateway.ask_admin("undrain", b"lg:reply")
        await shown(False)
        await gateway.submit("t")
        await gateway.until("t", Accepted)
        await eventually(lambda: bench.client.answers)
        bench.client.answers[0].say(finish())


async def test_an_instance_that_comes_or_goes_is_shown_soon(bench: Bench) -> None:
    async with bench.working():
        bench.instance.ready = False
        async with asyncio.timeout(1):
            while (record := await bench.record()) is None or record.instances[0].ready:
                await asyncio.sleep(0.005)


async def test_probes_tell_the_state(bench: Bench) -> None:
    async with bench.working() as (worker, _):
        port = worker.health_port
        assert (await get(port, "/readyz"))[0] == 200
        document = json.loads((await get(port, "/healthz"))[2])
        assert isinstance(document, dict)
        assert (document["ok"], document["worker"], document["pool_ready"]) == (True, WORKER, 1)
        [shown] = document["instances"]  # type: ignore[misc]
        assert shown["name"] == "inst-0"  # type: ignore[index, call-overload]
        assert b"worker_turns_in_flight 0" in (await get(port, "/metrics"))[2]
        worker.begin_drain()
        assert (await get(port, "/readyz"))[0] == 503
        assert (await get(port, "/livez"))[0] == 200


async def test_an_instance_that_is_not_logged_in_shows_the_remedy(bench: Bench) -> None:
    bench.instance.login = "login_required"
    async with bench.working() as (worker, _):
        document: Any = json.loads((await get(worker.health_port, "/healthz"))[2])
        assert document["instances"][0]["remedy"] == LOGIN_REMEDY


async def test_an_embedded_worker_opens_no_port(bench: Bench) -> None:
    worker = Worker(settings(), bench.stores, bench.pool, health=False)
    async with worker.running():
        assert await worker.started(5)
        assert worker.health_port == 0


async def test_a_worker_waits_for_its_store_and_tells_it_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RETRY_MIN_S", 0.01)
    monkeypatch.setattr(module, "RETRY_MAX_S", 0.02)
    kv: Any = Switch(bench.stores.kv, "kv_get")
    kv.mode = "off"
    worker = Worker(settings(), bench.stores._replace(kv=kv), bench.pool)
    async with worker.running():
        await eventually(lambda: kv.calls > 2)
        assert (await get(worker.health_port, "/livez"))[0] == 200
        assert (await get(worker.health_port, "/readyz"))[0] == 503
        kv.mode = "on"
        assert await worker.started(5)
        assert (await get(worker.health_port, "/readyz"))[0] == 200
    told = [vars(r)["why"] for r in caplog.records if r.getMessage() == "worker.waits_for_store"]
    assert told == ["switched off"]


async def test_a_worker_that_never_met_its_store_can_leave(bench: Bench) -> None:
    kv: Any = Switch(bench.stores.kv, "kv_get")
    kv.mode = "off"
    async with Worker(settings(), bench.stores._replace(kv=kv), bench.pool).running():
        await eventually(lambda: kv.calls)
    assert bench.pool.events == ["started", "stopped"]


async def test_a_restarted_worker_ends_what_it_was_running(bench: Bench) -> None:
    old = WorkerRecord(
        worker=WORKER, epoch=SystemClock().now_ms() + 60_000, software="x", beat_at_ms=0, instances=[]
    )
    await bench.stores.kv.kv_set(bench.stores.keys.worker(WORKER), encode_record(old))
    gateway = Gateway(bench.stores, SystemClock(), epoch=old.epoch)
    await gateway.create("ran")
    await bench.stores.turns.accept("ran", await gateway.fence("ran"), b"\x00")
    await gateway.submit("queued")
    async with bench.working():
        record = await bench.record()
        assert record is not None
        assert record.epoch == old.epoch + 1
        assert await gateway.state("ran") is TurnState.LOST
        await gateway.until("queued", Accepted)
        await eventually(lambda: bench.client.answers)
        bench.client.answers[0].say(finish())
    assert (await gateway.finished("queued")).outcome == "completed"
    assert len(bench.client.asks) == 1


async def test_a_worker_whose_name_was_taken_leaves(bench: Bench) -> None:
    async with bench.working() as (worker, gateway):
        younger = WorkerRecord(
            worker=WORKER, epoch=gateway.epoch + 1, software="x", beat_at_ms=0, instances=[]
        )
        await bench.stores.kv.kv_set(bench.stores.keys.worker(WORKER), encode_record(younger))
        await asyncio.wait_for(worker.leaving.wait(), 5)
        assert worker.draining
    assert await bench.record() == younger


# -- accounts ---------------------------------------------------------------------------------------------


@pytest.fixture
def account(bench: Bench) -> FakeAccount:
    account = FakeAccount(bench.instance)
    bench.pool.leased = [account]
    return account


async def claimed_by(bench: Bench, account: FakeAccount) -> Claim | None:
    return Claim.read(await bench.stores.kv.kv_get(bench.stores.keys.account(account.id)))


async def claim(bench: Bench, account: FakeAccount, worker: str) -> None:
    key = bench.stores.keys.account(account.id)
    await bench.stores.kv.kv_set(key, Claim(1, worker).write(), KVSetOptions(ex=30))


async def test_an_account_is_held_while_the_worker_runs(bench: Bench, account: FakeAccount) -> None:
    async with bench.working() as (_, gateway):
        assert await claimed_by(bench, account) == Claim(gateway.epoch, WORKER)
        await gateway.submit("t")
        await eventually(lambda: bench.client.answers)
        bench.client.answers[0].say(finish())
        assert (await gateway.finished("t")).outcome == "completed"
    assert await claimed_by(bench, account) is None


async def test_a_lost_account_lets_its_turns_end_and_then_stops(
    bench: Bench, account: FakeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_S", 0.01)
    async with bench.working() as (worker, gateway):
        await gateway.submit("t")
        await eventually(lambda: bench.client.answers)
        await claim(bench, account, "w-2")
        await eventually(lambda: not bench.instance.ready)
        await gateway.submit("late")
        assert await gateway.until("late", Declined) == Declined(reason="not_ready")
        assert account.running
        bench.client.answers[0].say(finish())
        assert (await gateway.finished("t")).outcome == "completed"
        await eventually(lambda: bench.instance.held_by == "w-2")
        assert not account.running
        document: Any = json.loads((await get(worker.health_port, "/healthz"))[2])
        assert (document["ok"], document["pool_size"]) == (True, 0)
        assert document["instances"][0]["held_by"] == "w-2"
    assert await claimed_by(bench, account) == Claim(1, "w-2")


async def test_turns_of_a_lost_account_are_cancelled_in_the_end(
    bench: Bench, account: FakeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_S", 0.01)
    async with bench.working(drain_deadline_s=0.05) as (_, gateway):
        await gateway.submit("t")
        await eventually(lambda: bench.client.answers)
        await claim(bench, account, "w-2")
        assert (await gateway.finished("t")).reason == "drain"
        await eventually(lambda: not account.running)


async def test_a_worker_whose_accounts_are_all_elsewhere_stands_by(
    bench: Bench, account: FakeAccount
) -> None:
    await claim(bench, account, "w-2")
    async with bench.worker().running() as worker:
        assert await worker.started(5)
        assert (await get(worker.health_port, "/readyz"))[0] == 200
        record = await bench.record()
        assert record is not None
        assert record.instances == []
        assert not account.running
        await bench.stores.kv.kv_del(bench.stores.keys.account(account.id))
        await eventually(lambda: account.running)
        await eventually(lambda: bench.instance.ready)
        async with asyncio.timeout(2):
            while (record := await bench.record()) is None or not record.instances:
                await asyncio.sleep(0.01)
