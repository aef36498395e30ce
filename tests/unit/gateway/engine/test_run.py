import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.engine.admission import Admission
from gateway.engine.drain import Drain
from gateway.engine.observers import TurnFigures
from gateway.engine.routing import Candidate, Route
from gateway.engine.run import Engine, EngineLimits
from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import (
    ErrorKind,
    GatewayError,
    Internal,
    QueueTimeout,
    UpstreamEof,
    UpstreamUnavailable,
    WorkerLost,
)
from gateway.kernel.ids import TurnId
from gateway.store.keys import Keys
from gateway.store.leases_memory import MemoryLeases
from gateway.telemetry.setup import traced_by
from gateway.turn.events import (
    ItemDone,
    ItemStarted,
    TextDelta,
    ToolInputDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEvent,
    TurnFailed,
    TurnStarted,
)
from gateway.turn.frame import Burst, Frame
from gateway.turn.grammar import check
from gateway.turn.items import Dialect, Message, TextPart
from gateway.turn.losses import Loss
from gateway.turn.ports import AttemptFailed, Call, Capabilities
from gateway.turn.request import RawRequest, Turn

START = TurnStarted(model="m", created_at=1)
DONE = ItemDone(0, Message(role="assistant", parts=(TextPart("ab"),)))
WHOLE: list[TurnEvent] = [
    START,
    ItemStarted(0, "message", "m"),
    TextDelta(0, "ab"),
    DONE,
    TurnCompleted("stop"),
]

Script = Callable[[Call], AsyncGenerator[Burst, None]]


class ScriptedExecutor:
    """Plays one script for each attempt."""

    name = "scripted"

    def __init__(self, *scripts: Script, speaks: Dialect | None = None) -> None:
        self._scripts = list(scripts)
        self.capabilities = Capabilities(speaks=speaks)
        self.calls: list[Call] = []
        self.concluded = 0
        self.closed = 0

    def losses(self, turn: Turn, model: str) -> Sequence[Loss]:
        return [Loss("temperature", "unsupported")]

    async def attempt(self, call: Call) -> AsyncGenerator[Burst, None]:
        self.calls.append(call)
        try:
            async with contextlib.aclosing(self._scripts.pop(0)(call)) as bursts:
                async for burst in bursts:
                    yield burst
        finally:
            self.closed += 1

    def conclude(self, turn: Turn) -> None:
        self.concluded += 1


class OneRoute:
    def __init__(self, *executors: ScriptedExecutor) -> None:
        self._executors = executors

    def route(self, turn: Turn) -> Route:
        return Route(
            tuple(Candidate(e, "org_auto") for e in self._executors), (Loss("model", "served-by", "x"),)
        )


class Recorder:
    def __init__(self) -> None:
        self.figures: list[TurnFigures] = []

    def record(self, turn: Turn, figures: TurnFigures) -> None:
        self.figures.append(figures)


def says(*events: TurnEvent) -> Script:
    async def script(call: Call) -> AsyncGenerator[Burst, None]:
        for event in events:
            yield [Frame((event,))]

    return script


def fails(again: str, error: GatewayError | None = None, *before: TurnEvent) -> Script:
    async def script(call: Call) -> AsyncGenerator[Burst, None]:
        for event in before:
            yield [Frame((event,))]
        raise AttemptFailed(error or WorkerLost("gone"), again=again)  # type: ignore[arg-type]

    return script


def hangs(started: asyncio.Event, *before: TurnEvent) -> Script:
    async def script(call: Call) -> AsyncGenerator[Burst, None]:
        for event in before:
            yield [Frame((event,))]
        started.set()
        await asyncio.Event().wait()

    return script


class Bench:
    def __init__(
        self, *executors: ScriptedExecutor, max_in_flight: int = 0, queue_s: float = 5.0, **more: Any
    ) -> None:
        self.clock = FakeClock()
        self.recorder = Recorder()
        self.drain = Drain(listen_s=0, deadline_s=0)
        self.admission = Admission(
            MemoryLeases(self.clock),
            Keys(),
            max_in_flight=max_in_flight,
            queue_max=4,
        )
        self.engine = Engine(
            router=OneRoute(*executors),  # type: ignore[arg-type]
            admission=self.admission,
            drain=self.drain,
            recorder=self.recorder,
            clock=self.clock,
            limits=EngineLimits(queue_timeout_s=queue_s),
            **more,
        )

    def turn(self, name: str = "t") -> Turn:
        return Turn(
            id=TurnId(name),
            tenant="-",
            created_at_ms=self.clock.now_ms(),
            model="m",
            items=(),
            raw=RawRequest("chat", {}),
        )

    async def events(self) -> list[TurnEvent]:
        run = self.engine.run_turn(self.turn())
        try:
            return [event async for burst in run for frame in burst for event in frame.events]
        finally:
            await run.aclose()


async def test_a_turn_passes_from_start_to_end() -> None:
    executor = ScriptedExecutor(says(*WHOLE))
    bench = Bench(executor)
    run = bench.engine.run_turn(bench.turn())
    events = [event async for burst in run for frame in burst for event in frame.events]
    await run.aclose()
    assert events == WHOLE
    assert [str(loss) for loss in run.losses] == ["model:served-by-x", "temperature:unsupported"]
    assert [f.outcome for f in bench.recorder.figures] == ["completed"]
    assert [f.losses for f in bench.recorder.figures] == [run.losses]
    assert executor.concluded == 1
    assert bench.drain.in_flight == 0


async def test_a_turn_waits_for_a_store_that_has_just_gone_before_anything_is_asked() -> None:
    back, asked = asyncio.Event(), asyncio.Event()

    async def ride_out() -> bool:
        asked.set()
        return await back.wait()

    executor = ScriptedExecutor(says(*WHOLE))
    events = asyncio.ensure_future(Bench(executor, ride_out=ride_out).events())
    await asked.wait()
    assert executor.calls == []
    back.set()
    assert await events == WHOLE


@pytest.mark.parametrize("speaks", [None, "gemini", "chat"])
async def test_what_reading_a_request_lost_is_not_lost_to_an_upstream_of_its_dialect(
    speaks: Dialect | None,
) -> None:
    bench = Bench(ScriptedExecutor(says(*WHOLE), speaks=speaks))
    read = Loss("verbosity", "unsupported")
    run = bench.engine.run_turn(msgspec.structs.replace(bench.turn(), losses=(read,)))
    async for _ in run:
        pass
    await run.aclose()
    assert (read in run.losses) is (speaks != "chat")
    assert Loss("temperature", "unsupported") in run.losses


async def test_losses_are_those_of_the_attempt_that_answers() -> None:
    first, second = ScriptedExecutor(fails("next")), ScriptedExecutor(says(*WHOLE), speaks="chat")
    bench = Bench(first, second)
    run = bench.engine.run_turn(
        msgspec.structs.replace(bench.turn(), losses=(Loss("verbosity", "unsupported"),))
    )
    async for _ in run:
        pass
    await run.aclose()
    assert [str(loss) for loss in run.losses] == ["model:served-by-x", "temperature:unsupported"]


async def test_an_error_is_gone_once_it_is_told() -> None:
    """Its traceback holds what the attempt has read, which nobody is to look for among the garbage."""
    told: list[weakref.ref[GatewayError]] = []

    async def refuse(call: Call) -> AsyncGenerator[Burst, None]:
        try:
            raise UpstreamUnavailable("full")
        except UpstreamUnavailable as error:
            told.append(weakref.ref(error))
            raise AttemptFailed(error) from None
        yield []

    bench = Bench(ScriptedExecutor(refuse))
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(UpstreamUnavailable):
            await bench.events()
        assert [error() for error in told] == [None]
    finally:
        gc.enable()


async def test_a_retry_is_invisible_to_the_client() -> None:
    executor = ScriptedExecutor(fails("retry", None, START), says(*WHOLE))
    bench = Bench(executor)
    assert await bench.events() == WHOLE
    assert [call.attempt for call in executor.calls] == [1, 2]
    (figures,) = bench.recorder.figures
    assert figures.failed_attempts == [(executor.name, "worker_lost")]
    assert figures.queued_s is not None


async def test_a_lost_context_is_answered_by_a_fresh_attempt() -> None:
    executor = ScriptedExecutor(fails("fresh"), says(*WHOLE))
    assert await Bench(executor).events() == WHOLE
    assert [call.fresh for call in executor.calls] == [False, True]


async def test_the_next_candidate_takes_over() -> None:
    one, other = ScriptedExecutor(fails("next")), ScriptedExecutor(says(*WHOLE))
    assert await Bench(one, other).events() == WHOLE
    assert (one.concluded, other.concluded) == (1, 1)


async def test_a_failure_before_anything_was_said_is_raised() -> None:
    bench = Bench(ScriptedExecutor(fails("no", UpstreamEof("cut"))))
    with pytest.raises(UpstreamEof):
        await bench.events()
    assert [(f.outcome, f.error_kind) for f in bench.recorder.figures] == [("failed", "upstream_eof")]
    assert [kind for f in bench.recorder.figures for _, kind in f.failed_attempts] == ["upstream_eof"]


async def test_a_failure_after_the_start_is_a_terminal_event() -> None:
    events = await Bench(ScriptedExecutor(fails("no", UpstreamEof("cut"), START))).events()
    check(events)
    assert isinstance(events[-1], TurnFailed)
    assert events[-1].error.kind is ErrorKind.UPSTREAM_EOF


async def test_a_crash_in_mid_stream_still_ends_legally() -> None:
    async def crash(call: Call) -> AsyncGenerator[Burst, None]:
        yield [Frame((START, ItemStarted(0, "message", "m"), TextDelta(0, "ab")))]
        raise RuntimeError("bug")

    bench = Bench(ScriptedExecutor(crash))
    events = await bench.events()
    check(events)
    assert isinstance(events[-1], TurnFailed)
    assert events[-1].error.kind is ErrorKind.INTERNAL
    assert "bug" not in events[-1].error.message


async def test_a_crash_before_the_start_is_an_internal_error() -> None:
    async def crash(call: Call) -> AsyncGenerator[Burst, None]:
        raise RuntimeError("bug")
        yield []

    with pytest.raises(Internal):
        await Bench(ScriptedExecutor(crash)).events()


async def test_an_executor_that_just_stops_is_given_an_end() -> None:
    events = await Bench(ScriptedExecutor(says(START, ItemStarted(0, "message", "m")))).events()
    check(events)
    assert isinstance(events[-1], TurnFailed)


async def test_what_is_said_after_the_end_is_not_read() -> None:
    executor = ScriptedExecutor(says(*WHOLE, TextDelta(0, "late")))
    assert await Bench(executor).events() == WHOLE
    assert executor.closed == 1


async def test_bytes_that_mean_nothing_pass_until_the_end() -> None:
    """For clients of the upstream's own dialect, who get them as they came."""

    async def script(call: Call) -> AsyncGenerator[Burst, None]:
        yield [Frame((), b"early"), Frame((START, ItemStarted(0, "message", "m")), b"a"), Frame((), b"b")]
        stray = ToolInputDelta(7, "x")
        yield [Frame((stray,), b"c"), Frame((DONE, TurnCompleted("stop")), b"d"), Frame((), b"late")]

    bench = Bench(ScriptedExecutor(script))
    run = bench.engine.run_turn(bench.turn())
    frames = [frame async for burst in run for frame in burst]
    await run.aclose()
    assert [frame.raw for frame in frames] == [b"a", b"b", b"c", b"d"]
    assert frames[2].events == ()


async def test_closing_early_closes_the_attempt_and_frees_everything() -> None:
    started = asyncio.Event()
    executor = ScriptedExecutor(hangs(started, START))
    bench = Bench(executor, max_in_flight=1)
    run = bench.engine.run_turn(bench.turn())
    await anext(aiter(run))
    await run.aclose()
    assert executor.closed == executor.concluded == 1
    assert bench.admission.counts().in_flight == 0
    assert [f.outcome for f in bench.recorder.figures] == ["cancelled"]
    assert executor.calls[0].cancel_reason == "client_gone"


async def test_cancelling_the_waiting_task_closes_the_attempt() -> None:
    started = asyncio.Event()
    executor = ScriptedExecutor(hangs(started, START))
    bench = Bench(executor)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.events())
        await started.wait()
        task.cancel()
    assert executor.closed == 1
    assert bench.drain.in_flight == 0


async def test_a_drain_ends_a_waiting_turn_legally() -> None:
    started = asyncio.Event()
    executor = ScriptedExecutor(hangs(started, START, ItemStarted(0, "message", "m"), TextDelta(0, "ab")))
    bench = Bench(executor)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.events())
        await started.wait()
        await bench.drain.drain()
        events = await task
    check(events)
    assert events[-1] == TurnCancelled("drain")
    assert executor.calls[0].cancel_reason == "drain"


async def test_a_drain_ends_a_turn_whose_client_is_being_written_to() -> None:
    bench = Bench(ScriptedExecutor(says(*WHOLE)))
    run = bench.engine.run_turn(bench.turn())
    first = await anext(aiter(run))
    run.cancel("drain")
    rest = [event async for burst in run for frame in burst for event in frame.events]
    assert rest == [TurnCancelled("drain")]
    assert first
    await run.aclose()


async def test_a_closed_replica_takes_no_new_turns() -> None:
    bench = Bench(ScriptedExecutor(says(*WHOLE)))
    await bench.drain.drain()
    with pytest.raises(UpstreamUnavailable):
        await bench.events()


async def test_lv_44_a_full_gateway_answers_queue_timeout() -> None:
    """Given max 1, queue 0.05 s and the slot busy; expect a queue timeout, rejected 1, queued 0."""
    started = asyncio.Event()
    executor = ScriptedExecutor(hangs(started, START))
    bench = Bench(executor, max_in_flight=1, queue_s=0.05)
    run = bench.engine.run_turn(bench.turn("first"))
    await anext(aiter(run))
    with pytest.raises(QueueTimeout) as caught:
        await bench.events()
    counts = bench.admission.counts()
    assert (counts.rejected_total, counts.queued, counts.in_flight) == (1, 0, 1)
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s >= 1
    await run.aclose()


async def test_a_queue_that_another_candidate_spares_the_turn_rejects_nothing() -> None:
    first, second = ScriptedExecutor(fails("next", QueueTimeout("full"))), ScriptedExecutor(says(*WHOLE))
    bench = Bench(first, second)
    assert await bench.events() == list(WHOLE)
    assert bench.admission.counts().rejected_total == 0


@pytest.mark.parametrize("may", [False, True])
async def test_spans_hold_what_was_said_only_where_they_may(may: bool) -> None:
    exporter = InMemorySpanExporter()
    bench = Bench(ScriptedExecutor(fails("retry", None, START), says(*WHOLE)))
    bench.engine.tracer = traced_by(SimpleSpanProcessor(exporter)).tracer
    bench.engine.trace_content = may
    await bench.events()
    *_, first, second = exporter.get_finished_spans()
    told = [
        {name: value for name, value in (span.attributes or {}).items() if name.endswith("messages")}
        for span in (first, second)
    ]
    asked = {"gen_ai.input.messages": "[]"}
    answered = {
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"ab"}],'
        '"finish_reason":"stop"}]'
    }
    assert told == ([asked, asked | answered] if may else [{}, {}])


async def test_every_attempt_has_its_span_and_hands_its_context_on() -> None:
    exporter = InMemorySpanExporter()
    tracing = traced_by(SimpleSpanProcessor(exporter))
    executor = ScriptedExecutor(fails("retry", None, START), says(*WHOLE))
    bench = Bench(executor)
    bench.engine.tracer = tracing.tracer
    await bench.events()
    route, admission, *spans = exporter.get_finished_spans()
    assert (route.name, admission.name) == ("route", "admission")
    assert (route.attributes or {})["gateway.candidates"] == 1
    assert [span.name for span in spans] == ["chat org_auto", "chat org_auto"]
    ids = [call.trace[0].split("-")[2] for call in executor.calls]
    assert ids == [f"{span.context.span_id:016x}" for span in spans if span.context is not None]
    first = spans[0].attributes or {}
    assert (first["gateway.outcome"], first["error.type"]) == ("failed", "worker_lost")
    attributes = spans[1].attributes or {}
    assert attributes["gateway.outcome"] == "completed"
    assert "error.type" not in attributes
    assert "secret" not in str(attributes)
    tracing.close()
