"""Section `lanes`: a client of an upstream's own dialect through the gateway, beside a bare pass-through."""

import contextlib
from collections.abc import Sequence

from tests.bench.dialects import DIALECTS, Dialect
from tests.bench.lane_servers import EVENTS, TEXT
from tests.bench.load import Load
from tests.bench.measure import Child, Cpu
from tests.bench.report import Samples, table

STREAMS = 10
ROUNDS = 30
"""Short ones, in which the servers are asked in turn: what else a machine does comes and goes."""
TURNS = 20
WHOLES = 150
WARM_UP = 40
KINDS = ("gateway", "passthrough")
FORGETFUL = "forgetful"
"""Without replay, in which Gemini's clients take part: what it costs to remember and to look."""

STREAMED_SHARE = 0.60
WHOLE_SHARE = 0.65
"""Targets: of the events and requests a second and core that the pass-through reaches."""

_RESPONSES = DIALECTS["responses"]
_GEMINI = DIALECTS["gemini"]
_CONTENTS = _GEMINI.body(1)

STREAMED = (
    _RESPONSES._replace(
        name="responses on codex",
        body=lambda burst: {"model": "lane", "stream": True, "input": "say something"},
        delta='"type":"response.output_text.delta"',
        end='"total_tokens":209}',
    ),
    _GEMINI._replace(
        name="gemini on antigravity",
        path=lambda burst: "/v1beta/models/gemini-lane:streamGenerateContent?alt=sse",
    ),
)
WHOLE = (
    _RESPONSES._replace(
        name="responses on codex",
        body=lambda burst: {"model": "lane", "input": "say something"},
        delta='"object":"response"',
        end='"total_tokens":209}}',
    ),
    _GEMINI._replace(
        name="gemini on antigravity",
        path=lambda burst: "/v1beta/models/gemini-lane:generateContent",
        delta='"candidates":[',
        end='"totalTokenCount":209}}',
    ),
)
SECOND = WHOLE[1]._replace(
    path=lambda burst: "/v1beta/models/gemini-lane-signed:generateContent",
    body=lambda burst: {
        "contents": [
            {"role": "user", "parts": [{"text": "say something"}]},
            {"role": "model", "parts": [{"text": TEXT * EVENTS}]},
            {"role": "user", "parts": [{"text": "say it again"}]},
        ]
    },
)
"""A second turn: the signature of the first answer is put back, that of the second is remembered with it. One
connection, for turns of one conversation come one after the other.
"""


def run() -> None:
    rows = []
    with Load() as load:
        for burst in (1, 20):
            for dialect in STREAMED:
                samples = measure(load, dialect, KINDS, 1e3, burst=burst, turns=TURNS, deltas=EVENTS)
                name = f"{dialect.name}, streamed, {burst} in a write, us an event"
                rows.append(_row(name, samples, EVENTS, STREAMED_SHARE))
        for dialect in WHOLE:
            samples = measure(load, dialect, KINDS, 1e3, turns=WHOLES, deltas=1, whole=True)
            rows.append(_row(f"{dialect.name}, whole, us a request", samples, 1, WHOLE_SHARE))
        samples = measure(load, WHOLE[1], (FORGETFUL, KINDS[1]), 1e3, turns=WHOLES, deltas=1, whole=True)
        rows.append(_row(f"{WHOLE[1].name}, whole, replay off", samples, 1, WHOLE_SHARE, FORGETFUL))
        samples = measure(load, SECOND, KINDS, 1e3, turns=WHOLES, deltas=1, whole=True, streams=1)
        rows.append(_row(f"{SECOND.name}, whole, a second turn that replays", samples, 1, None))
    table(
        f"lanes: CPU of the server, medians of {ROUNDS} rounds; streams have {EVENTS} events",
        ("", "gateway", "pass-through", "share", "target"),
        rows,
    )


def measure(
    load: Load,
    dialect: Dialect,
    kinds: Sequence[str],
    unit_ns: float,
    *,
    burst: int = 1,
    turns: int,
    deltas: int,
    whole: bool = False,
    streams: int = STREAMS,
) -> Samples:
    """CPU of one turn for each kind of server, in units of `unit_ns`."""
    samples = Samples()
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(Child("lane_servers", "mock", str(burst), core=0)).hear()["port"]
        servers = {
            kind: stack.enter_context(Child("lane_servers", kind, str(upstream), core=1)) for kind in kinds
        }
        ports = {kind: server.hear()["port"] for kind, server in servers.items()}
        for repeat in range(ROUNDS + 1):
            number = turns if repeat else WARM_UP
            for kind, server in servers.items():
                load.connect(ports[kind], dialect, burst, streams=streams, turns=number, whole=whole)
                with Cpu(server=server.pid) as cpu:
                    load.go(turns=number, deltas=number * deltas)
                if repeat:
                    samples.add(kind, cpu.used["server"] / number / unit_ns)
    return samples


def _row(
    name: str, samples: Samples, events: int, target: float | None, kind: str = "gateway"
) -> tuple[str, ...]:
    """CPU of one core is its capacity: half the CPU is twice as much a second."""
    ours, bare = samples.median(kind), samples.median("passthrough")
    share = bare / ours
    met = "" if target is None else f">= {target:.0%}: {'met' if share >= target else 'MISSED'}"
    return (name, f"{ours / events:.1f}", f"{bare / events:.1f}", f"{share:.0%}", met)
