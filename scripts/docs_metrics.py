"""The page of metrics: names, types and labels as a turn makes them appear. Used by render_docs.py.

Metrics without a HELP line get their meaning here; the house test asks for one.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from gateway.admin.routes import GUARD_METRICS
from gateway.jobs.messages import InstanceRecord
from gateway.jobs.stats import HubCollector, HubStats
from gateway.kernel.clock import SystemClock
from gateway.kernel.ids import TurnId
from gateway.sessions.store import SessionLimits
from gateway.sessions.store_memory import MemorySessionCache
from gateway.store.keys import Keys
from gateway.store.outage import Outage
from gateway.store.stats import StoreCollector
from gateway.store.writable import WriteWatch
from gateway.telemetry.exposition import Format
from gateway.telemetry.metrics import TurnStatistics, render_reference
from gateway.telemetry.sockets import SocketCounts
from gateway.turn.losses import Loss
from gateway.turn.request import RawRequest, Turn
from gateway.turn.usage import Usage
from workers.stats import WorkerStats

INTRO = """
`/metrics` is Prometheus text: figures of this replica, to be summed by Prometheus, but for instances and the
session cache, which are the same on every replica. Who may read it: everybody with `METRICS_PUBLIC`, else who
has `METRICS_TOKEN`, else, when that is unset, any client. No label holds what a user wrote. Counters begin
at 0 with the process, but for those of the session cache.
"""
EXEMPLARS = """
A scraper that prefers it in `Accept`, as Prometheus does, gets OpenMetrics 1.0.0. There, names of
lingma-openai-gateway that are counters without `_total` are of type `unknown`; names and values are the same.
Histograms whose name begins with `gateway_turn_` have exemplars there: each bucket tells `trace_id` and
`span_id` of the last turn in it whose trace was sampled. Prometheus keeps them with
`--enable-feature=exemplar-storage`; Grafana leads from them to the trace when the data source has
`exemplarTraceIdDestinations` with the name `trace_id`. Without tracing there are none.
"""
WORKER_INTRO = """
`/metrics` on the port of a worker (`WORKER_PORT`), without a key. `up` has no such port.
"""

MEANING = {
    "gateway_in_flight": "turns running on this replica",
    "gateway_queued": "turns waiting for `GATEWAY_MAX_IN_FLIGHT` or for a slot of Lingma",
    "gateway_accepted_total": "turns let past `GATEWAY_MAX_IN_FLIGHT` and the limit of their key",
    "gateway_rejected_total": "turns turned away for want of room there, or of a slot afterwards",
    "gateway_max_in_flight": "`GATEWAY_MAX_IN_FLIGHT`, of the whole cluster; 0: no limit",
    "gateway_chat_requests_total": "turns that ended, of every protocol",
    "gateway_chat_requests_success": "of these, completed",
    "gateway_chat_requests_error": "of these, failed or cancelled, clients that left included",
    "gateway_chat_stream_requests": "of these, streamed",
    "gateway_chat_non_stream_requests": "of these, answered whole",
    "gateway_prompt_tokens_estimated_total": "tokens read, as reported or else estimated",
    "gateway_completion_tokens_estimated_total": "tokens written, likewise",
    "gateway_total_tokens_estimated": "both",
    "gateway_pool_instance_in_flight": "turns running on an instance, from all replicas",
    "gateway_pool_instance_ready": "1 when it can take turns",
    "gateway_session_cache_size": "conversations that Lingma still holds",
    "gateway_session_cache_hit_total": "turns that continued one",
    "gateway_session_cache_miss_total": "turns that found none and sent their whole history",
    "gateway_session_cache_evict_total": "forgotten for want of room (`SESSION_CACHE_MAX_ENTRIES`)",
    "gateway_session_cache_expire_total": "forgotten by age (`SESSION_CACHE_TTL_SEC`)",
    "gateway_session_cache_invalidate_total": "forgotten because their instance is gone or lost them",
    "worker_turns_total": "attempts by outcome; `fenced`: somebody else had ended the turn",
    "worker_declined_total": "attempts not taken, by reason",
    "worker_dead_letters_total": "commands set aside, by reason: alert on any",
    "worker_loop_restarts_total": "background loops that broke and were begun anew: alert on any",
    "worker_frames_total": "messages of Lingma handed on",
    "worker_frame_batches_total": "writes they went in",
    "worker_frame_bytes_total": "their size",
    "worker_heartbeats_total": "signs of life written while an answer was silent",
    "worker_store_failures_total": "writes of frames that the store did not answer",
    "worker_stops_total": "answers of Lingma that were stopped: clients that left, time limits, shutdown",
    "worker_turns_in_flight": "turns running on this worker",
    "worker_draining": "1 while it takes nothing new",
    "worker_instance_ready": "1 when it can take turns",
    "worker_instance_in_flight": "turns running on an instance",
    "worker_instance_restarts_total": "times its Lingma was started again",
}


class Row(NamedTuple):
    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def rows(text: str) -> Iterator[Row]:
    """The metrics of an exposition."""
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        sample = re.search(rf"^{name}(?:_bucket)?(?:\{{(.*?)\}})? ", text, re.MULTILINE)
        labels = re.findall(r"(\w+)=", sample.group(1) or "") if sample else []
        meaning = helps.get(name) or MEANING.get(name, "")
        yield Row(name, kind, tuple(label for label in labels if label != "le"), meaning)


def expositions() -> tuple[str, str, str]:
    """What a replica shows in two blocks, and what a worker shows, each metric with a sample."""
    statistics = TurnStatistics()
    raw = RawRequest("chat", {})
    turn = Turn(id=TurnId("t"), tenant="-", created_at_ms=0, model="m", items=(), raw=raw)
    statistics.record(turn, _Figures())
    instance = InstanceRecord(name="inst-0", index=0, ready=True, state="ready", capacity=1)
    figures = dict.fromkeys((*GUARD_METRICS, *statistics.chat.counters()), 0)
    limits = SessionLimits(max_entries=lambda: 0, ttl_s=0)
    sessions = asyncio.run(MemorySessionCache(limits, SystemClock()).prometheus_lines())
    statistics.metrics.registry.register(HubCollector(_Hub()))
    watch = WriteWatch(None, Keys(), "-")
    statistics.metrics.registry.register(StoreCollector(Outage(None), watch))
    sockets = SocketCounts()
    sockets.messages["create"] = sockets.closed["client"] = 1
    statistics.metrics.registry.register(sockets)
    labelled = statistics.metrics.render(Format.TEXT)
    one = Counter("x")
    worker = WorkerStats(turns=one, declined=one, dead_letters=one, loop_restarts=one)
    return (
        labelled,
        render_reference(figures, [instance], sessions),
        worker.prometheus(in_flight=0, draining=False, instances=[instance]),
    )


class _Hub(NamedTuple):
    stats: HubStats = HubStats()
    turns: int = 0
    parked: int = 0
    down_since: float | None = None


class _Figures(NamedTuple):
    outcome: str = "completed"
    usage: Usage | None = Usage(input_tokens=1, output_tokens=1)
    upstream: str = "lingma"
    ttft_ms: int | None = 1
    duration_ms: int = 1
    failed_attempts: tuple[tuple[str, str], ...] = (("codex", "rate_limited"),)
    replayed: tuple[tuple[str, str], ...] = (("codex", "injected"),)
    queued_s: float | None = 0.1
    repairs: int = 1
    losses: tuple[Loss, ...] = (Loss("temperature", "unsupported"),)
    exemplar: None = None


def metrics_page(intro: list[str], exemplars: list[str], worker_intro: list[str]) -> str:
    labelled, reference, worker = expositions()
    lines = ["# Metrics", "", *intro, "", *exemplars]
    lines += ["", "## With labels and histograms", "", *_table(labelled)]
    lines += ["", "## Names of lingma-openai-gateway", "", *_table(reference)]
    lines += ["", "## A worker", "", *worker_intro, "", *_table(worker)]
    return "\n".join(lines) + "\n"


def _table(text: str) -> list[str]:
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for row in rows(text):
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.meaning} |")
    return lines
