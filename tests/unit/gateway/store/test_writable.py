"""On real servers: what they refuse and when they take it again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.kernel.errors import StoreUnavailable
from gateway.store import writable as module
from gateway.store.connect import connect
from gateway.store.keys import Keys
from gateway.store.writable import WriteWatch
from tests.support.ports import free_port
from tests.support.redis_server import REFUSED_WRITES, RedisServer
from tests.support.redis_topologies import cluster


@contextlib.asynccontextmanager
async def watched(url: str) -> AsyncIterator[WriteWatch]:
    async with connect(url) as redis:
        yield WriteWatch(redis, Keys(buckets=redis.buckets), "r-1")


async def looks_until(watch: WriteWatch, refuses: bool) -> None:
    async with asyncio.timeout(5):
        while (watch.refusal is not None) is not refuses:
            await watch.look()
            await asyncio.sleep(0.01)


REFUSALS = REFUSED_WRITES | {
    "NOPERM evalsha": (
        ("ACL", "SETUSER", "default", "-eval", "-evalsha"),
        ("ACL", "SETUSER", "default", "+eval", "+evalsha"),
    ),
}


@pytest.mark.parametrize("word", REFUSALS)
async def test_a_store_that_refuses_is_noticed_and_told_once_and_so_is_its_return(
    word: str, redis_server: RedisServer, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    refuse, allow = REFUSALS[word]
    caplog.set_level("INFO", "gateway.store.writable")
    async with watched(redis_url) as watch:
        await watch.look()
        await watch.look()
        assert (watch.refusal, watch.since) == (None, None)
        redis_server.command(*refuse)
        try:
            await looks_until(watch, refuses=True)
            await watch.look()
            assert watch.refusal == f"the store refuses commands ({word})"
            assert watch.since is not None
        finally:
            redis_server.command(*allow)
        await looks_until(watch, refuses=False)
        assert watch.since is None
        assert watch.recovered_at <= asyncio.get_running_loop().time()
        told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
        assert told == ["store.refuses_writes", "store.takes_writes"]
        lacks = vars(caplog.records[0]).get("lacks")
        assert lacks == (["+eval", "+evalsha"] if "NOPERM" in word else [])


async def test_a_store_at_its_limit_that_takes_one_write_is_not_trusted_yet(
    redis_server: RedisServer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watched(redis_url) as watch:
        redis_server.command("CONFIG", "SET", "maxmemory", "1")
        await looks_until(watch, refuses=True)
        redis_server.command("CONFIG", "SET", "maxmemory", "0")
        await watch.look()
        assert watch.refusal is not None
        monkeypatch.setattr(module, "CALM_S", 0.0)
        await watch.look()
        assert watch.refusal is None


async def test_a_store_that_is_away_refuses_nothing() -> None:
    async with connect(f"redis://127.0.0.1:{free_port()}/0", connect_wait_s=0.1) as redis:
        watch = WriteWatch(redis, Keys(), "r-1")
        await watch.look()
        assert watch.refusal is None
        with pytest.raises(StoreUnavailable):
            await redis.call(b"k", "GET", "k")


async def test_memory_takes_every_write() -> None:
    watch = WriteWatch(None, Keys(), "r-1")
    await watch.look()
    assert watch.refusal is None


async def test_one_node_of_a_cluster_that_refuses_is_enough() -> None:
    with cluster() as nodes:
        for node in nodes.nodes:
            async with watched(nodes.url) as watch:
                await watch.look()
                assert watch.refusal is None
                node.command("CONFIG", "SET", "maxmemory", "1")
                await looks_until(watch, refuses=True)
                node.command("CONFIG", "SET", "maxmemory", "0")
