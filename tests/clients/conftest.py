"""A live gateway for each test process: `lingma-gateway up` with the bundled simulator."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Service, pool_ready, up, wait_for


class Gateway:
    """A running `up`, and what it has logged since a test began to look."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.url = service.url
        self.port = service.port
        self._from = 0

    def look(self) -> "Gateway":
        """Forget what was before."""
        self._from = len(self._service.log)
        return self

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = self._service.log[self._from :].splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        return [record for record in records if record["event"] == event]

    def turns(self, count: int) -> list[dict[str, Any]]:
        """The turns that ended since look(): so many, no more and none refused. All its clients are gone."""
        wait_for(lambda: len(self.logged("turn.finished")) >= count, f"{count} turns")
        finished, refused = self.logged("turn.finished"), self.logged("http.refused")
        assert len(self.logged("turn.accepted")) == len(finished) == count, finished
        assert refused == []
        return finished


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("up")
    with up(directory, KEEPALIVE_S="0.3", FIRST_BYTE_HOLD_S="0.3", METRICS_PUBLIC="true") as service:
        yield service.ready("/healthz", pool_ready(1))


@pytest.fixture(scope="session")
def plain_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Without WebSockets."""
    directory: Path = tmp_path_factory.mktemp("plain")
    with up(directory, RESPONSES_WEBSOCKET_ENABLED="false") as service:
        yield service.ready("/healthz", pool_ready(1))


@pytest.fixture
def plain_gateway(plain_service: Service) -> Gateway:
    return Gateway(plain_service).look()


@pytest.fixture
def gateway(service: Service) -> Gateway:
    return Gateway(service).look()
