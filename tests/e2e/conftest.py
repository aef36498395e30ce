"""Two replicas and two workers over one Redis, as processes."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.fakes.antigravity_server import AntigravityServer
from tests.fakes.codex_server import REASONING_MODEL, CodexServer
from tests.support.edge import serving
from tests.support.house import (
    GEMINI_MODEL,
    GOOGLE_KEYS,
    House,
    Slot,
    antigravity_upstream,
    codex_upstream,
    route,
    write_upstreams,
)
from tests.support.ports import free_port
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

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

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


SLOTS = 100
"""One for each test that takes one, should a process run them all."""


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two replicas for tests that neither kill nor reconfigure them."""
    directory = tmp_path_factory.mktemp("house")
    with contextlib.ExitStack() as stack:
        house = House(directory, stack.enter_context(RedisServer()), slots=SLOTS)
        for name in ("h0", "h1"):
            service = serve(directory, house.redis.url, name, **house.env)
            house.replicas.append(stack.enter_context(service))
        for replica in house.replicas:
            replica.ready("/healthz", pool_ready(0))
        yield house


class CodexSlot:
    """A model that both replicas offer, and the upstream behind it."""

    def __init__(self, house: House, model: str, server: CodexServer) -> None:
        self.house = house
        self.urls = house.urls
        self.model = model
        self.server = server


@pytest.fixture
def slot(house: House) -> Slot:
    return house.slot()


@pytest.fixture
async def codex(house: House, slot: Slot) -> AsyncIterator[CodexSlot]:
    server = CodexServer()
    async with serving(server, port=slot.codex_port):
        yield CodexSlot(house, slot.codex, server)


class GeminiSlot:
    """The same with a Gemini upstream."""

    def __init__(self, house: House, model: str, server: AntigravityServer) -> None:
        self.house = house
        self.urls = house.urls
        self.model = model
        self.server = server


@pytest.fixture
async def gemini(house: House, slot: Slot) -> AsyncIterator[GeminiSlot]:
    """It takes no word that skips the check of signatures."""
    server = AntigravityServer(keys=GOOGLE_KEYS, sentinel=False)
    async with server.running(slot.gemini_port):
        yield GeminiSlot(house, slot.gemini, server)


class Pair:
    """Two strict upstreams for fleets of a test's own: UPSTREAMS_FILE names them.

    Four models: of the one, of the other, and of both with Lingma behind them or before.
    """

    THINKER = "thinker"
    SIGNER = "signer"
    LINGMA_LAST = "lingma-last"
    LINGMA_FIRST = "lingma-first"

    def __init__(self, directory: Path) -> None:
        self.codex, self.codex_port = CodexServer(), free_port()
        self.gemini, self.gemini_port = AntigravityServer(keys=GOOGLE_KEYS, sentinel=False), free_port()
        upstreams = [codex_upstream("c1", self.codex_port), antigravity_upstream("a1", self.gemini_port)]
        codex, lingma = {"upstream": "c1", "model": REASONING_MODEL}, {"upstream": "lingma"}
        gemini = {"upstream": "a1", "model": GEMINI_MODEL}
        routes = [
            route(self.THINKER, codex),
            route(self.SIGNER, gemini),
            route(self.LINGMA_LAST, codex, {**gemini, "rank": 1}, {**lingma, "rank": 2}),
            route(self.LINGMA_FIRST, lingma, {**codex, "rank": 1}),
        ]
        self.file = write_upstreams(directory, upstreams, routes)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    async with serving(pair.codex, port=pair.codex_port), pair.gemini.running(pair.gemini_port):
        yield pair


class Both:
    """A slot with both of its upstreams."""

    def __init__(self, slot: Slot, codex: CodexServer, antigravity: AntigravityServer) -> None:
        self.slot = slot
        self.codex = codex
        self.antigravity = antigravity


@pytest.fixture
async def both(codex: CodexSlot, gemini: GeminiSlot, slot: Slot) -> Both:
    return Both(slot, codex.server, gemini.server)
