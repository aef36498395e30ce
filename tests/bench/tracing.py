"""Section `tracing`: what it costs a turn to be traced, every one of them, exporter included."""

import contextlib

from tests.bench.dialects import Dialect
from tests.bench.lane_servers import EVENTS
from tests.bench.lanes import STREAMED, STREAMS, TURNS, WARM_UP, WHOLE, WHOLES
from tests.bench.load import Load
from tests.bench.measure import Child, Cpu
from tests.bench.report import REPEATS, Samples, table

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
            samples = _measure(load, dialect, turns=turns, deltas=deltas, whole=deltas == 1)
            plain, traced = samples.median("gateway"), samples.median("traced")
            more = traced / plain - 1
            target = f"<= {MOST:.0%}: {'met' if more <= MOST else 'MISSED'}" if deltas > 1 else ""
            rows.append((name, samples.text("gateway", 2), samples.text("traced", 2), f"{more:+.0%}", target))
    table(
        "tracing: CPU of the server for a turn of a Responses client on codex, ms; every turn sampled",
        ("", "off", "on", "more", "target"),
        rows,
    )


def _measure(load: Load, dialect: Dialect, *, turns: int, deltas: int, whole: bool) -> Samples:
    samples = Samples()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Child("lane_servers", "mock", "1", core=0)).hear()["port"]
        servers = {
            kind: stack.enter_context(Child("lane_servers", kind, str(upstream), core=1)) for kind in KINDS
        }
        ports = {kind: server.hear()["port"] for kind, server in servers.items()}
        for repeat in range(REPEATS + 1):
            number = turns if repeat else WARM_UP
            for kind, server in servers.items():
                load.connect(ports[kind], dialect, 1, streams=STREAMS, turns=number, whole=whole)
                with Cpu(server=server.pid) as cpu:
                    load.go(turns=number, deltas=number * deltas)
                if repeat:
                    samples.add(kind, cpu.used["server"] / number / 1e6)
    return samples
