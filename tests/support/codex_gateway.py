"""`lingma-gateway up` with a row of Responses upstreams, one for each test: a strict fake on its own port.

Starting the process costs more than most tests; what one test wears out (credentials that rest) no other
meets.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from tests.fakes.codex_server import PLAIN_MODEL, REASONING_MODEL, CodexServer
from tests.support.edge import serving
from tests.support.house import codex_upstream, route, write_upstreams
from tests.support.ports import free_port
from tests.support.processes import Service, pool_ready, up
from tests.support.sdks import Sdks

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"compaction": True},
    "lone": {"credentials": [{"id": "one", "api_key": "sk-one"}]},
    "stream": {"stream_only": True},
}
COUNTS = {"plain": 140, "lone": 50, "stream": 12}


class Slots:
    def __init__(self, service: Service, rows: dict[str, Iterator[tuple[str, int]]]) -> None:
        self.service = service
        self._rows = rows

    def take(self, kind: str) -> tuple[str, int]:
        """Model and port."""
        return next(self._rows[kind])


@contextlib.contextmanager
def running_slots(directory: Path) -> Iterator[Slots]:
    rows: dict[str, list[tuple[str, int]]] = {kind: [] for kind in KINDS}
    upstreams, routes = [], []
    for kind, settings in KINDS.items():
        for number in range(COUNTS[kind]):
            name, port = f"{kind}-{number}", free_port()
            upstreams.append(codex_upstream(name, port) | settings)
            routes.append(route(name, {"upstream": name, "model": REASONING_MODEL}))
            routes.append(route(f"{name}-plain", {"upstream": name, "model": PLAIN_MODEL}))
            rows[kind].append((name, port))
    file = write_upstreams(directory, upstreams, routes)
    with up(directory, UPSTREAMS_FILE=file, FIRST_BYTE_HOLD_S="1", KEEPALIVE_S="1") as service:
        service.ready("/healthz", pool_ready(1))
        yield Slots(service, {kind: iter(row) for kind, row in rows.items()})


class Gateway(Sdks):
    """As one test has it: a model of its own, and the upstream behind that."""

    def __init__(self, url: str, model: str, server: CodexServer) -> None:
        super().__init__(url, model)
        self.server = server

    @property
    def last(self) -> Any:
        return self.server.requests[-1].body


Opener = Callable[..., contextlib.AbstractAsyncContextManager[Gateway]]


def opener(slots: Slots) -> Opener:
    @contextlib.asynccontextmanager
    async def opened(kind: str = "plain", server: CodexServer | None = None) -> AsyncIterator[Gateway]:
        model, port = slots.take(kind)
        server = server or CodexServer()
        async with (
            serving(server, port=port),
            contextlib.aclosing(Gateway(slots.service.url, model, server)) as gate,
        ):
            yield gate

    return opened
