"""Whether a replica can use its store, for a scraper: with turns or without, for balancers send none to a
replica that is not ready, and somebody must be told all the same. Not what the hub sees while turns wait,
which is gateway_hub_down in jobs/stats.py. Registered by the composition root of a replica; it says what
readiness says.
"""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Away(Protocol):
    @property
    def told(self) -> bool: ...


class Writes(Protocol):
    @property
    def refusal(self) -> str | None: ...


class StoreCollector(Collector):
    """The store's figure, for a registry."""

    def __init__(self, outage: Away, watch: Writes) -> None:
        self._outage = outage
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        down = self._outage.told or self._watch.refusal is not None
        yield GaugeMetricFamily(
            "gateway_store_down",
            "1 while the store is away or takes no writes, so that this replica is not ready",
            int(down),
        )
