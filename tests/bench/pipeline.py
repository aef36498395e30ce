"""Section `pipeline`: our way from raw message to client, beside a bare answer of the same bytes."""

import contextlib

from tests.bench.dialects import DIALECTS, Dialect
from tests.bench.load import Load
from tests.bench.measure import Child, Cpu
from tests.bench.report import REPEATS, Samples, table
from tests.bench.servers import CHAT, EVENTS

STREAMS = 10
TURNS = 200
WARM_UP = 40
BURST = 20
KINDS = ("pipeline", "starlette", "asgi")


def run() -> None:
    with Load() as load:
        single = _measure(load, CHAT, burst=1)
        burst = _measure(load, CHAT, burst=BURST)
    rows = [
        _row("one by one, us an event", single, limit=2.0),
        _row(f"{BURST} waiting together, us an event", burst, limit=1.0),
    ]
    table(
        f"pipeline: CPU of the server; turns of {EVENTS} events, {STREAMS} streams, ratio of medians",
        ("", "pipeline", "bare Starlette", "bare ASGI", "ratio", "target", "ratio to bare ASGI"),
        rows,
    )
    table(
        "the same for a turn, ms",
        ("", "pipeline", "bare Starlette", "bare ASGI"),
        [_turn_row("one by one", single), _turn_row(f"{BURST} waiting together", burst)],
    )


def protocols() -> None:
    """Section `protocols`: the same in every client protocol."""
    with Load() as load:
        rows = []
        for dialect in DIALECTS.values():
            single = _measure(load, dialect, burst=1)
            burst = _measure(load, dialect, burst=BURST)
            rows.append(_row(f"{dialect.name}, one by one, us an event", single, limit=2.0))
            rows.append(_row(f"{dialect.name}, {BURST} waiting together, us an event", burst, limit=1.0))
    table(
        f"protocols: CPU of the server; turns of {EVENTS} events, {STREAMS} streams, ratio of medians",
        ("", "pipeline", "bare Starlette", "bare ASGI", "ratio", "target", "ratio to bare ASGI"),
        rows,
    )


def _measure(load: Load, dialect: Dialect, *, burst: int) -> Samples:
    samples = Samples()
    with contextlib.ExitStack() as stack:
        servers = {
            kind: stack.enter_context(Child("servers", kind, str(burst), dialect.name, core=1))
            for kind in KINDS
        }
        ports = {kind: server.hear()["port"] for kind, server in servers.items()}
        for repeat in range(REPEATS + 1):
            turns = TURNS if repeat else WARM_UP
            for kind, server in servers.items():
                load.connect(ports[kind], dialect, burst, streams=STREAMS, turns=turns)
                with Cpu(server=server.pid) as cpu:
                    load.go(turns=turns, deltas=turns * EVENTS)
                if repeat:
                    samples.add(kind, cpu.used["server"] / turns / EVENTS / 1000)
    return samples


def _row(name: str, samples: Samples, *, limit: float) -> tuple[str, ...]:
    ours = samples.median("pipeline")
    ratio = ours / samples.median("starlette")
    return (
        name,
        *(samples.text(kind) for kind in KINDS),
        f"{ratio:.2f}",
        f"<= {limit:g}: {'met' if ratio <= limit else 'MISSED'}",
        f"{ours / samples.median('asgi'):.2f}",
    )


def _turn_row(name: str, samples: Samples) -> tuple[str, ...]:
    return name, *(f"{samples.median(kind) * EVENTS / 1000:.2f}" for kind in KINDS)
