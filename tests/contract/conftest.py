import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.kernel.clock import Clock, FakeClock, SystemClock
from gateway.sessions.store import SessionCache, SessionLimits
from gateway.sessions.store_memory import MemorySessionCache
from gateway.sessions.store_redis import RedisSessionCache
from gateway.store.connect import connect
from gateway.store.keys import Keys
from gateway.store.kv import KVClient
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_redis import RedisKV
from gateway.store.sealed import SealedKV
from gateway.store.sealed_streams import SealedStreams, SealedTurnLog
from gateway.store.sealing import SealRing
from gateway.store.streams import Streams
from gateway.store.turnlog import TurnLog
from tests.contract.session_caches import Open, limits
from tests.contract.stores import OpenKV, redis_store
from tests.contract.turn_logs import RING, Backend, memory_backend
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


# -- sessions ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "redis", "cluster"])
async def open_cache(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Makes a cache; a second one is another replica's where that is possible, else the same."""
    made: list[SessionCache] = []
    if request.param == "memory":

        def in_memory(limits: SessionLimits, clock: Clock) -> SessionCache:
            made.append(made[0] if made else MemorySessionCache(limits, clock))
            return made[-1]

        yield in_memory
        return
    url: str = request.getfixturevalue(f"{request.param}_url")
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(connect(url)) for _ in range(2)]
        for connection in connections:
            await connection.wait_connected(5)

        def on_redis(limits: SessionLimits, clock: Clock) -> SessionCache:
            redis = connections[len(made) % len(connections)]
            made.append(RedisSessionCache(redis, Keys(buckets=redis.buckets), limits, clock))
            return made[-1]

        yield on_redis


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cache(open_cache: Open, clock: FakeClock) -> SessionCache:
    return open_cache(limits(), clock)


# -- turns ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "redis", "cluster", "sealed redis"])
async def turn_backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    if request.param != "memory":
        async with redis_store(request, request.param.removeprefix("sealed ")) as store:
            turns: TurnLog = store.turns
            streams: Streams = store.streams
            if request.param.startswith("sealed"):
                turns = SealedTurnLog(turns, RING, store.keys)
                streams = SealedStreams(streams, RING)
            yield Backend(turns, streams, store.kv, store.keys, store.ttl_s)
        return
    yield memory_backend(SystemClock())


@pytest.fixture
def turns(turn_backend: Backend) -> TurnLog:
    return turn_backend.turns
