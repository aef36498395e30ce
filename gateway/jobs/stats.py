"""What the hub counts of its reads, and how a scraper is told. Plain numbers: one event loop, no locks.

Nothing is counted for an event, and the lag is observed once a read, however many turns it brought something.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_LAG_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def _lag() -> Histogram:
    return Histogram(
        "gateway_hub_lag_seconds",
        "From a worker's writing to this replica's reading, once a read; between two clocks",
        buckets=_LAG_BUCKETS_S,
        registry=None,
    )


@dataclass(slots=True)
class HubStats:
    """Counters since the process began."""

    reads: int = 0
    """Of those that brought replies."""
    entries: int = 0
    recoveries: int = 0
    lag: Histogram = field(default_factory=_lag)

    def read(self, entries: int) -> None:
        if entries:
            self.reads += 1
            self.entries += entries

    def waited(self, sent_at_ms: int, read_at_ms: int) -> None:
        """A reply of this age was read. Clocks may differ: one from the future has not waited."""
        self.lag.observe(max(0, read_at_ms - sent_at_ms) / 1000)


class HubView(Protocol):
    @property
    def stats(self) -> HubStats: ...
    @property
    def turns(self) -> int: ...
    @property
    def parked(self) -> int: ...
    @property
    def down_since(self) -> float | None: ...


class HubCollector(Collector):
    """The hub's figures, for a registry."""

    def __init__(self, hub: HubView) -> None:
        self._hub = hub

    def collect(self) -> Iterable[Metric]:
        hub, stats = self._hub, self._hub.stats
        yield GaugeMetricFamily("gateway_hub_streams", "Turns whose replies are followed", hub.turns)
        yield GaugeMetricFamily(
            "gateway_hub_parked", "Of these, not read until their slow clients have caught up", hub.parked
        )
        # Without turns nothing is read, and nobody would learn that the store is back.
        down = hub.turns > 0 and hub.down_since is not None
        yield GaugeMetricFamily(
            "gateway_hub_down", "1 while turns wait for a store that does not answer reads", int(down)
        )
        yield CounterMetricFamily(
            "gateway_hub_recoveries", "Times that the store answered reads again", stats.recoveries
        )
        yield CounterMetricFamily("gateway_hub_reads", "Reads that brought replies", stats.reads)
        yield CounterMetricFamily(
            "gateway_hub_entries", "Replies that they brought, of up to 64 frames each", stats.entries
        )
        yield from stats.lag.collect()
