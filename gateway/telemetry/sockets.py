"""What is counted of WebSockets. Plain integers: one event loop, no locks; told when somebody asks.

Turns on them are counted like all others, by telemetry/metrics.py. Registered by the composition root of a
replica.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Kind = Literal["create", "prewarm", "processed", "refused"]
Why = Literal["client", "age", "drain", "chain", "stalled", "flood"]


class SocketCounts(Collector):
    def __init__(self) -> None:
        self.open = 0
        self.remembered_bytes: Callable[[], int] = lambda: 0
        """Whoever remembers says how much."""
        self.messages: Counter[Kind] = Counter()
        self.closed: Counter[Why] = Counter()

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("gateway_websockets_open", "WebSockets of clients, idle or not", self.open)
        yield GaugeMetricFamily(
            "gateway_websockets_remembered_bytes",
            "Of the conversations that WebSockets can go on with",
            self.remembered_bytes(),
        )
        messages = CounterMetricFamily(
            "gateway_websocket_messages",
            "Messages of clients by what they are: create, prewarm, processed, refused",
            labels=("kind",),
        )
        for kind, count in self.messages.items():
            messages.add_metric((kind,), count)
        yield messages
        closed = CounterMetricFamily(
            "gateway_websockets_closed",
            "WebSockets that ended, by reason: client, age, drain, chain (another response was meant), "
            "stalled, flood",
            labels=("reason",),
        )
        for why, count in self.closed.items():
            closed.add_metric((why,), count)
        yield closed
