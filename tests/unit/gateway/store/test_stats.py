from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from gateway.store.stats import StoreCollector


class Outage(NamedTuple):
    told: bool = False


class Watch(NamedTuple):
    refusal: str | None = None


@pytest.mark.parametrize(
    ("outage", "watch", "down"),
    [
        (Outage(), Watch(), 0),
        (Outage(told=True), Watch(), 1),
        (Outage(), Watch("the store refuses commands (OOM)"), 1),
    ],
)
def test_a_store_that_cannot_be_used_is_shown_without_any_turn(
    outage: Outage, watch: Watch, down: int
) -> None:
    registry = CollectorRegistry()
    registry.register(StoreCollector(outage, watch))
    assert registry.get_sample_value("gateway_store_down") == down
