"""One suite for every key-value store: in memory with a clock that is told, on Redis with a real one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import InvalidKVArgument, StoreError
from gateway.store.connect import connect
from gateway.store.kv import KVClient, KVSetOptions
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_redis import RedisKV
from gateway.store.sealed import SealedKV
from gateway.store.sealing import SealRing

BINARY = bytes(range(256))


class Store:
    """A store, and how time passes for it."""

    def __init__(self, kv: KVClient, clock: FakeClock | None) -> None:
        self.kv = kv
        self.clock = clock

    async def until_gone(self, key: bytes, *, ttl_s: float) -> None:
        """Let the key's time pass."""
        if self.clock is not None:
            self.clock.advance(ttl_s + 0.001)
            assert await self.kv.kv_get(key) is None
            return
        async with asyncio.timeout(ttl_s + 3):
            while await self.kv.kv_get(key) is not None:
                await asyncio.sleep(0.002)


RING = SealRing([("new", b"n" * 32), ("old", b"o" * 32)])


@pytest.fixture(params=["memory", "redis", "sealed memory", "sealed redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    sealed = request.param.startswith("sealed")
    if request.param.endswith("memory"):
        clock = FakeClock()
        memory = MemoryKV(clock)
        yield Store(SealedKV(memory, RING) if sealed else memory, clock)
        return
    async with connect(request.getfixturevalue("redis_url")) as redis:
        on_redis = RedisKV(redis)
        yield Store(SealedKV(on_redis, RING) if sealed else on_redis, None)


@pytest.fixture
def kv(store: Store) -> KVClient:
    return store.kv


# ---- get and set


async def test_absent_is_none_and_empty_is_a_value(kv: KVClient) -> None:
    assert await kv.kv_get(b"k") is None
    assert await kv.kv_set(b"k", b"") is True
    assert await kv.kv_get(b"k") == b""


async def test_a_plain_set_replaces_the_value_and_takes_the_end_away(kv: KVClient) -> None:
    await kv.kv_set(b"k", b"1", KVSetOptions(ex=60))
    await kv.kv_set(b"k", b"2")
    assert await kv.kv_get(b"k") == b"2"
    assert await kv.kv_ttl(b"k") == (0, True)


async def test_keys_and_values_are_binary(kv: KVClient) -> None:
    await kv.kv_set(BINARY, BINARY)
    assert await kv.kv_get(BINARY) == BINARY
    assert await kv.kv_cas(BINARY, BINARY, b"\r\n\x00", 0)
    assert await kv.kv_mget(BINARY) == [b"\r\n\x00"]
    assert await kv.kv_del(BINARY) == 1


async def test_large_values_come_back_whole(kv: KVClient) -> None:
    large = BINARY * 16384
    await kv.kv_set(b"k", large)
    assert await kv.kv_get(b"k") == large


async def test_a_key_with_white_space_around_it_is_the_same_key(kv: KVClient) -> None:
    await kv.kv_set(b" k\t", b"v")
    assert await kv.kv_get(b"k") == b"v"
    assert await kv.kv_del("\u3000k".encode()) == 1


async def test_changing_what_was_passed_changes_nothing(kv: KVClient) -> None:
    value = bytearray(b"before")
    await kv.kv_set(b"set", value)
    await kv.kv_setnx(b"setnx", value, 0)
    await kv.kv_cas(b"cas", None, value, 0)
    values = {b"mset": value}
    await kv.kv_mset(values)
    await kv.kv_set(b"view", memoryview(value))
    value[:] = b"after."
    values[b"other"] = value
    keys = (b"set", b"setnx", b"cas", b"mset", b"view")
    assert await kv.kv_mget(*keys, b"other") == [b"before"] * 5 + [None]
    found = await kv.kv_get(b"set")
    assert type(found) is bytes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (KVSetOptions(ex=1, px=1), "home kv: EX and PX are mutually exclusive"),
        (KVSetOptions(ex=-1), "home kv: ttl must not be negative"),
        (KVSetOptions(px=-1), "home kv: ttl must not be negative"),
        (KVSetOptions(nx=True, xx=True), "home kv: NX and XX are mutually exclusive"),
    ],
)
async def test_kv_6_conflicting_options_are_refused_and_change_nothing(
    kv: KVClient, options: KVSetOptions, message: str
) -> None:
    """Given EX and PX, a negative EX, or NX and XX, expect the argument error and nothing written."""
    with pytest.raises(InvalidKVArgument) as refusal:
        await kv.kv_set(b"k", b"v", options)
    assert str(refusal.value) == message
    assert await kv.kv_get(b"k") is None


async def test_kv_5_an_empty_key_is_refused_by_every_call(kv: KVClient) -> None:
    """Given an empty or blank key, expect `home kv: key is empty`."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: kv.kv_get(b""),
        lambda: kv.kv_set(b" ", b"v", KVSetOptions(ex=-1)),
        lambda: kv.kv_setnx(b"", b"v", 0),
        lambda: kv.kv_cas(b"", None, b"v", 0),
        lambda: kv.kv_del(b"k", b""),
        lambda: kv.kv_expire(b"", 1),
        lambda: kv.kv_ttl(b""),
        lambda: kv.kv_incrby(b"", 1),
        lambda: kv.kv_mget(b"k", b""),
        lambda: kv.kv_mset({b"k": b"v", b"": b"v"}),
    ]
    for call in calls:
        with pytest.raises(InvalidKVArgument, match="home kv: key is empty"):
            await call()
    assert await kv.kv_get(b"k") is None


# ---- only if absent, only if present


async def test_kv_7_nx_and_xx_refuse_without_an_error(kv: KVClient) -> None:
    """Given a present key, expect False of SET NX and kv_setnx and no error; so of XX on an absent one."""
    assert await kv.kv_set(b"k", b"1", KVSetOptions(xx=True)) is False
    assert await kv.kv_set(b"k", b"1", KVSetOptions(nx=True)) is True
    assert await kv.kv_set(b"k", b"2", KVSetOptions(nx=True)) is False
    assert await kv.kv_setnx(b"k", b"2", 60) is False
    assert await kv.kv_get(b"k") == b"1"
    assert await kv.kv_ttl(b"k") == (0, True)
    assert await kv.kv_set(b"k", b"2", KVSetOptions(xx=True, ex=60)) is True
    assert await kv.kv_ttl(b"k") == (60, True)


@pytest.mark.parametrize(("ttl_s", "left"), [(0, 0), (-5, 0), (30, 30), (0.2, 1)])
async def test_setnx_takes_an_end_unless_it_is_zero_or_less(kv: KVClient, ttl_s: float, left: float) -> None:
    assert await kv.kv_setnx(b"k", b"v", ttl_s) is True
    assert await kv.kv_ttl(b"k") == (left, True)


# ---- ends


async def test_ends_are_rounded_up(kv: KVClient) -> None:
    await kv.kv_set(b"ex", b"v", KVSetOptions(ex=99.2))
    await kv.kv_set(b"px", b"v", KVSetOptions(px=99.9))
    await kv.kv_set(b"e", b"v")
    assert await kv.kv_expire(b"e", 99.0001) is True
    assert await kv.kv_ttl(b"ex") == (100, True)
    assert await kv.kv_ttl(b"px") == (100, True)
    assert await kv.kv_ttl(b"e") == (100, True)


async def test_an_end_is_never_rounded_to_nothing(kv: KVClient) -> None:
    await kv.kv_set(b"k", b"v", KVSetOptions(ex=0.0001))
    assert await kv.kv_ttl(b"k") == (1, True)
    assert await kv.kv_expire(b"k", 0.0001) is True
    assert await kv.kv_get(b"k") == b"v"


async def test_a_key_lives_its_time_and_no_longer(store: Store) -> None:
    kv = store.kv
    await kv.kv_set(b"k", b"v", KVSetOptions(px=0.4))
    assert await kv.kv_get(b"k") == b"v"
    await store.until_gone(b"k", ttl_s=0.4)
    assert await kv.kv_ttl(b"k") == (0, False)
    assert await kv.kv_expire(b"k", 60) is False
    assert await kv.kv_del(b"k") == 0
    assert await kv.kv_mget(b"k") == [None]
    assert await kv.kv_set(b"k", b"w", KVSetOptions(xx=True)) is False
    assert await kv.kv_cas(b"k", b"v", b"w", 0) is False
    assert await kv.kv_setnx(b"k", b"w", 0) is True


async def test_a_key_that_has_ended_is_absent_to_compare_and_swap_and_to_increments(store: Store) -> None:
    await store.kv.kv_set(b"k", b"5", KVSetOptions(px=0.02))
    await store.until_gone(b"k", ttl_s=0.02)
    assert await store.kv.kv_incrby(b"k", 1) == 1
    await store.kv.kv_set(b"k", b"5", KVSetOptions(px=0.02))
    await store.until_gone(b"k", ttl_s=0.02)
    assert await store.kv.kv_cas(b"k", None, b"new", 0) is True


async def test_expire_gives_another_end_and_keeps_the_value(kv: KVClient) -> None:
    assert await kv.kv_expire(b"k", 60) is False
    await kv.kv_set(b"k", b"v", KVSetOptions(ex=5))
    assert await kv.kv_expire(b"k", 3600) is True
    assert await kv.kv_ttl(b"k") == (3600, True)
    assert await kv.kv_get(b"k") == b"v"


@pytest.mark.parametrize("ttl_s", [0, -1])
async def test_expire_never_deletes(kv: KVClient, ttl_s: float) -> None:
    await kv.kv_set(b"k", b"v")
    with pytest.raises(InvalidKVArgument, match="positive"):
        await kv.kv_expire(b"k", ttl_s)
    assert await kv.kv_get(b"k") == b"v"


async def test_kv_10_ttl_tells_absent_endless_and_the_rest(kv: KVClient) -> None:
    """Given an absent key, one without an end and one with 42 s, expect (0, False), (0, True), (42, True)."""
    await kv.kv_set(b"endless", b"v")
    await kv.kv_set(b"timed", b"v", KVSetOptions(ex=42))
    assert await kv.kv_ttl(b"absent") == (0, False)
    assert await kv.kv_ttl(b"endless") == (0, True)
    assert await kv.kv_ttl(b"timed") == (42, True)


# ---- compare and swap


async def test_compare_and_swap_writes_only_over_what_is_expected(kv: KVClient) -> None:
    assert await kv.kv_cas(b"k", b"", b"x", 0) is False
    assert await kv.kv_cas(b"k", None, b"1", 0) is True
    assert await kv.kv_cas(b"k", None, b"2", 0) is False
    assert await kv.kv_cas(b"k", b"0", b"2", 0) is False
    assert await kv.kv_get(b"k") == b"1"
    assert await kv.kv_cas(b"k", b"1", b"", 0) is True
    assert await kv.kv_cas(b"k", None, b"3", 0) is False
    assert await kv.kv_cas(b"k", b"", b"3", 0) is True
    assert await kv.kv_get(b"k") == b"3"


async def test_compare_and_swap_sets_the_end_or_takes_it_away(kv: KVClient) -> None:
    await kv.kv_cas(b"k", None, b"1", 60)
    assert await kv.kv_ttl(b"k") == (60, True)
    await kv.kv_cas(b"k", b"other", b"2", 5)
    assert await kv.kv_ttl(b"k") == (60, True)
    await kv.kv_cas(b"k", b"1", b"2", 0)
    assert await kv.kv_ttl(b"k") == (0, True)


async def test_fifty_tasks_that_append_by_compare_and_swap_lose_nothing(kv: KVClient) -> None:
    async def append(item: int) -> None:
        while True:
            held = await kv.kv_get(b"list")
            await asyncio.sleep(0)
            if await kv.kv_cas(b"list", held, (held or b"") + b"%02d." % item, 60):
                return

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for item in range(50):
            group.create_task(append(item))
    found = await kv.kv_get(b"list")
    assert found is not None
    assert sorted(found.split(b".")[:-1]) == [b"%02d" % item for item in range(50)]


# ---- several keys, numbers


async def test_several_keys_in_one_call(kv: KVClient) -> None:
    await kv.kv_mset({b"b": b"2", b"a": b"1"})
    await kv.kv_set(b"c", b"", KVSetOptions(ex=60))
    assert await kv.kv_mget(b"a", b"x", b"c", b"b", b"a") == [b"1", None, b"", b"2", b"1"]
    await kv.kv_mset({b"c": b"3"})
    assert await kv.kv_ttl(b"c") == (0, True)
    assert await kv.kv_del(b"a", b"x", b"c", b"a") == 2
    assert await kv.kv_mget(b"a", b"b", b"c") == [None, b"2", None]


async def test_no_keys_are_no_work(kv: KVClient) -> None:
    assert await kv.kv_del() == 0
    assert await kv.kv_mget() == []
    await kv.kv_mset({})


async def test_numbers_are_added_to_and_keep_their_end(kv: KVClient) -> None:
    assert await kv.kv_incrby(b"n", 5) == 5
    assert await kv.kv_incrby(b"n", -7) == -2
    assert await kv.kv_get(b"n") == b"-2"
    await kv.kv_expire(b"n", 60)
    assert await kv.kv_incrby(b"n", 0) == -2
    assert await kv.kv_ttl(b"n") == (60, True)


@pytest.mark.parametrize("held", [b"", b"x", b"1.0", b"01", b" 1", str(2**63).encode()])
async def test_only_numbers_are_added_to(kv: KVClient, held: bytes) -> None:
    await kv.kv_set(b"n", held)
    with pytest.raises(StoreError):
        await kv.kv_incrby(b"n", 1)
    assert await kv.kv_get(b"n") == held


async def test_a_number_does_not_overflow(kv: KVClient) -> None:
    await kv.kv_set(b"n", str(2**63 - 1).encode())
    with pytest.raises(StoreError):
        await kv.kv_incrby(b"n", 1)
    assert await kv.kv_incrby(b"n", -1) == 2**63 - 2


async def test_fifty_increments_at_once_all_count(kv: KVClient) -> None:
    await asyncio.gather(*(kv.kv_incrby(b"n", 2) for _ in range(50)))
    assert await kv.kv_get(b"n") == b"100"


@pytest.mark.parametrize("kind", ["redis", "cluster"])
async def test_a_key_that_holds_no_string_is_no_value_among_many(
    request: pytest.FixtureRequest, kind: str
) -> None:
    async with connect(request.getfixturevalue(f"{kind}_url")) as redis:
        await redis.wait_connected(5)
        kv = RedisKV(redis)
        await kv.kv_set(b"a", b"1")
        await redis.call(b"b", "HSET", b"b", "x", "y")
        assert await kv.kv_mget(b"a", b"b", b"c") == [b"1", None, None]
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await kv.kv_get(b"b")
