"""What a new incarnation makes of what the one before left."""

from collections.abc import AsyncIterator

import pytest

from gateway.jobs.codec import encode_record
from gateway.jobs.messages import Finished, WorkerRecord, slot_holder
from gateway.kernel.clock import FakeClock, SystemClock
from gateway.store.backends import Stores, open_memory
from gateway.store.turnlog import Fence, TurnState
from tests.fakes.worker import WORKER, Gateway
from workers.recovery import clear_up, next_epoch

OLD = 1_790_000_000_000
NEW = OLD + 9


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    async with open_memory(SystemClock()) as opened:
        yield opened


@pytest.fixture
def gateway(stores: Stores) -> Gateway:
    return Gateway(stores, SystemClock(), epoch=OLD)


async def test_an_epoch_is_the_time_and_always_rises(stores: Stores) -> None:
    clock = FakeClock()
    now = clock.now_ms()
    assert await next_epoch(stores, WORKER, clock) == now
    record = WorkerRecord(worker=WORKER, epoch=now + 50, software="x", beat_at_ms=0, instances=[])
    await stores.kv.kv_set(stores.keys.worker(WORKER), encode_record(record))
    assert await next_epoch(stores, WORKER, clock) == now + 51
    clock.advance(3600)
    assert await next_epoch(stores, WORKER, clock) == now + 3_600_000


async def test_turns_that_ran_are_lost_and_their_slots_free(stores: Stores, gateway: Gateway) -> None:
    await gateway.create("ran")
    await stores.turns.accept("ran", await gateway.fence("ran"), b"")
    assert await clear_up(stores, WORKER, NEW, [0]) == 1
    assert await gateway.state("ran") is TurnState.LOST
    entries = await stores.streams.range(stores.keys.frames("ran"), after=b"0")
    assert len(entries) == 2
    assert await gateway.slots() == []


async def test_the_end_is_said_to_readers(stores: Stores, gateway: Gateway) -> None:
    await gateway.create("ran")
    first = gateway.envelope("ran")
    from gateway.jobs.codec import encode
    from gateway.jobs.messages import Accepted

    await stores.turns.accept(
        "ran", await gateway.fence("ran"), encode(first, Accepted(worker=WORKER, instance="inst-0"))
    )
    await clear_up(stores, WORKER, NEW, [0])
    finished = await gateway.finished("ran")
    assert (finished.outcome, finished.error_kind, finished.retryable) == ("lost", "worker_lost", False)
    assert isinstance((await gateway.replies("ran"))[-1], Finished)


async def test_what_was_only_queued_is_left_alone(stores: Stores, gateway: Gateway) -> None:
    await gateway.create("queued")
    assert await clear_up(stores, WORKER, NEW, [0, 1]) == 0
    assert await gateway.state("queued") is TurnState.QUEUED
    assert await gateway.slots() == [slot_holder("queued", 1)]


async def test_a_turn_that_moved_to_another_worker_is_left_alone(stores: Stores, gateway: Gateway) -> None:
    await gateway.create("moved")
    fence = Fence(2, "w-2", 7)
    await stores.turns.assign("moved", expected_attempt=1, fence=fence, instance="inst-0")
    await stores.turns.accept("moved", fence, b"")
    assert await clear_up(stores, WORKER, NEW, [0]) == 0
    assert await gateway.state("moved") is TurnState.RUNNING
    assert await gateway.slots() == []


async def test_slots_of_turns_that_are_gone_are_freed(stores: Stores, gateway: Gateway) -> None:
    await stores.leases.acquire(gateway.slots_key, slot_holder("gone", 1), limit=0, ttl_s=10)
    assert await clear_up(stores, WORKER, NEW, [0]) == 0
    assert await gateway.slots() == []
