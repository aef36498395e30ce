"""Every part of the estate is replaced under load; no client sees a failure that its SDK does not mend."""

import pytest

from tests.rehearsal.fleet import Fleet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_nothing_happens(fleet: Fleet) -> None:
    """What the others are measured against."""
    with fleet.part("nothing") as part:
        fleet.undisturbed(10)
    assert part.bad() == []


@pytest.mark.parametrize("name", ["gw1", "gw2", "gw3"])
def test_a_gateway_is_replaced(fleet: Fleet, name: str) -> None:
    with fleet.part(f"{name} replaced") as part:
        fleet.roll_gateway(name)
    assert part.bad() == []


@pytest.mark.parametrize("name", ["worker1", "worker2"])
def test_a_worker_is_replaced(fleet: Fleet, name: str) -> None:
    with fleet.part(f"{name} replaced") as part:
        fleet.roll_worker(name)
    assert part.bad() == []
