"""The contract of Leases, on every implementation."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.kernel.clock import FakeClock, SystemClock
from gateway.store.leases import Leases
from gateway.store.leases_memory import MemoryLeases
from tests.contract.stores import eventually, redis_store

KEY = b"t:slots:0"
OTHER = b"t:slots:1"


@pytest.fixture(params=["memory", "redis", "cluster"])
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[Leases]:
    if request.param == "memory":
        yield MemoryLeases(SystemClock())
        return
    async with redis_store(request, request.param) as store:
        yield store.leases


async def test_no_more_than_the_limit_are_given(leases: Leases) -> None:
    assert await leases.acquire(KEY, "a", limit=2, ttl_s=60)
    assert await leases.acquire(KEY, "b", limit=2, ttl_s=60)
    assert not await leases.acquire(KEY, "c", limit=2, ttl_s=60)
    assert await leases.acquire(OTHER, "c", limit=2, ttl_s=60), "every key has a limit of its own"
    assert await leases.count(KEY) == 2


async def test_fifty_racing_tasks_get_exactly_the_limit(leases: Leases) -> None:
    got = await asyncio.gather(*(leases.acquire(KEY, f"h{i}", limit=7, ttl_s=60) for i in range(50)))
    assert sum(got) == 7
    assert await leases.count(KEY) == 7


async def test_fifty_tasks_that_take_and_release_never_exceed_the_limit(leases: Leases) -> None:
    inside = most = done = 0

    async def work(holder: str) -> None:
        nonlocal inside, most, done
        while not await leases.acquire(KEY, holder, limit=3, ttl_s=60):
            await asyncio.sleep(0)
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        done += 1
        assert await leases.release(KEY, holder)

    async with asyncio.timeout(30):
        await asyncio.gather(*(work(f"h{i}") for i in range(50)))
    assert (most, done) == (3, 50)
    assert await leases.count(KEY) == 0


async def test_a_holder_that_asks_again_keeps_its_lease(leases: Leases) -> None:
    """The answer to the first call may have been lost."""
    assert await leases.acquire(KEY, "a", limit=1, ttl_s=60)
    assert await leases.acquire(KEY, "a", limit=1, ttl_s=60)
    assert await leases.count(KEY) == 1
    assert not await leases.acquire(KEY, "b", limit=1, ttl_s=60)


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_of_zero_or_less_is_none(leases: Leases, limit: int) -> None:
    assert all([await leases.acquire(KEY, f"h{i}", limit=limit, ttl_s=60) for i in range(20)])
    assert await leases.count(KEY) == 20


async def test_a_lowered_limit_lets_the_holders_stay(leases: Leases) -> None:
    for holder in "abc":
        await leases.acquire(KEY, holder, limit=3, ttl_s=60)
    assert await leases.acquire(KEY, "a", limit=1, ttl_s=60)
    assert not await leases.acquire(KEY, "d", limit=1, ttl_s=60)
    assert await leases.count(KEY) == 3


async def test_what_is_not_renewed_frees_its_place(leases: Leases) -> None:
    assert await leases.acquire(KEY, "crashed", limit=2, ttl_s=0.05)
    assert await leases.acquire(KEY, "alive", limit=2, ttl_s=60)

    async def acquired() -> bool:
        return await leases.acquire(KEY, "next", limit=2, ttl_s=60)

    await eventually(acquired)
    assert await leases.holders(KEY) == ["alive", "next"]


async def test_ended_leases_are_not_counted(leases: Leases) -> None:
    await leases.acquire(KEY, "a", limit=0, ttl_s=0.05)
    await leases.acquire(KEY, "b", limit=0, ttl_s=60)

    async def one_left() -> bool:
        return await leases.count(KEY) == 1

    await eventually(one_left)
    assert await leases.holders(KEY) == ["b"]


async def test_a_renewed_lease_lives_on(leases: Leases) -> None:
    await leases.acquire(KEY, "ends", limit=0, ttl_s=0.1)
    await leases.acquire(KEY, "stays", limit=0, ttl_s=0.1)
    assert await leases.renew(KEY, "stays", ttl_s=60)

    async def ended() -> bool:
        return not await leases.renew(OTHER, "x", ttl_s=60) and await leases.count(KEY) == 1

    await eventually(ended)
    assert await leases.holders(KEY) == ["stays"]


async def test_an_ended_lease_cannot_be_renewed(leases: Leases) -> None:
    """Somebody else may have its place."""
    await leases.acquire(KEY, "keeps the key", limit=0, ttl_s=60)
    await leases.acquire(KEY, "a", limit=0, ttl_s=0.05)

    async def ended() -> bool:
        return await leases.count(KEY) == 1

    await eventually(ended)
    assert not await leases.renew(KEY, "a", ttl_s=60)
    assert not await leases.renew(KEY, "never was", ttl_s=60)
    assert not await leases.renew(OTHER, "never was", ttl_s=60)
    assert await leases.holders(KEY) == ["keeps the key"]
    assert await leases.count(OTHER) == 0


async def test_many_are_renewed_at_once_each_with_its_own_answer(leases: Leases) -> None:
    await leases.acquire(KEY, "a", limit=0, ttl_s=60)
    await leases.acquire(OTHER, "b", limit=0, ttl_s=60)
    await leases.acquire(KEY, "c", limit=0, ttl_s=60)
    items = [(KEY, "a"), (OTHER, "a"), (OTHER, "b"), (KEY, "nobody"), (KEY, "c"), (KEY, "a")]
    assert await leases.renew_many(items, ttl_s=60) == [True, False, True, False, True, True]
    assert await leases.renew_many([], ttl_s=60) == []


async def test_thousands_of_leases_of_one_key_are_renewed(leases: Leases) -> None:
    holders = [f"h{i}" for i in range(3000)]
    await asyncio.gather(*(leases.acquire(KEY, holder, limit=0, ttl_s=60) for holder in holders))
    assert await leases.renew_many([(KEY, holder) for holder in holders], ttl_s=60) == [True] * 3000


async def test_a_lease_is_released_once(leases: Leases) -> None:
    await leases.acquire(KEY, "a", limit=1, ttl_s=60)
    assert await leases.release(KEY, "a")
    assert not await leases.release(KEY, "a")
    assert await leases.acquire(KEY, "b", limit=1, ttl_s=60)
    assert not await leases.release(KEY, "a"), "what another one holds stays"
    assert await leases.count(KEY) == 1


async def test_counts_of_many_keys_come_in_their_order(leases: Leases) -> None:
    for holder in "abc":
        await leases.acquire(OTHER, holder, limit=0, ttl_s=60)
    await leases.acquire(KEY, "a", limit=0, ttl_s=60)
    assert await leases.counts([OTHER, b"t:none", KEY, OTHER]) == [3, 0, 1, 3]
    assert await leases.counts([]) == []


async def test_holders_are_sorted_by_name(leases: Leases) -> None:
    for holder in ("worker-1", "wörker", "worker-0"):
        await leases.acquire(KEY, holder, limit=0, ttl_s=60)
    assert await leases.holders(KEY) == ["worker-0", "worker-1", "wörker"]
    assert await leases.holders(OTHER) == []


# -- one implementation only ------------------------------------------------------------------------------


async def test_memory_leases_end_exactly_at_their_time() -> None:
    clock = FakeClock()
    leases = MemoryLeases(clock)
    await leases.acquire(KEY, "a", limit=1, ttl_s=10)
    clock.advance(9.999)
    assert not await leases.acquire(KEY, "b", limit=1, ttl_s=10)
    clock.advance(0.001)
    assert await leases.acquire(KEY, "b", limit=1, ttl_s=10)


async def test_memory_leases_that_ended_are_not_kept() -> None:
    clock = FakeClock()
    leases = MemoryLeases(clock)
    for i in range(100):
        await leases.acquire(b"%d" % i, "crashed", limit=1, ttl_s=10)
    await leases.renew(b"0", "crashed", ttl_s=20)
    await leases.acquire(b"1", "brief", limit=2, ttl_s=1)
    assert len(leases) == 100
    clock.advance(10)
    assert len(leases) == 1
    await leases.release(b"0", "crashed")
    assert len(leases) == 0


async def test_redis_forgets_a_key_whose_leases_all_ended(request: pytest.FixtureRequest) -> None:
    async with redis_store(request) as store:
        await store.leases.acquire(KEY, "long", limit=0, ttl_s=60)
        await store.leases.acquire(KEY, "short", limit=0, ttl_s=5)
        left = await store.ttl_s(KEY)
        assert left is not None
        assert 50 < left <= 60, "the key lives as long as its longest lease"
        await store.leases.renew(KEY, "short", ttl_s=100)
        left = await store.ttl_s(KEY)
        assert left is not None
        assert 90 < left <= 100


@pytest.mark.parametrize("kind", ["redis", "cluster"])
async def test_a_member_that_is_no_text_hides_nobody(request: pytest.FixtureRequest, kind: str) -> None:
    async with redis_store(request, kind) as store:
        await store.leases.acquire(KEY, "a", limit=0, ttl_s=60)
        await store.redis.call(KEY, "ZADD", KEY, 9e15, b"\xff\xfe")
        assert await store.leases.holders(KEY) == ["a", "\ufffd\ufffd"]
