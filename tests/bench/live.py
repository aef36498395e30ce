"""Sections `busy`, `sparse`, `ttft` and `memory`: real `serve` and `work` processes, Redis and the simulator.

Measured is the CPU of each process over whole runs, hence with everything a turn needs: HTTP, parsing,
placement, leases, heartbeats, logs. The load generator and the simulator are processes of their own and not
counted.
"""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.bench.direct import first_content_ms
from tests.bench.load import Load
from tests.bench.measure import Child, Cpu, NotMeasured
from tests.bench.report import REPEATS, Samples, repeated, table, verdict
from tests.bench.servers import CHAT, EVENTS, raw_messages
from tests.support.processes import Service, pool_ready, serve, work
from tests.support.redis_server import RedisServer
from workers.lingma.discovery import INFO_TEXT, read_info

SLOTS = 640
"""Twice what runs: a turn's slot is freed a little after its client has seen the end."""
KEEPALIVE_S = 10.0


class Fleet(NamedTuple):
    gateway: Service
    worker: Service
    redis_pid: int
    load: Load
    work_dir: Path
    """Of the only simulator."""

    def knobs(self, **knobs: Any) -> None:
        """How the simulator answers from now on."""
        (self.work_dir / "sim.json").write_text(json.dumps(knobs))

    @property
    def simulator_port(self) -> int:
        info = read_info(self.work_dir / INFO_TEXT)
        if info is None:
            raise NotMeasured("the simulator does not say where it listens")
        return info.port

    def cpu(self) -> Cpu:
        return Cpu(gateway=self.gateway.pid, worker=self.worker.pid, redis=self.redis_pid)

    def run(self, *, streams: int, turns: int, events: int, over_s: float = 0.0) -> dict[str, Any]:
        """One run; the answer of the load generator with the CPU used, by process."""
        self.load.connect(self.gateway.port, CHAT, 1, streams=streams, turns=turns, over_s=over_s)
        with self.cpu() as cpu:
            answer = self.load.go(turns=turns, deltas=turns * events)
        return answer | {"cpu": cpu.used}


@contextlib.contextmanager
def fleet(**env: str) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        redis = stack.enter_context(RedisServer())
        slots = {"LINGMA_INSTANCE_MAX_IN_FLIGHT": str(SLOTS), "GATEWAY_QUEUE_MAX": str(SLOTS)}
        worker = stack.enter_context(work(directory, redis.url, **slots, **env))
        gateway = stack.enter_context(serve(directory, redis.url, **slots, **env))
        gateway.ready("/healthz", pool_ready(1))
        load = stack.enter_context(Load(core=None))
        redis_pid = redis.command("INFO", "server")["process_id"]
        yield Fleet(gateway, worker, redis_pid, load, _work_dir(worker))


def _work_dir(worker: Service) -> Path:
    """Where the only simulator below that worker lives."""
    return next(worker.directory.rglob(".lock")).parent


# -- busy -------------------------------------------------------------------------------------------------

BUSY_STREAMS = 300
GATEWAY_MS = 5.0
WORKER_MS = 12.0
BUSY_SHAPES = (
    ("as fast as it goes, 8 deltas a message", 3, {"delta_gap_ms": 0, "burst": 8}),
    ("as fast as it goes, a delta a message", 3, {"delta_gap_ms": 0, "burst": 1}),
    ("a delta every 40 ms", 1, {"delta_gap_ms": 40, "burst": 1}),
)
"""Name, turns of each stream, knobs of the simulator."""


def busy() -> None:
    rows = []
    with fleet() as live:
        for name, each, knobs in BUSY_SHAPES:
            live.knobs(tokens=EVENTS, ttft_ms=0, record=False, **knobs)
            live.run(streams=BUSY_STREAMS, turns=BUSY_STREAMS, events=EVENTS)
            samples = repeated(lambda found, n=each * BUSY_STREAMS: _busy(found, live, n))
            gateway, worker = samples.median("gateway"), samples.median("worker")
            rows.append(
                (
                    name,
                    samples.text("gateway", 2),
                    verdict(gateway, GATEWAY_MS),
                    samples.text("worker", 2),
                    verdict(worker, WORKER_MS),
                    samples.text("redis", 2),
                    f"{samples.median('rate'):.0f}",
                )
            )
    table(
        f"busy: {BUSY_STREAMS} streams at once; CPU for a turn of {EVENTS} events, ms",
        ("", "gateway", "target", "worker", "target", "redis", "events a second"),
        rows,
    )


def _busy(samples: Samples, live: Fleet, turns: int) -> None:
    answer = live.run(streams=BUSY_STREAMS, turns=turns, events=EVENTS)
    for name, used_ns in answer["cpu"].items():
        samples.add(name, used_ns / turns / 1e6)
    samples.add("rate", turns * EVENTS / answer["wall_s"])


# -- sparse -----------------------------------------------------------------------------------------------

SPARSE_STREAMS = 32
SPARSE_EVENTS = 100
SPARSE_GAP_MS = 50
PROCESSES = ("worker", "gateway", "redis")
EARLIER_US = {"worker": 185, "gateway": 147, "redis": 79}
"""Measured earlier, on another machine, for unbatched fan-out (a stream a request, one XREAD over all of
them) with the same client library."""


def sparse() -> None:
    bare = repeated(_fan_out)
    with fleet() as live:
        live.knobs(tokens=SPARSE_EVENTS, ttft_ms=10, delta_gap_ms=SPARSE_GAP_MS, record=False)
        live.run(streams=SPARSE_STREAMS, turns=SPARSE_STREAMS, events=SPARSE_EVENTS, over_s=1.0)
        ours = repeated(lambda found: _sparse(found, live))
    rows = []
    for name in PROCESSES:
        now, here, earlier = ours.median(name), bare.median(name), EARLIER_US[name]
        aim = verdict(now, earlier / 2, " us")
        rows.append((name, ours.text(name, 0), bare.text(name, 0), f"{now / here:.2f}", str(earlier), aim))
    table(
        f"sparse: {SPARSE_STREAMS} streams of {1000 // SPARSE_GAP_MS} events a second; CPU for one event, us",
        ("", "whole turns", "bare fan-out here", "ratio", "bare fan-out earlier", "half of it"),
        rows,
    )


def _sparse(samples: Samples, live: Fleet) -> None:
    answer = live.run(streams=SPARSE_STREAMS, turns=SPARSE_STREAMS, events=SPARSE_EVENTS, over_s=1.0)
    for name, used_ns in answer["cpu"].items():
        samples.add(name, used_ns / SPARSE_STREAMS / SPARSE_EVENTS / 1000)


def _fan_out(samples: Samples) -> None:
    """The yardstick: see fanout.py. The reader stands for the gateway."""
    with RedisServer() as redis, Child("fanout", "writer") as writer, Child("fanout", "reader") as reader:
        shape = {"url": redis.url, "streams": SPARSE_STREAMS, "events": SPARSE_EVENTS}
        reader.ask(**shape)
        redis_pid = redis.command("INFO", "server")["process_id"]
        with Cpu(worker=writer.pid, gateway=reader.pid, redis=redis_pid) as cpu:
            writer.ask(**shape, gap_s=SPARSE_GAP_MS / 1000, size=len(raw_messages()[0]))
            writer.hear()
            reader.hear()
    for name, used_ns in cpu.used.items():
        samples.add(name, used_ns / SPARSE_STREAMS / SPARSE_EVENTS / 1000)


# -- time to the first token ------------------------------------------------------------------------------

TTFT_MS = 30.0
TTFT_TARGET_MS = 5.0
TTFT_SHAPES = (
    ("one alone", 1, 40, 1, 0.0),
    ("32 running, one more every 40 ms", 32, 96, 25, 1.28),
    ("32 in the same millisecond", 32, 32, 25, 0.0),
)
"""Name, streams, turns, events of a turn, seconds over which they begin."""


def ttft() -> None:
    rows = []
    with fleet() as live:
        for name, streams, turns, events, over_s in TTFT_SHAPES:
            live.knobs(tokens=events, ttft_ms=TTFT_MS, delta_gap_ms=SPARSE_GAP_MS, record=False)
            live.run(streams=streams, turns=streams, events=events)
            samples = Samples()
            for _ in range(REPEATS):
                own = sorted(
                    first_content_ms(live.simulator_port, streams=streams, turns=turns, over_s=over_s)
                )
                answer = live.run(streams=streams, turns=turns, events=events, over_s=over_s)
                whole = sorted(answer["first_ms"])
                for at in (50, 99):
                    samples.add(f"own p{at}", _percentile(own, at))
                    samples.add(f"added p{at}", _percentile(whole, at) - _percentile(own, at))
            rows.append(
                (
                    name,
                    samples.text("own p50"),
                    samples.text("added p50"),
                    verdict(samples.median("added p50"), TTFT_TARGET_MS, " ms"),
                    samples.text("added p99"),
                )
            )
    table(
        f"ttft: time to the first content, ms; the simulator waits {TTFT_MS:g} before it speaks",
        ("", "simulator asked directly, p50", "added, p50", "target", "added, p99"),
        rows,
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


# -- memory -----------------------------------------------------------------------------------------------

SILENT_STREAMS = 300
IDLE_MB = 110.0
STREAM_KB = 60.0


def memory() -> None:
    samples = Samples()
    for _ in range(2):
        with fleet() as live:
            _memory(samples, live)
    rows = [
        ("idle gateway, RSS, MB", samples.text("idle_rss"), verdict(samples.median("idle_rss"), IDLE_MB)),
        ("idle gateway, USS, MB", samples.text("idle_uss"), ""),
        ("idle worker, RSS, MB (without Lingma)", samples.text("worker_rss"), ""),
        (
            f"each of {SILENT_STREAMS} silent streams, RSS, kB",
            samples.text("stream_rss"),
            verdict(samples.median("stream_rss"), STREAM_KB),
        ),
        (f"each of {SILENT_STREAMS} silent streams, USS, kB", samples.text("stream_uss"), ""),
        ("each of them in the worker, RSS, kB", samples.text("worker_stream_rss"), ""),
    ]
    table("memory", ("", "measured", "target"), rows)


def _memory(samples: Samples, live: Fleet) -> None:
    """Streams that have begun and say nothing, once their keep-alives flow."""
    live.knobs(tokens=8, ttft_ms=0, delta_gap_ms=0, record=False)
    live.run(streams=1, turns=3, events=8)
    before, worker_before = _held(live.gateway.pid), _held(live.worker.pid)
    samples.add("idle_rss", before["rss"] / 1e6)
    samples.add("idle_uss", before["uss"] / 1e6)
    samples.add("worker_rss", worker_before["rss"] / 1e6)
    live.knobs(tokens=EVENTS, ttft_ms=0, delta_gap_ms=0, fail="hang_after_n", fail_after=2, record=False)
    live.load.connect(live.gateway.port, CHAT, 1, streams=SILENT_STREAMS)
    live.load.ask(hold=True)
    time.sleep(KEEPALIVE_S + 2)
    if _open_streams(live.gateway) < SILENT_STREAMS:
        raise NotMeasured("streams have ended that should be open")
    now, worker_now = _held(live.gateway.pid), _held(live.worker.pid)
    live.load.ask(release=True)
    for name in ("rss", "uss"):
        samples.add(f"stream_{name}", (now[name] - before[name]) / SILENT_STREAMS / 1e3)
    samples.add("worker_stream_rss", (worker_now["rss"] - worker_before["rss"]) / SILENT_STREAMS / 1e3)


def _held(pid: int) -> Mapping[str, int]:
    found = psutil.Process(pid).memory_full_info()
    return {"rss": found.rss, "uss": found.uss}


def _open_streams(gateway: Service) -> int:
    connections = psutil.Process(gateway.pid).net_connections("tcp")
    return sum(1 for c in connections if c.laddr.port == gateway.port and c.status == psutil.CONN_ESTABLISHED)
