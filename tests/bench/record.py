"""Section `record`: what it costs a turn to be counted, with a trace to name and without, and a scrape."""

import time

from gateway.engine.observers import TurnFigures
from gateway.kernel.ids import TurnId
from gateway.telemetry.exposition import Format
from gateway.telemetry.metrics import TurnStatistics
from gateway.turn.request import RawRequest, Turn
from gateway.turn.usage import Usage
from tests.bench.measure import pinned
from tests.bench.report import Samples, repeated, table

TURNS = 50_000
SCRAPES = 200
SPREAD_S = (0.2, 1.5, 8.0, 40.0)
"""Durations in turn, so that several buckets are in use."""
TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}


def run() -> None:
    with pinned(1):
        samples = repeated(_measure)
    rows = [
        ("a turn, not sampled", samples.text("plain", 2)),
        ("a turn, sampled", samples.text("sampled", 2)),
        ("a scrape in plain text", samples.text("text", 0)),
        ("a scrape in OpenMetrics", samples.text("openmetrics", 0)),
    ]
    table("record: CPU of counting a turn and of the histograms' part of a scrape, us", ("", "us"), rows)


def _measure(samples: Samples) -> None:
    turn = Turn(id=TurnId("t"), tenant="-", created_at_ms=0, model="m", items=(), raw=RawRequest("chat", {}))
    statistics = TurnStatistics()
    for name, exemplar in (("plain", None), ("sampled", TRACE)):
        figures = [_figures(seconds, exemplar) for seconds in SPREAD_S]
        began_ns = time.process_time_ns()
        for number in range(TURNS):
            statistics.record(turn, figures[number % len(figures)])
        samples.add(name, (time.process_time_ns() - began_ns) / TURNS / 1000)
    for form in Format:
        began_ns = time.process_time_ns()
        for _ in range(SCRAPES):
            statistics.metrics.render(form)
        samples.add(form.name.lower(), (time.process_time_ns() - began_ns) / SCRAPES / 1000)


def _figures(seconds: float, exemplar: dict[str, str] | None) -> TurnFigures:
    return TurnFigures(
        outcome="completed",
        usage=Usage(input_tokens=9, output_tokens=200),
        upstream="lingma",
        first_content_at=seconds / 4,
        ended_at=seconds,
        queued_s=0.0004,
        exemplar=exemplar,
    )
