"""One address opens all state ports; what needs a server is in the contract suites."""

import pytest

from gateway.kernel.clock import FakeClock
from gateway.store.backends import open_stores
from gateway.store.kv_memory import MemoryKV


async def test_memory_opens_every_port_in_this_process() -> None:
    async with open_stores("memory://", FakeClock()) as stores:
        assert stores.redis is None
        assert isinstance(stores.kv, MemoryKV)
        assert await stores.kv.kv_set(b"k", b"v")
        assert await stores.kv.kv_get(b"k") == b"v"
        assert await stores.leases.acquire(b"l", "me", limit=1, ttl_s=5)
        await stores.streams.append(b"s", b"entry")
        assert [payload for _, payload in await stores.streams.range(b"s")] == [b"entry"]


async def test_two_memories_share_nothing() -> None:
    clock = FakeClock()
    async with open_stores("memory://", clock) as one, open_stores("memory://", clock) as other:
        await one.kv.kv_set(b"k", b"v")
        assert await other.kv.kv_get(b"k") is None


async def test_an_address_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="must begin with"):
        async with open_stores("mysql://host", FakeClock()):
            pass


async def test_a_redis_opens_every_port_on_it(redis_url: str) -> None:
    async with open_stores(redis_url, FakeClock()) as stores:
        assert stores.redis is not None
        assert await stores.kv.kv_set(b"k", b"v")
        assert await stores.kv.kv_get(b"k") == b"v"
        assert await stores.leases.acquire(b"l", "me", limit=1, ttl_s=5)
        assert await stores.leases.holders(b"l") == ["me"]
