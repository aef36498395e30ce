"""Two replicas and two workers over one Redis, as processes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Service, asks_of, pool_ready, serve, work
from tests.support.redis_server import RedisServer


class Fleet:
    """What a test kills, cuts and drains. Everything ends with the test."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.directory = directory
        self.redis = redis
        self.replicas: list[Service] = []
        self.workers: list[Service] = []
        self._stack = contextlib.ExitStack()

    def start(self, *, replicas: int = 2, workers: int = 2, **env: str) -> "Fleet":
        for number in range(workers):
            service = work(self.directory, self.redis.url, f"w{number}", **env)
            self.workers.append(self._stack.enter_context(service))
        for number in range(replicas):
            service = serve(self.directory, self.redis.url, f"g{number}", **env)
            self.replicas.append(self._stack.enter_context(service))
        instances = int(env.get("LINGMA_INSTANCE_COUNT", "1")) * workers
        for replica in self.replicas:
            replica.ready("/healthz", pool_ready(instances))
        return self

    def asks(self) -> list[dict[str, object]]:
        return asks_of(self.directory)

    def slots_used(self) -> int:
        """Live members of every slot set, as the store has them."""
        keys = self.redis.command("KEYS", "lg:v1:worker:*:slots:*")
        now_s, micros = self.redis.command("TIME")
        now_ms = int(now_s) * 1000 + int(micros) // 1000
        return sum(int(self.redis.command("ZCOUNT", key, now_ms, "+inf")) for key in keys)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with RedisServer() as redis:
        fleet = Fleet(tmp_path, redis)
        try:
            yield fleet
        finally:
            fleet.close()
