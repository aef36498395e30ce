from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.redis_server import RedisServer

# How fast a test draws depends on what else the machine does: no reason to fail.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One for each test process; a test that stops it need not start it again."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Of a server that is running and empty."""
    redis_server.start()
    redis_server.command("FLUSHALL")
    return redis_server.url
