"""Bounds. Behaviour is in tests/contract/test_kv.py."""

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreError
from gateway.store.kv import KVSetOptions
from gateway.store.kv_memory import EVICT_AT_ONCE, MAX_ENTRIES, PURGE_EVERY_S, MemoryKV


async def test_the_entry_beyond_the_cap_evicts_the_128_oldest() -> None:
    kv = MemoryKV(FakeClock())
    for i in range(MAX_ENTRIES):
        await kv.kv_set(b"k%d" % i, b"v")
    assert len(kv) == MAX_ENTRIES == 10_240
    await kv.kv_set(b"one more", b"v")
    assert len(kv) == MAX_ENTRIES + 1 - EVICT_AT_ONCE
    assert await kv.kv_get(b"k127") is None
    assert await kv.kv_get(b"k128") == b"v"
    assert await kv.kv_get(b"one more") == b"v"


async def test_what_has_ended_goes_before_what_is_old() -> None:
    clock = FakeClock()
    kv = MemoryKV(clock, max_entries=4, evict_at_once=2)
    await kv.kv_set(b"old", b"v")
    await kv.kv_set(b"ended", b"v", KVSetOptions(ex=1))
    clock.advance(2)
    for i in range(3):
        await kv.kv_set(b"%d" % i, b"v")
    assert await kv.kv_get(b"old") == b"v"
    assert len(kv) == 4


async def test_writing_or_renewing_an_entry_makes_it_the_newest() -> None:
    kv = MemoryKV(FakeClock(), max_entries=3, evict_at_once=1)
    for key in (b"a", b"b", b"c"):
        await kv.kv_set(key, b"v", KVSetOptions(ex=60))
    await kv.kv_set(b"a", b"w", KVSetOptions(ex=60))
    await kv.kv_expire(b"b", 60)
    await kv.kv_set(b"d", b"v")
    assert await kv.kv_mget(b"a", b"b", b"c", b"d") == [b"w", b"v", None, b"v"]


async def test_what_has_ended_does_not_stay_for_ever() -> None:
    clock = FakeClock()
    kv = MemoryKV(clock)
    for i in range(100):
        await kv.kv_set(b"%d" % i, b"v", KVSetOptions(ex=1))
    clock.advance(PURGE_EVERY_S + 2)
    await kv.kv_set(b"k", b"v")
    assert len(kv) == 1


async def test_an_entry_exactly_its_time_old_is_still_valid() -> None:
    clock = FakeClock()
    kv = MemoryKV(clock)
    await kv.kv_set(b"k", b"v", KVSetOptions(ex=10))
    clock.advance(10)
    assert await kv.kv_get(b"k") == b"v"
    clock.advance(0.001)
    assert await kv.kv_get(b"k") is None


@pytest.mark.parametrize("text", [b"", b"-", b"1.5", b"01", b"-0", b" 1", b"+1", b"9" * 20, b"\xd9\xa1"])
async def test_only_numbers_as_redis_writes_them_can_be_added_to(text: bytes) -> None:
    kv = MemoryKV(FakeClock())
    await kv.kv_set(b"k", text)
    with pytest.raises(StoreError):
        await kv.kv_incrby(b"k", 1)
    assert await kv.kv_get(b"k") == text


async def test_bytes_are_bounded_and_the_oldest_go() -> None:
    kv = MemoryKV(FakeClock(), max_bytes=100)
    for number in range(4):
        await kv.kv_set(b"k%d" % number, b"x" * 30)
    assert await kv.kv_mget(b"k0", b"k1", b"k2", b"k3") == [None, b"x" * 30, b"x" * 30, b"x" * 30]
    await kv.kv_set(b"k1", b"x" * 10)
    await kv.kv_set(b"k4", b"x" * 20)
    assert await kv.kv_get(b"k2") is not None, "what was written again takes what it takes now"
    await kv.kv_set(b"big", b"x" * 200)
    assert len(kv) == 1, "the newest stays, whatever its size"
