"""What sealing adds to a store; that it stays one is proven by the contract suite."""

import pytest

from gateway.kernel.clock import FakeClock
from gateway.store.kv import KVSetOptions
from gateway.store.kv_memory import MemoryKV
from gateway.store.sealed import SealedKV
from gateway.store.sealing import SealRing

RING = SealRing([("a", b"a" * 32)])


def stores() -> tuple[MemoryKV, SealedKV]:
    inner = MemoryKV(FakeClock())
    return inner, SealedKV(inner, RING)


async def test_the_store_never_sees_what_is_kept() -> None:
    inner, sealed = stores()
    await sealed.kv_set(b"k", b"the value")
    await sealed.kv_mset({b"m": b"the value"})
    for key in (b"k", b"m"):
        raw = await inner.kv_get(key)
        assert raw is not None
        assert b"the value" not in raw


async def test_a_value_copied_to_another_key_is_absent_there() -> None:
    inner, sealed = stores()
    await sealed.kv_set(b"mine", b"the value")
    raw = await inner.kv_get(b"mine")
    assert raw is not None
    await inner.kv_set(b"yours", raw)
    assert await sealed.kv_get(b"yours") is None
    assert await sealed.kv_mget(b"mine", b"yours") == [b"the value", None]


async def test_what_does_not_open_is_overwritten_like_something_absent() -> None:
    for write in ("set", "setnx", "cas"):
        inner, sealed = stores()
        await inner.kv_set(b"k", b"plain, from before")
        assert await sealed.kv_get(b"k") is None
        assert not await sealed.kv_set(b"k", b"x", KVSetOptions(xx=True))
        if write == "set":
            assert await sealed.kv_set(b"k", b"new")
        elif write == "setnx":
            assert await sealed.kv_setnx(b"k", b"new", 60)
            assert not await sealed.kv_setnx(b"k", b"newer", 60)
        else:
            assert not await sealed.kv_cas(b"k", b"plain, from before", b"x", 60)
            assert await sealed.kv_cas(b"k", None, b"new", 60)
        assert await sealed.kv_get(b"k") == b"new"


async def test_counters_stay_numbers() -> None:
    inner, sealed = stores()
    assert await sealed.kv_incrby(b"n", 5) == 5
    assert await inner.kv_get(b"n") == await sealed.kv_get(b"n") == b"5"


async def test_what_does_not_open_is_told_once_for_each_key_and_without_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inner, sealed = stores()
    await inner.kv_set(b"lg:v1:secret-name", b"plain")
    for _ in range(3):
        assert await sealed.kv_get(b"lg:v1:secret-name") is None
    (record,) = caplog.records
    assert record.message == "kv.unreadable"
    assert record.__dict__["key"] == "lg:v1:*"
