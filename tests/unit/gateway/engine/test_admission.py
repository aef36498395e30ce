import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from gateway.engine.admission import LEASE_S, Admission
from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import QueueTimeout, RateLimited
from gateway.kernel.ids import TurnId
from gateway.store.keys import Keys
from gateway.store.leases_memory import MemoryLeases
from gateway.turn.request import RawRequest, Turn


def make(max_in_flight: int, leases: MemoryLeases | None = None) -> Admission:
    return Admission(
        MemoryLeases(FakeClock()) if leases is None else leases,
        Keys(),
        max_in_flight=max_in_flight,
        queue_max=8,
    )


def turn(name: str, limit: int = 0) -> Turn:
    return Turn(
        id=TurnId(name),
        tenant="-",
        created_at_ms=0,
        model="m",
        items=(),
        raw=RawRequest("chat", {}),
        key_id="k1",
        key_max_in_flight=limit,
    )


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


@contextlib.asynccontextmanager
async def admitted(admission: Admission, asked: Turn, *, until: float) -> AsyncIterator[None]:
    place = await admission.admit(asked, until=until)
    try:
        yield
    finally:
        await place.leave()


async def test_lv_45_no_limit_counts_and_releases_once() -> None:
    """Given max 0, acquire and release twice; expect in flight 1, then 0, accepted 1."""
    admission = make(0)
    place = await admission.admit(turn("a"), until=soon())
    assert admission.counts().in_flight == 1
    for _ in range(2):
        await place.leave()
        assert (admission.counts().in_flight, admission.counts().accepted_total) == (0, 1)


async def test_a_freed_place_goes_to_who_waits() -> None:
    admission = make(1)
    entered = asyncio.Event()

    async def second() -> None:
        async with admitted(admission, turn("b"), until=soon()):
            entered.set()

    async with asyncio.TaskGroup() as group, admitted(admission, turn("a"), until=soon()):
        group.create_task(second())
        while admission.counts().queued < 1:
            await asyncio.sleep(0)
        assert not entered.is_set()
    assert entered.is_set()


async def test_the_limit_holds_over_replicas_that_share_a_store() -> None:
    leases = MemoryLeases(FakeClock())
    one, other = make(1, leases), make(1, leases)
    async with admitted(one, turn("a"), until=soon()):
        with pytest.raises(QueueTimeout):
            async with admitted(other, turn("b"), until=soon(0.02)):
                pass
    async with admitted(other, turn("b"), until=soon()):
        pass


async def test_a_replica_that_died_leaks_nothing() -> None:
    clock = FakeClock()
    leases = MemoryLeases(clock)
    dead = await make(1, leases).admit(turn("a"), until=soon())
    clock.advance(LEASE_S + 0.1)
    async with admitted(make(1, leases), turn("b"), until=soon(0.02)):
        pass
    await dead.leave()


async def test_a_key_at_its_own_limit_is_told_at_once() -> None:
    admission = make(0)
    async with admitted(admission, turn("a", limit=1), until=soon()):
        with pytest.raises(RateLimited):
            async with admitted(admission, turn("b", limit=1), until=soon()):
                pass
        other = msgspec.structs.replace(turn("c", limit=1), key_id="k2")
        async with admitted(admission, other, until=soon()):
            pass
    assert admission.counts().rejected_total == 1


async def test_a_key_place_is_returned_when_the_cluster_is_full() -> None:
    admission = make(1)
    async with admitted(admission, turn("a"), until=soon()):
        with pytest.raises(QueueTimeout):
            async with admitted(admission, turn("b", limit=1), until=soon(0.02)):
                pass
    async with admitted(admission, turn("c", limit=1), until=soon()):
        pass


class CountedLeases(MemoryLeases):
    renewals = 0

    async def renew_many(self, items: Sequence[tuple[bytes, str]], *, ttl_s: float) -> list[bool]:
        self.renewals += 1
        return await super().renew_many(items, ttl_s=ttl_s)


async def test_leases_are_renewed_while_their_turn_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.admission.RENEW_S", 0.001)
    clock = FakeClock()
    leases = CountedLeases(clock)
    admission = make(1, leases)
    async with asyncio.timeout(5), admission.running(), admitted(admission, turn("a"), until=soon()):
        for _ in range(3):
            clock.advance(LEASE_S * 0.6)
            seen = leases.renewals
            while leases.renewals == seen:
                await asyncio.sleep(0.001)
        assert await leases.count(Keys().inflight) == 1


class LateAnswers(MemoryLeases):
    """The store has done it; the answer is still on its way."""

    async def acquire(self, key: bytes, holder: str, *, limit: int, ttl_s: float) -> bool:
        await super().acquire(key, holder, limit=limit, ttl_s=ttl_s)
        await asyncio.Event().wait()
        return True


@pytest.mark.parametrize("key_limit", [0, 1])
async def test_a_client_that_leaves_while_it_is_admitted_leaves_no_lease(key_limit: int) -> None:
    leases = LateAnswers(FakeClock())
    admission = make(1, leases)
    keys = [Keys().inflight, Keys().inflight_of("k1")]

    async def enter() -> None:
        async with admitted(admission, turn("a", limit=key_limit), until=soon()):
            pass

    task = asyncio.get_running_loop().create_task(enter())
    async with asyncio.timeout(5):
        while not sum(await leases.counts(keys)):
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await leases.counts(keys) == [0, 0]


async def test_a_lease_that_the_store_lost_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.engine.admission.RENEW_S", 0.001)
    leases = MemoryLeases(FakeClock())
    admission = make(1, leases)
    async with asyncio.timeout(5), admission.running():
        async with admitted(admission, turn("a"), until=soon()):
            await leases.release(Keys().inflight, "a")
            while not await leases.count(Keys().inflight):
                await asyncio.sleep(0.001)
        assert await leases.count(Keys().inflight) == 0
