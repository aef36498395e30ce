"""One fleet under load for all parts of the rehearsal, and their figures at its end."""

from collections.abc import Iterator

import pytest

from tests.rehearsal.fleet import Fleet, running
from tests.rehearsal.hosts import need_hosts
from tests.rehearsal.records import table


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    need_hosts()
    with running(tmp_path_factory.mktemp("rehearsal")) as fleet:
        fleet.begin_load()
        fleet.settle()
        yield fleet
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\n\n{table(fleet.parts)}\n")
