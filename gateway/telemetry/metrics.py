"""What is counted, and how it is written for Prometheus.

Two layers. ChatStats and the reference block keep the names of lingma-openai-gateway, so that its dashboards
and alerts go on working: plain integers, written by hand. TurnMetrics are OpenTelemetry instruments with
labels and histograms. Both are fed once a turn, never for an event. No label holds what a user wrote.

The values are those of this replica; Prometheus sums them. Sums over all replicas are admin/cluster.py's.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from gateway.turn.request import Turn
from gateway.turn.usage import Usage

_DURATION_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_QUEUE_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
_NO_LABELS: Mapping[str, str] = {}
_TTFT_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

GAUGES = frozenset({"in_flight", "queued", "max_in_flight"})
"""Of the reference names, those that can fall."""


class Figures(Protocol):
    """What the engine knows of a turn that is over."""

    @property
    def outcome(self) -> str: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def upstream(self) -> str: ...
    @property
    def ttft_ms(self) -> int | None: ...
    @property
    def duration_ms(self) -> int: ...
    @property
    def failed_attempts(self) -> Sequence[tuple[str, str]]: ...
    @property
    def replayed(self) -> Sequence[tuple[str, str]]: ...
    @property
    def queued_s(self) -> float | None: ...
    @property
    def repairs(self) -> int: ...


class PoolInstance(Protocol):
    """What the pool block needs of an instance."""

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def ready(self) -> bool: ...


class ChatStats:
    """The reference's counters of this replica since it started."""

    __slots__ = ("_completion", "_error", "_non_stream", "_prompt", "_stream", "_success")

    def __init__(self) -> None:
        self._success = self._error = self._stream = self._non_stream = 0
        self._prompt = self._completion = 0

    def record_chat(self, *, stream: bool, success: bool, prompt_tokens: int, completion_tokens: int) -> None:
        """Count one turn. Negative token figures count as none."""
        if success:
            self._success += 1
        else:
            self._error += 1
        if stream:
            self._stream += 1
        else:
            self._non_stream += 1
        if prompt_tokens > 0:
            self._prompt += prompt_tokens
        if completion_tokens > 0:
            self._completion += completion_tokens

    def counters(self) -> dict[str, int]:
        """By reference name without its prefix."""
        return {
            "chat_requests_total": self._success + self._error,
            "chat_requests_success": self._success,
            "chat_requests_error": self._error,
            "chat_stream_requests": self._stream,
            "chat_non_stream_requests": self._non_stream,
            "prompt_tokens_estimated_total": self._prompt,
            "completion_tokens_estimated_total": self._completion,
            "total_tokens_estimated": self._prompt + self._completion,
        }


class TurnMetrics:
    """OpenTelemetry instruments, exposed for Prometheus from a registry of their own.

    What is only counted is counted here and observed when somebody asks: that costs a turn a tenth of what
    the instruments of the SDK would.
    """

    def __init__(self) -> None:
        self._turns: Counter[tuple[str, ...]] = Counter()
        self._tokens: Counter[tuple[str, ...]] = Counter()
        self._failed: Counter[tuple[str, ...]] = Counter()
        self._replayed: Counter[tuple[str, ...]] = Counter()
        self._repairs: Counter[tuple[str, ...]] = Counter()
        self._registry = CollectorRegistry()
        reader = PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=self._registry
        )
        self._provider = MeterProvider(
            metric_readers=[reader], resource=Resource.get_empty(), shutdown_on_exit=False
        )
        meter = self._provider.get_meter("gateway")
        meter.create_observable_counter(
            "gateway.turns",
            [_observed(self._turns, ("dialect", "upstream", "outcome"))],
            description="Turns that ended, by outcome",
        )
        self._duration = meter.create_histogram(
            "gateway.turn.duration",
            unit="s",
            description="From the request to the terminal event",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS_S,
        )
        self._ttft = meter.create_histogram(
            "gateway.turn.time_to_first_token",
            unit="s",
            description="From the request to the first content",
            explicit_bucket_boundaries_advisory=_TTFT_BUCKETS_S,
        )
        self._queued = meter.create_histogram(
            "gateway.turn.queue_wait",
            unit="s",
            description="Until a turn was admitted; the wait for a slot of Lingma comes after",
            explicit_bucket_boundaries_advisory=_QUEUE_BUCKETS_S,
        )
        meter.create_observable_counter(
            "gateway.attempts_failed",
            [_observed(self._failed, ("upstream", "kind"))],
            description="Attempts that failed before content, whether another followed or not, by error",
        )
        meter.create_observable_counter(
            "gateway.replay",
            [_observed(self._replayed, ("upstream", "event"))],
            description="What became of remembered reasoning: injected, missed, kept, forgotten, late",
        )
        meter.create_observable_counter(
            "gateway.grammar_repairs",
            [_observed(self._repairs, ("upstream",))],
            description="Events of upstreams that came where they may not, and were mended",
        )
        meter.create_observable_counter(
            "gateway.tokens",
            [_observed(self._tokens, ("direction", "upstream"))],
            unit="{token}",
            description="Tokens reported or estimated",
        )

    def record(self, turn: Turn, figures: Figures) -> None:
        dialect, upstream, outcome = turn.raw.dialect, figures.upstream, figures.outcome
        self._turns[dialect, upstream, outcome] += 1
        self._duration.record(
            figures.duration_ms / 1000, {"dialect": dialect, "upstream": upstream, "outcome": outcome}
        )
        if figures.ttft_ms is not None:
            self._ttft.record(figures.ttft_ms / 1000, {"dialect": dialect, "upstream": upstream})
        if figures.queued_s is not None:
            self._queued.record(figures.queued_s, _NO_LABELS)
        for failed in figures.failed_attempts:
            self._failed[failed] += 1
        for replayed in figures.replayed:
            self._replayed[replayed] += 1
        if figures.repairs:
            self._repairs[(upstream,)] += figures.repairs
        if (usage := figures.usage) is not None:
            for direction, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if tokens is not None and tokens > 0:
                    self._tokens[direction, upstream] += tokens

    def render(self) -> str:
        return generate_latest(self._registry).decode()

    def close(self) -> None:
        self._provider.shutdown()


def _observed(
    counts: Mapping[tuple[str, ...], int], labels: tuple[str, ...]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [
            Observation(count, dict(zip(labels, values, strict=True))) for values, count in counts.items()
        ]

    return observe


class TurnStatistics:
    """The engine's recorder: every turn that ended, into both layers."""

    def __init__(self) -> None:
        self.chat = ChatStats()
        self.metrics = TurnMetrics()

    def record(self, turn: Turn, figures: Figures) -> None:
        usage = figures.usage
        self.chat.record_chat(
            stream=turn.stream,
            success=figures.outcome == "completed",
            prompt_tokens=(usage.input_tokens or 0) if usage else 0,
            completion_tokens=(usage.output_tokens or 0) if usage else 0,
        )
        self.metrics.record(turn, figures)


def render_reference(
    figures: Mapping[str, int], instances: Iterable[PoolInstance], session_cache: Iterable[str]
) -> str:
    """The reference's block: integers, labels in the order name, idx, a newline at the end.

    `figures` by reference name without `gateway_`; `session_cache` as the cache's own lines.
    """
    lines: list[str] = []
    for name, value in figures.items():
        lines += _single(name, value)
    pool = list(instances)
    if pool:
        lines += _pool("in_flight", ((i, i.in_flight) for i in pool))
        lines += _pool("ready", ((i, int(i.ready)) for i in pool))
    lines += session_cache
    return "\n".join(lines) + "\n"


def _single(name: str, value: int) -> list[str]:
    kind = "gauge" if name in GAUGES else "counter"
    return [f"# TYPE gateway_{name} {kind}", f"gateway_{name} {int(value)}"]


def _pool(what: str, rows: Iterable[tuple[PoolInstance, int]]) -> list[str]:
    metric = f"gateway_pool_instance_{what}"
    return [f"# TYPE {metric} gauge"] + [
        f'{metric}{{name="{_escape(instance.name)}",idx="{instance.index}"}} {value}'
        for instance, value in rows
    ]


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
