"""One live gateway for the whole module: `lingma-gateway up` with the bundled simulator, and another one with
Responses upstreams.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.codex_gateway import Opener, Slots, opener, running_slots
from tests.support.processes import Service, pool_ready, up


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("up")
    with up(directory) as service:
        yield service.ready("/healthz", pool_ready(1))


@pytest.fixture(scope="session")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slots]:
    with running_slots(tmp_path_factory.mktemp("codex")) as slots:
        yield slots


@pytest.fixture
def gateway(slots: Slots) -> Opener:
    """Opens it with a Responses upstream that no other test has."""
    return opener(slots)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A gateway with one slot, a short queue and a key."""
    directory: Path = tmp_path_factory.mktemp("narrow")
    settings = {
        "API_KEYS": "good-key",
        "LINGMA_INSTANCE_MAX_IN_FLIGHT": "1",
        "GATEWAY_QUEUE_TIMEOUT_SEC": "0.3",
    }
    with up(directory, **settings) as service:
        yield service.ready("/healthz", pool_ready(1))
