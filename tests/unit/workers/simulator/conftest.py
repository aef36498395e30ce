"""One simulator process per test module: knobs are reset before each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.unit.workers.simulator.harness import Client, Simulator, client, simulator


@pytest.fixture(scope="module")
def shared_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("lingma")) as sim:
        yield sim


@pytest.fixture
def sim(shared_process: Simulator) -> Simulator:
    shared_process.turn()
    return shared_process


@pytest.fixture
async def peer(sim: Simulator) -> AsyncIterator[Client]:
    async with client(sim) as speaker:
        yield speaker


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    return tmp_path / "lingma"
