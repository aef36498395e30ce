"""One live gateway for the whole module: `lingma-gateway up` with the bundled simulator."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Service, pool_ready, up


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("up")
    with up(directory) as service:
        yield service.ready("/healthz", pool_ready(1))
