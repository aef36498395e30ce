"""Counters and histograms with labels that cost a turn next to nothing. Called by telemetry/metrics.py.

Plain numbers, without locks: one event loop counts and tells. They become the Prometheus client's families
when somebody asks.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from gateway.kernel.clock import SystemClock

_clock: Final = SystemClock()


class _Family(NamedTuple):
    name: str
    meaning: str
    labels: Sequence[str]


class Counts(Collector):
    def __init__(self, name: str, meaning: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self.of: Counter[tuple[str, ...]] = Counter()
        self._family = _Family(name, meaning, labels)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        name, meaning, labels = self._family
        family = CounterMetricFamily(name, meaning, labels=labels)
        for values, count in self.of.items():
            family.add_metric(values, count)
        yield family


class _Observed:
    """What was seen under the same labels; the last bucket is for what no bound holds."""

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.examples: list[Exemplar | None] = [None] * buckets
        self.sum = 0.0


class Distribution(Collector):
    """A histogram. Each bucket names the last example that fell into it, for OpenMetrics."""

    def __init__(
        self,
        name: str,
        meaning: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        """`bounds`: of the buckets, rising; each holds what equals it. One without labels is told at once."""
        self._family = _Family(name, meaning, labels)
        self._bounds = bounds
        self._names: list[str] = [floatToGoString(bound) for bound in (*bounds, inf)]  # type: ignore[no-untyped-call]
        self._of: defaultdict[tuple[str, ...], _Observed] = defaultdict(lambda: _Observed(len(bounds) + 1))
        if not labels:
            self._of[()]
        registry.register(self)

    def observe(
        self, labels: tuple[str, ...], value: float, example: Mapping[str, str] | None = None
    ) -> None:
        """`example`: labels that name it, such as a trace's id."""
        observed = self._of[labels]
        bucket = bisect_left(self._bounds, value)
        observed.counts[bucket] += 1
        observed.sum += value
        if example is not None:
            observed.examples[bucket] = Exemplar(dict(example), value, _clock.now_ms() / 1000)

    def collect(self) -> Iterable[Metric]:
        name, meaning, labels = self._family
        family = HistogramMetricFamily(name, meaning, labels=labels)
        for values, observed in self._of.items():
            told = zip(self._names, accumulate(observed.counts), observed.examples, strict=True)
            buckets = [(name, count) if last is None else (name, count, last) for name, count, last in told]
            family.add_metric(values, buckets, observed.sum)
        yield family
