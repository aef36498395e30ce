import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.kernel.clock import FakeClock
from gateway.store.connect import connect
from gateway.store.kv import KVClient
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_redis import RedisKV
from gateway.store.sealed import SealedKV
from gateway.store.sealing import SealRing
from tests.contract.stores import OpenKV
from tests.support.redis_server import RedisServer

SLOTS = 16384


@pytest.fixture(scope="session")
def _one_node_cluster() -> Iterator[RedisServer]:
    """It refuses commands and scripts that span slots like any other Cluster."""
    with RedisServer("--cluster-enabled", "yes") as server:
        server.command("CLUSTER", "ADDSLOTS", *range(SLOTS))
        deadline = time.monotonic() + 30
        while not _complete(server):
            assert time.monotonic() < deadline, "the cluster does not come up"
            time.sleep(0.05)
        yield server


def _complete(server: RedisServer) -> bool:
    with server.client() as client:
        client.response_callbacks.clear()
        info: bytes = client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
        return b"cluster_state:ok" in info


@pytest.fixture
def cluster_url(_one_node_cluster: RedisServer) -> str:
    """Of a Redis Cluster that is empty."""
    _one_node_cluster.command("FLUSHALL")
    return f"redis+cluster://127.0.0.1:{_one_node_cluster.port}"


@pytest.fixture(params=["memory", "redis", "cluster", "sealed redis"])
async def open_kv(request: pytest.FixtureRequest) -> AsyncIterator[OpenKV]:
    """The store as one replica sees it, another one with every call where replicas exist."""
    if request.param == "memory":
        memory = MemoryKV(FakeClock())
        yield lambda: memory
        return
    kind = request.param.removeprefix("sealed ")
    url: str = request.getfixturevalue(f"{kind}_url")
    ring = SealRing([("k", b"k" * 32)])
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connect(url)) for _ in range(3)]
        for connection in connections:
            await connection.wait_connected(5)
        replicas = itertools.cycle(map(RedisKV, connections))

        def open_one() -> KVClient:
            kv = next(replicas)
            return SealedKV(kv, ring) if kind != request.param else kv

        yield open_one


@pytest.fixture
def kv(open_kv: OpenKV) -> KVClient:
    return open_kv()
