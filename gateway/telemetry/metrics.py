"""What is counted, and how it is written for Prometheus.

Two layers. ChatStats and the reference block keep the names of lingma-openai-gateway, so that its dashboards
and alerts go on working: plain integers, written by hand. TurnMetrics have labels and histograms
(counts.py). Both are fed once a turn, never for an event. No label holds what a user wrote.

The values are those of this replica; Prometheus sums them. Sums over all replicas are admin/cluster.py's.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from gateway.telemetry.counts import Counts, Distribution
from gateway.telemetry.exposition import Format
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.usage import Usage

disable_created_metrics()  # type: ignore[no-untyped-call]
"""One more series for each histogram and its labels, for which nobody asks."""

_DURATION_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_QUEUE_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
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
    @property
    def losses(self) -> Sequence[Loss]: ...
    @property
    def exemplar(self) -> dict[str, str] | None: ...


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
    """Counted here, told through a registry of their own.

    A bucket of a histogram names the trace of the last sampled turn that fell into it.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._turns = Counts(
            "gateway_turns", "Turns that ended, by outcome", ("dialect", "upstream", "outcome"), registry
        )
        self._duration = Distribution(
            "gateway_turn_duration_seconds",
            "From the request to the terminal event",
            ("dialect", "upstream", "outcome"),
            _DURATION_BUCKETS_S,
            registry,
        )
        self._ttft = Distribution(
            "gateway_turn_time_to_first_token_seconds",
            "From the request to the first content",
            ("dialect", "upstream"),
            _TTFT_BUCKETS_S,
            registry,
        )
        self._queued = Distribution(
            "gateway_turn_queue_wait_seconds",
            "Until a turn was admitted; the wait for a slot of Lingma comes after",
            (),
            _QUEUE_BUCKETS_S,
            registry,
        )
        self._failed = Counts(
            "gateway_attempts_failed",
            "Attempts that failed before content, whether another followed or not, by error",
            ("upstream", "kind"),
            registry,
        )
        self._replayed = Counts(
            "gateway_replay",
            "What became of past reasoning: injected, missed, kept, forgotten, dropped, late",
            ("upstream", "event"),
            registry,
        )
        self._repairs = Counts(
            "gateway_grammar_repairs",
            "Events of upstreams that came where they may not, and were mended",
            ("upstream",),
            registry,
        )
        self._losses = Counts(
            "gateway_losses",
            "Turns that lost something, once for each reason of losses.md",
            ("upstream", "reason"),
            registry,
        )
        self._tokens = Counts(
            "gateway_tokens", "Tokens reported or estimated", ("direction", "upstream"), registry
        )

    def record(self, turn: Turn, figures: Figures) -> None:
        dialect, upstream, outcome = turn.raw.dialect, figures.upstream, figures.outcome
        exemplar = figures.exemplar
        self._turns.of[dialect, upstream, outcome] += 1
        self._duration.observe((dialect, upstream, outcome), figures.duration_ms / 1000, exemplar)
        if (ttft_ms := figures.ttft_ms) is not None:
            self._ttft.observe((dialect, upstream), ttft_ms / 1000, exemplar)
        if figures.queued_s is not None:
            self._queued.observe((), figures.queued_s, exemplar)
        for failed in figures.failed_attempts:
            self._failed.of[failed] += 1
        for replayed in figures.replayed:
            self._replayed.of[replayed] += 1
        if figures.repairs:
            self._repairs.of[(upstream,)] += figures.repairs
        for reason in {loss.reason for loss in figures.losses}:
            self._losses.of[upstream, reason] += 1
        if (usage := figures.usage) is not None:
            for direction, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
                if tokens is not None and tokens > 0:
                    self._tokens.of[direction, upstream] += tokens

    def render(self, form: Format) -> str:
        generate = generate_openmetrics if form is Format.OPENMETRICS else generate_latest
        return generate(self.registry).decode()


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
