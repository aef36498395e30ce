import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from gateway.kernel.errors import StoreError, StoreUnavailable
from gateway.store.connect import Redis, ServerInfo, connect
from gateway.store.scripts import Script
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.resp_server import Error, RespServer


async def eventually(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


# ---- one server


async def test_one_server_takes_every_key(redis_url: str) -> None:
    async with connect(redis_url) as redis:
        assert (redis.kind, redis.buckets, redis.one_slot) == ("standalone", 1, True)
        assert await redis.call(b"k", "SET", "k", "v") == b"OK"
        assert await redis.run(Script("x", "return redis.call('GET', KEYS[1])"), [b"k"], []) == b"v"
        assert 0 < await redis.ping() < 5
        assert (redis.healthy, redis.available) == (True, True)


async def test_commands_that_do_not_wait_share_one_connection(
    redis_server: RedisServer, redis_url: str
) -> None:
    before = redis_server.client_count()
    async with connect(redis_url) as redis:
        await asyncio.gather(*(redis.call(b"k", "INCR", "k") for _ in range(50)))
        assert redis_server.client_count() == before + 1


async def test_a_dedicated_connection_blocks_nobody_else(redis_server: RedisServer, redis_url: str) -> None:
    before = redis_server.client_count()
    async with connect(redis_url) as redis:
        reader = redis.dedicated(b"list")
        taken = asyncio.create_task(reader.call("BLPOP", "list", 5, timeout_s=8))
        await eventually(lambda: redis_server.client_count() == before + 2)
        async with asyncio.timeout(1):
            await redis.call(b"list", "RPUSH", "list", "a")
        assert await taken == [b"list", b"a"]
        await reader.aclose()
        assert await redis.call(b"k", "ECHO", "still here") == b"still here"


async def test_the_database_and_the_name_are_those_asked_for(
    redis_server: RedisServer, redis_url: str
) -> None:
    async with connect(redis_url.removesuffix("/0") + "/5", client_name="replica-7") as redis:
        await redis.call(b"k", "SET", "k", "v")
        info = (await redis.call(b"", "CLIENT", "INFO")).decode()
    assert " name=replica-7 " in info
    assert " db=5 " in info


async def test_what_the_server_is(redis_url: str) -> None:
    async with connect(redis_url) as redis:
        info = await redis.server_info()
    assert not info.old
    assert info.maxmemory_policy == "noeviction"


@pytest.mark.parametrize(
    ("version", "old"),
    [("6.2.0", False), ("7.0.15", False), ("8.10", False), ("6.0.16", True), ("5.0.14", True)],
)
def test_the_floor_is_6_2(version: str, old: bool) -> None:
    assert ServerInfo(version, "noeviction").old is old


async def test_a_server_below_the_floor_is_refused_by_its_version() -> None:
    info = b"# Server\r\nredis_version:5.0.14\r\n# Memory\r\nmaxmemory_policy:allkeys-lru\r\n"
    async with RespServer(lambda args: info) as server, connect(f"redis://127.0.0.1:{server.port}") as redis:
        with pytest.raises(StoreError, match=r"6\.2 or newer.*5\.0\.14"):
            await redis.server_info()


async def test_memory_is_no_redis() -> None:
    with pytest.raises(ValueError, match="one process"):
        await Redis.open("memory://")


async def test_a_server_that_comes_later_is_found() -> None:
    server = RedisServer()
    try:
        async with connect(server.url) as redis:
            with pytest.raises(StoreUnavailable):
                await redis.ping()
            assert (redis.healthy, redis.available) == (False, False)
            server.start()
            await redis.wait_connected(5)
            await redis.ping()
    finally:
        server.close()


async def test_hooks_run_at_each_connect() -> None:
    seen: list[str] = []
    with RedisServer() as server:
        async with connect(server.url) as redis:
            redis.on_connect.append(lambda: seen.append("connected"))
            await redis.ping()
            server.restart()
            await eventually(lambda: redis.reconnects == 1 and redis.healthy)
    assert seen == ["connected", "connected"]


async def test_a_password_is_used_and_never_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer("--requirepass", "right-s3cret") as server:
        server_url = f"redis://:right-s3cret@127.0.0.1:{server.port}"
        async with connect(server_url) as redis:
            await redis.ping()
        async with connect(server_url.replace("right", "wrong")) as redis:
            with pytest.raises(StoreUnavailable, match="credentials"):
                await redis.ping()
    logged = " ".join(str(vars(record)) for record in caplog.records)
    assert "link.connect_failed" in logged
    assert "s3cret" not in logged


async def test_a_unix_socket(tmp_path: Any) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer("--unixsocket", str(path)):
        async with connect(f"unix://{path}?db=1") as redis:
            await redis.ping()


@pytest.mark.parametrize("url", ["rediss://127.0.0.1:1?ssl_ca_certs=/ca.pem&ssl_check_hostname=no"])
async def test_tls_options_reach_the_connection(url: str) -> None:
    async with connect(url) as redis:
        made = redis._make_connection(b"")
        assert isinstance(made, SSLConnection)
        assert made.ca_certs == "/ca.pem"
        assert made.check_hostname is False


async def test_with_sentinels_tls_is_for_them_and_for_the_master() -> None:
    async with connect("rediss+sentinel://127.0.0.1:1/main?ssl_ca_certs=/ca.pem") as redis:
        assert isinstance(redis._make_connection(b""), SSLConnection)
        assert redis._sentinel is not None
        [sentinel] = redis._sentinel.sentinels
        assert issubclass(sentinel.connection_pool.connection_class, SSLConnection)
        assert sentinel.connection_pool.connection_kwargs["ssl_ca_certs"] == "/ca.pem"


# ---- sentinels


class Master:
    """What a sentinel says of `main`."""

    def __init__(self, port: int, **state: str) -> None:
        self.port = port
        self.state = state

    def __call__(self, args: list[bytes]) -> Any:
        if [arg.upper() for arg in args] != [b"SENTINEL", b"MASTERS"]:
            return Error("ERR unexpected")
        fields = {
            "name": "main",
            "ip": "127.0.0.1",
            "port": str(self.port),
            "flags": "master",
            "num-other-sentinels": "0",
            **self.state,
        }
        return [[text.encode() for pair in fields.items() for text in pair]]


async def test_the_master_is_the_one_the_sentinels_name() -> None:
    async with RespServer(lambda args: "one") as node, RespServer(Master(node.port)) as sentinel:
        down = free_port()
        url = f"redis+sentinel://127.0.0.1:{down},127.0.0.1:{sentinel.port}/main/2"
        async with connect(url) as redis:
            assert (redis.kind, redis.buckets, redis.one_slot) == ("sentinel", 1, True)
            assert await redis.call(b"k", "GET", "k") == b"one"


async def test_after_a_failover_the_new_master_is_asked_for() -> None:
    async with RespServer(lambda args: "one") as old, RespServer(lambda args: "two") as new:
        master = Master(old.port)
        async with (
            RespServer(master) as sentinel,
            connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/main") as redis,
        ):
            assert await redis.call(b"k", "GET", "k") == b"one"
            reader = redis.dedicated(b"k")
            assert await reader.call("XREAD") == b"one"
            master.port = new.port
            old.handler = lambda args: Error("READONLY You can't write against a read only replica.")
            with pytest.raises(StoreUnavailable):
                await redis.call(b"k", "SET", "k", "v")
            await eventually(lambda: redis.reconnects == 1)
            assert await redis.call(b"k", "SET", "k", "v") == b"two"
            old.cut()
            with contextlib.suppress(StoreUnavailable):
                await reader.call("XREAD")
            assert await reader.call("XREAD") == b"two"
            await reader.aclose()


async def test_a_master_that_sentinels_believe_dead_is_not_used() -> None:
    async with RespServer(lambda args: "one") as node:
        master = Master(node.port, flags="master,s_down")
        async with (
            RespServer(master) as sentinel,
            connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/main") as redis,
        ):
            with pytest.raises(StoreUnavailable):
                await redis.call(b"k", "GET", "k")
            assert node.connections == 0


async def test_a_service_no_sentinel_knows_is_unavailable() -> None:
    async with (
        RespServer(Master(1)) as sentinel,
        connect(f"redis+sentinel://127.0.0.1:{sentinel.port}/other") as redis,
    ):
        with pytest.raises(StoreUnavailable):
            await redis.call(b"k", "GET", "k")
