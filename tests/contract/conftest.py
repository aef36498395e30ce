import time
from collections.abc import Iterator

import pytest

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
