"""Section `tracing`: what it costs a turn to be traced, every one of them, exporter included."""

from tests.bench.lane_servers import EVENTS
from tests.bench.lanes import STREAMED, TURNS, WHOLE, WHOLES, measure
from tests.bench.load import Load
from tests.bench.report import table

KINDS = ("gateway", "traced")
MOST = 0.10
"""Target, for streamed turns: of the CPU without tracing."""


def run() -> None:
    rows = []
    with Load() as load:
        for name, dialect, turns, deltas in (
            (f"streamed, {EVENTS} events one by one", STREAMED[0], TURNS, EVENTS),
            ("whole", WHOLE[0], WHOLES, 1),
        ):
            samples = measure(load, dialect, KINDS, 1e6, turns=turns, deltas=deltas, whole=deltas == 1)
            plain, traced = samples.median("gateway"), samples.median("traced")
            more = traced / plain - 1
            target = f"<= {MOST:.0%}: {'met' if more <= MOST else 'MISSED'}" if deltas > 1 else ""
            rows.append((name, samples.text("gateway", 2), samples.text("traced", 2), f"{more:+.0%}", target))
    table(
        "tracing: CPU of the server for a turn of a Responses client on codex, ms; every turn sampled",
        ("", "off", "on", "more", "target"),
        rows,
    )
