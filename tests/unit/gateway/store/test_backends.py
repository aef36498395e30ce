"""One address opens all state ports; what needs a server is in the contract suites."""

from typing import Any

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreError, StoreForbidden, StoreUnavailable
from gateway.store.backends import check_store, open_stores
from gateway.store.connect import ServerInfo
from gateway.store.kv_memory import MemoryKV
from tests.support.redis_server import RedisServer


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


class Server:
    """A Redis of which only the look at it counts; its user has all rights."""

    kind = "standalone"
    links = ()

    def __init__(self, answer: ServerInfo | StoreError) -> None:
        self._answer = answer

    async def wait_connected(self, timeout_s: float) -> None:
        pass

    async def server_info(self) -> ServerInfo:
        if isinstance(self._answer, StoreError):
            raise self._answer
        return self._answer


async def checked(answer: ServerInfo | StoreError) -> None:
    async with open_stores("memory://", FakeClock()) as stores:
        redis: Any = Server(answer)
        await check_store(stores._replace(redis=redis))


async def test_memory_needs_no_check() -> None:
    async with open_stores("memory://", FakeClock()) as stores:
        await check_store(stores)


async def test_a_store_that_evicts_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    await checked(ServerInfo("7.2.0", "noeviction"))
    await checked(ServerInfo("7.2.0", ""))
    assert caplog.records == []
    await checked(ServerInfo("7.2.0", "allkeys-lru"))
    [told] = caplog.records
    assert (told.getMessage(), "noeviction" in vars(told)["remedy"]) == ("store.evicts", True)


async def test_a_store_that_is_down_may_come_later(caplog: pytest.LogCaptureFixture) -> None:
    await checked(StoreUnavailable("not there"))
    assert [record.getMessage() for record in caplog.records] == ["store.unavailable_at_start"]


async def test_a_user_without_rights_is_refused_by_name_and_without_its_password(
    redis_server: RedisServer, redis_url: str
) -> None:
    redis_server.command("ACL", "SETUSER", "few", "reset", "on", ">hush", "~lg:*", "+@all", "-eval", "-xadd")
    async with open_stores(redis_url.replace("//", "//few:hush@"), FakeClock()) as stores:
        with pytest.raises(StoreForbidden) as refused:
            await check_store(stores)
        assert "user 'few'" in str(refused.value)
        assert str(refused.value).endswith("lacks rights: +eval +xadd")
        assert "hush" not in str(refused.value)
        with pytest.raises(StoreForbidden, match=r"lacks rights: \+eval \+xadd ~cpa:\*"):
            await check_store(stores, replay=True)


async def test_a_store_that_is_too_old_is_refused() -> None:
    with pytest.raises(StoreError, match="too old"):
        await checked(StoreError("too old"))
