"""One attempt from Accepted to Finished, with the upstream played by the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.jobs.messages import Accepted, Finished, FrameBatch, Heartbeat, ToolReply, slot_holder
from gateway.kernel.aio import Tasks
from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import InvalidRequest
from gateway.store.backends import Stores, open_memory
from gateway.store.turnlog import Fence, TurnState
from gateway.telemetry.setup import traced_by
from tests.fakes.worker import (
    WORKER,
    FakeAnswer,
    FakeInstance,
    Gateway,
    Switch,
    delta,
    eventually,
    finish,
    push,
)
from workers import publisher as publisher_module
from workers import runner as module
from workers.lingma.errors import AskRefused, LingmaDisconnected, LingmaNotReady, ReaderTooSlow
from workers.publisher import Publisher
from workers.runner import Run, Runner
from workers.stats import WorkerStats
from workers.watch import Limits

EPOCH = 1_790_000_000_000


class Bench:
    def __init__(self, stores: Stores, tasks: Tasks) -> None:
        clock = SystemClock()
        self.stores = stores
        self.tasks = tasks
        self.gateway = Gateway(stores, clock, epoch=EPOCH)
        self.instance = FakeInstance()
        self.turns = Switch(stores.turns, "accept", "append", "finish")
        self.stats = WorkerStats()
        turns: Any = self.turns
        self.runner = Runner(
            worker=WORKER,
            publisher=Publisher(turns, epoch=EPOCH, clock=clock, stats=self.stats, tasks=tasks),
            leases=stores.leases,
            kv=stores.kv,
            keys=stores.keys,
            clock=clock,
            limits=Limits(),
            stats=self.stats,
        )
        self.settled: list[str] = []

    @property
    def client(self) -> Any:
        return self.instance.client

    def start(self, turn_id: str = "t", *, epoch: int | None = None, **fields: Any) -> Run:
        """Run an attempt of a turn that exists."""
        envelope = self.gateway.envelope(turn_id, epoch=epoch)
        run = self.runner.open(envelope, self.gateway.submit_of(**fields), self.instance)
        self.tasks.spawn(run.run(lambda: self.settled.append(turn_id)))
        return run

    async def asked(self, **fields: Any) -> tuple[Run, FakeAnswer]:
        """An attempt that has been accepted and asked."""
        await self.gateway.create("t")
        run = self.start(**fields)
        await eventually(lambda: self.client.answers)
        return run, self.client.answers[0]

    async def ended(self, run: Run) -> None:
        await eventually(lambda: (run.turn_id, run.attempt) not in self.runner.runs)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    tasks = Tasks()
    async with open_memory(SystemClock()) as stores:
        yield Bench(stores, tasks)
        await tasks.aclose()


# -- the usual way ----------------------------------------------------------------------------------------


async def test_a_turn_is_accepted_forwarded_and_finished(bench: Bench) -> None:
    run, answer = await bench.asked()
    assert bench.client.asks == [(b'{"requestId":"req-1","questionText":"hi"}', "req-1")]
    assert bench.settled == ["t"]
    assert await bench.gateway.state("t") is TurnState.RUNNING
    answer.say(delta("a"))
    await bench.gateway.until("t", FrameBatch)
    answer.say(delta("b"), finish(session_id="s-9"), delta("after the end"))
    finished = await bench.gateway.finished("t")
    assert finished == Finished(outcome="completed", last_seq=3, session_id="s-9")
    assert await bench.gateway.frames("t") == [delta("a"), delta("b"), finish(session_id="s-9")]
    assert isinstance((await bench.gateway.replies("t"))[0], Accepted)
    assert await bench.gateway.state("t") is TurnState.COMPLETED
    await bench.ended(run)
    assert answer.closed
    assert bench.client.stops == []
    assert await bench.gateway.slots() == []
    assert bench.stats.turns == {"completed": 1}


async def test_nothing_goes_upstream_before_the_turn_is_accepted(bench: Bench) -> None:
    bench.turns.mode = "off"
    await bench.gateway.create("t")
    bench.start()
    await eventually(lambda: bench.turns.calls >= 2)
    assert bench.client.asks == []
    bench.turns.mode = "on"
    await eventually(lambda: bench.client.asks)


async def test_a_large_request_is_read_from_its_blob(bench: Bench) -> None:
    await bench.gateway.create("t")
    await bench.stores.kv.kv_set(bench.stores.keys.blob("t"), b'{"big":1}')
    bench.start(params=b"", in_blob=True)
    await eventually(lambda: bench.client.asks)
    assert bench.client.asks[0][0] == b'{"big":1}'


async def test_a_blob_the_store_has_lost_fails_the_turn_before_it_began(bench: Bench) -> None:
    await bench.gateway.create("t")
    bench.start(params=b"", in_blob=True)
    finished = await bench.gateway.finished("t")
    assert (finished.error_kind, finished.retryable) == ("store_data_loss", True)
    assert bench.client.asks == []


async def test_slots_count_while_a_turn_runs(bench: Bench) -> None:
    run, answer = await bench.asked()
    assert bench.runner.in_flight("inst-0") == 1
    assert bench.runner.accepted() == [run]
    assert await bench.gateway.slots() == [slot_holder("t", 1)]
    answer.say(finish())
    await bench.ended(run)
    assert bench.runner.in_flight("inst-0") == 0


# -- how upstreams end ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (finish(408, "timeout"), "upstream_timeout"),
        (finish(500, "boom"), "upstream_protocol"),
        (finish(200, "cancelled"), "upstream_eof"),
    ],
)
async def test_lv_27_a_finish_with_an_error_fails_the_turn(bench: Bench, body: bytes, kind: str) -> None:
    """LV-27. Given: finish statusCode 408 reason "timeout" after "par". Expected: an error, no stop."""
    _, answer = await bench.asked()
    answer.say(delta("par"), body)
    finished = await bench.gateway.finished("t")
    assert (finished.outcome, finished.error_kind, finished.retryable) == ("failed", kind, False)
    assert await bench.gateway.frames("t") == [delta("par"), body]
    assert bench.client.stops == []


async def test_a_reported_error_fails_the_turn_and_stops_the_chat(bench: Bench) -> None:
    _, answer = await bench.asked()
    answer.say(push("error/notificationError", errorMessage="quota"))
    finished = await bench.gateway.finished("t")
    assert (finished.outcome, finished.error_kind, finished.error) == ("failed", "upstream_protocol", "quota")
    assert bench.client.stops == [("req-1", "s-1")]


@pytest.mark.parametrize(
    ("error", "kind", "retryable", "stopped"),
    [
        (LingmaDisconnected("gone"), "upstream_eof", False, False),
        (AskRefused("quota"), "upstream_protocol", True, False),
        (LingmaNotReady("lost while a tool was answered"), "upstream_unavailable", False, False),
        (ReaderTooSlow("full"), "upstream_protocol", False, True),
    ],
)
async def test_lv_19_an_upstream_that_breaks_fails_the_turn_at_once(
    bench: Bench, error: Exception, kind: str, retryable: bool, stopped: bool
) -> None:
    """LV-19. Given: the process dies after two deltas. Expected: an error within 1 s, the slot is free."""
    run, answer = await bench.asked()
    answer.say(delta("a"), delta("b"))
    answer.fail(error)
    finished = await bench.gateway.finished("t", within_s=1)
    assert (finished.outcome, finished.error_kind, finished.retryable) == ("failed", kind, retryable)
    assert await bench.gateway.frames("t") == [delta("a"), delta("b")]
    assert bool(bench.client.stops) is stopped
    await bench.ended(run)
    assert await bench.gateway.slots() == []


async def test_lv_12_a_refused_ask_fails_the_turn_at_once(bench: Bench) -> None:
    """LV-12. Given: chat/ask answered with success false. Expected: an error at once."""
    bench.client.ask_error = AskRefused("Q1: quota")
    await bench.gateway.create("t")
    bench.start()
    finished = await bench.gateway.finished("t", within_s=1)
    assert (finished.error_kind, finished.error, finished.retryable) == (
        "upstream_protocol",
        "Q1: quota",
        True,
    )


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (LingmaNotReady("not yet"), "upstream_unavailable", True),
        (InvalidRequest("too long"), "invalid_request", False),
    ],
)
async def test_an_ask_that_could_not_be_sent_stops_nothing(
    bench: Bench, error: Exception, kind: str, retryable: bool
) -> None:
    bench.client.ask_error = error
    await bench.gateway.create("t")
    bench.start()
    finished = await bench.gateway.finished("t")
    assert (finished.error_kind, finished.retryable) == (kind, retryable)
    assert bench.client.stops == []


async def test_an_answer_that_ends_without_a_finish_fails(bench: Bench) -> None:
    _, answer = await bench.asked()
    answer.say(delta("a"))
    answer.end()
    assert (await bench.gateway.finished("t")).error_kind == "upstream_eof"


# -- silence ----------------------------------------------------------------------------------------------


async def test_a_silent_upstream_is_bridged_by_heartbeats(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    _, answer = await bench.asked()
    await bench.gateway.until("t", Heartbeat)
    answer.say(finish())
    assert (await bench.gateway.finished("t")).last_seq == 1


async def test_an_answer_that_does_not_begin_times_out(bench: Bench) -> None:
    bench.runner.limits = Limits(first_event_s=0.05)
    await bench.asked()
    finished = await bench.gateway.finished("t")
    assert finished.error_kind == "upstream_timeout"
    assert finished.error == (
        "chat stream timeout request_id=req-1 timeout=0.05s first_chunk_at=-s last_chunk_at=-s"
    )
    assert bench.client.stops == [("req-1", "s-0")]


async def test_an_answer_that_stops_in_the_middle_times_out(bench: Bench) -> None:
    bench.runner.limits = Limits(idle_s=0.05)
    _, answer = await bench.asked()
    answer.say(delta("a"))
    finished = await bench.gateway.finished("t")
    assert "timeout=0.05s first_chunk_at=0.0" in finished.error
    assert bench.client.stops == [("req-1", "s-1")]


async def test_a_lively_answer_ends_at_the_total_limit(bench: Bench) -> None:
    bench.runner.limits = Limits(total_s=0.1)
    _, answer = await bench.asked()
    ended = bench.tasks.spawn(bench.gateway.finished("t"))
    while not ended.done():
        answer.say(delta("a"))
        await asyncio.sleep(0.005)
    assert "timeout=0.1s" in ended.result().error
    assert bench.client.stops == [("req-1", "s-1")]


async def test_the_deadline_of_the_turn_counts_when_it_is_earlier(bench: Bench) -> None:
    _, _ = await bench.asked(deadline_ms=SystemClock().now_ms() + 50)
    assert (await bench.gateway.finished("t")).error_kind == "upstream_timeout"


async def test_a_turn_whose_deadline_has_passed_is_not_asked(bench: Bench) -> None:
    await bench.gateway.create("t")
    bench.start(deadline_ms=SystemClock().now_ms() - 1)
    assert (await bench.gateway.finished("t")).error_kind == "upstream_timeout"
    assert bench.client.asks == []


# -- being stopped ----------------------------------------------------------------------------------------


async def test_lv_28_a_cancel_stops_the_chat_with_the_session_that_pushes_named(bench: Bench) -> None:
    """LV-28. Given: the client leaves after the first delta. Expected: chat/stop, same ids, within 1 s."""
    run, answer = await bench.asked()
    answer.say(delta("a"))
    await bench.gateway.until("t", FrameBatch)
    run.stop("client_gone")
    run.stop("drain")
    finished = await bench.gateway.finished("t", within_s=1)
    assert (finished.outcome, finished.reason, finished.last_seq) == ("cancelled", "client_gone", 1)
    assert bench.client.stops == [("req-1", "s-1")]
    assert await bench.gateway.state("t") is TurnState.CANCELLED
    await bench.ended(run)
    assert answer.closed
    assert await bench.gateway.slots() == []


async def test_an_upstream_that_does_not_confirm_the_stop_holds_nobody_up(bench: Bench) -> None:
    run, _ = await bench.asked()
    bench.client.stop_hangs = True
    run.stop("client_gone")
    assert (await bench.gateway.finished("t", within_s=1)).outcome == "cancelled"


async def test_a_cancel_before_anything_was_said_uses_the_session_that_was_sent(bench: Bench) -> None:
    run, _ = await bench.asked()
    run.stop("client_gone")
    await bench.gateway.finished("t", within_s=1)
    assert bench.client.stops == [("req-1", "s-0")]


async def test_a_turn_cancelled_while_it_was_queued_is_not_asked(bench: Bench) -> None:
    await bench.gateway.create("t")
    bench.start().stop("client_gone")
    assert (await bench.gateway.finished("t")).outcome == "cancelled"
    assert (bench.client.asks, bench.client.stops) == ([], [])


async def test_a_turn_cancelled_while_it_is_being_accepted_is_not_asked(bench: Bench) -> None:
    bench.turns.mode = "off"
    await bench.gateway.create("t")
    run = bench.start()
    await eventually(lambda: bench.turns.calls)
    run.stop("client_gone")
    bench.turns.mode = "on"
    assert (await bench.gateway.finished("t")).outcome == "cancelled"
    assert bench.client.asks == []


async def test_a_fence_lost_in_the_middle_stops_the_chat_in_silence(bench: Bench) -> None:
    run, answer = await bench.asked()
    answer.say(delta("a"))
    await bench.gateway.until("t", FrameBatch)
    assert await bench.stores.turns.assign(
        "t", expected_attempt=1, fence=Fence(2, "w-2", 7), instance="inst-0"
    )
    answer.say(delta("b"))
    await bench.ended(run)
    assert bench.client.stops == [("req-1", "s-1")]
    assert await bench.gateway.frames("t") == [delta("a")]
    assert not any(isinstance(reply, Finished) for reply in await bench.gateway.replies("t"))
    assert bench.stats.turns == {"fenced": 1}


async def test_a_turn_that_a_gateway_ended_is_noticed_by_a_heartbeat(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    run, _ = await bench.asked()
    await bench.stores.turns.finish("t", TurnState.LOST, fence=None, entry=None)
    await bench.ended(run)
    assert bench.client.stops == [("req-1", "s-0")]


# -- the store --------------------------------------------------------------------------------------------


async def test_an_outage_in_the_middle_loses_no_frame(bench: Bench) -> None:
    _, answer = await bench.asked()
    answer.say(delta("a"))
    await bench.gateway.until("t", FrameBatch)
    bench.turns.mode = "off"
    calls = bench.turns.calls
    answer.say(delta("b"))
    await eventually(lambda: bench.turns.calls > calls)
    answer.say(delta("c"), finish())
    await eventually(lambda: bench.turns.calls > calls + 2)
    bench.turns.mode = "on"
    assert (await bench.gateway.finished("t")).last_seq == 4
    assert await bench.gateway.frames("t") == [delta("a"), delta("b"), delta("c"), finish()]


async def test_an_outage_that_outlasts_the_backlog_stops_the_chat(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "BACKLOG_BYTES", 500)
    _, answer = await bench.asked()
    bench.turns.mode = "off"
    answer.say(delta("x" * 400))
    await eventually(lambda: bench.stats.store_failures)
    answer.say(delta("y" * 400))
    await eventually(lambda: bench.client.stops)
    bench.turns.mode = "on"
    finished = await bench.gateway.finished("t")
    assert (finished.outcome, finished.error_kind) == ("failed", "store_unavailable")


async def test_an_accept_whose_reply_was_lost_is_still_ours(bench: Bench) -> None:
    bench.turns.mode = "deaf"
    await bench.gateway.create("t")
    bench.start()
    await eventually(lambda: bench.turns.calls)
    bench.turns.mode = "on"
    await eventually(lambda: bench.client.answers)
    bench.client.answers[0].say(finish())
    assert (await bench.gateway.finished("t")).outcome == "completed"
    assert len(bench.client.asks) == 1


async def test_a_turn_that_is_somebody_elses_is_left_alone(bench: Bench) -> None:
    await bench.gateway.create("t")
    await bench.stores.turns.assign("t", expected_attempt=1, fence=Fence(2, "w-2", 7), instance="inst-0")
    run = bench.start()
    await bench.ended(run)
    assert bench.settled == ["t"]
    assert await bench.gateway.state("t") is TurnState.QUEUED
    assert (bench.client.asks, await bench.gateway.replies("t")) == ([], [])


# -- an earlier incarnation -------------------------------------------------------------------------------


async def test_a_turn_queued_for_an_earlier_incarnation_runs(bench: Bench) -> None:
    await bench.gateway.create("t", epoch=EPOCH - 9)
    bench.start(epoch=EPOCH - 9)
    await eventually(lambda: bench.client.answers)
    bench.client.answers[0].say(finish())
    assert (await bench.gateway.finished("t")).outcome == "completed"
    assert {envelope.epoch for envelope, _ in await bench.gateway.said("t")} == {EPOCH}


async def test_a_turn_that_an_earlier_incarnation_ran_is_lost(bench: Bench) -> None:
    await bench.gateway.create("t", epoch=EPOCH - 9)
    fence = await bench.gateway.fence("t")
    await bench.stores.turns.accept("t", fence, b"")
    run = bench.start(epoch=EPOCH - 9)
    await bench.ended(run)
    assert await bench.gateway.state("t") is TurnState.LOST
    assert bench.client.asks == []
    assert bench.settled == ["t"]


# -- native tools -----------------------------------------------------------------------------------------


def tool(method: str = "tool/call/sync", **fields: Any) -> bytes:
    return push(method, toolCallId="t-1", name="find", parameters={"q": 1}, **fields)


async def test_lv_53_a_native_tool_call_is_approved_and_answered_once(bench: Bench) -> None:
    """LV-53. Given: sync of t-1 twice, then results. Expected: one approve, one invokeResult."""
    _, answer = await bench.asked(tool_roundtrip="approve")
    answer.say(tool(), tool())
    await eventually(lambda: bench.client.results)
    answer.say(tool(results=[{"result": "ok"}]), finish())
    await bench.gateway.finished("t")
    assert bench.client.approvals == [("req-1", "s-1", "t-1", True)]
    assert bench.client.results == [("req-1", "t-1", "find", {})]
    assert len(await bench.gateway.frames("t")) == 4


async def test_a_tool_call_that_waits_is_answered_with_the_remembered_session(bench: Bench) -> None:
    _, answer = await bench.asked()
    answer.say(delta("a"), push("tool/invoke", session_id="", toolCallId="t-2", name="grep"))
    await eventually(lambda: bench.client.results)
    assert bench.client.approvals == [("req-1", "s-1", "t-2", True)]


async def test_lv_54_a_tool_call_without_an_id_is_not_approved(bench: Bench) -> None:
    """LV-54. Given: an event without any id. Expected: a warning, no approve."""
    _, answer = await bench.asked()
    answer.say(push("tool/invoke", name="find"))
    await bench.gateway.until("t", FrameBatch)
    answer.say(finish())
    await bench.gateway.finished("t")
    assert (bench.client.approvals, bench.client.results) == ([], [])


async def test_rejected_tools_get_no_result(bench: Bench) -> None:
    _, answer = await bench.asked(tool_roundtrip="reject")
    answer.say(tool())
    await eventually(lambda: bench.client.approvals)
    answer.say(finish())
    await bench.gateway.finished("t")
    assert bench.client.approvals == [("req-1", "s-1", "t-1", False)]
    assert bench.client.results == []


async def test_tools_left_to_the_gateway_are_not_answered(bench: Bench) -> None:
    run, answer = await bench.asked(tool_roundtrip="stop")
    answer.say(tool())
    await bench.gateway.until("t", FrameBatch)
    run.stop("tool_calls")
    await bench.gateway.finished("t")
    assert (bench.client.approvals, bench.client.results) == ([], [])


async def test_a_clients_answer_to_a_tool_call_is_passed_on_once(bench: Bench) -> None:
    run, answer = await bench.asked(tool_roundtrip="stop")
    answer.say(tool())
    await bench.gateway.until("t", FrameBatch)
    reply = ToolReply(tool_call_id="t-1", name="find", approve=True, result={"n": 1})
    await run.answer_tool(reply)
    await run.answer_tool(reply)
    assert bench.client.approvals == [("req-1", "s-1", "t-1", True)]
    assert bench.client.results == [("req-1", "t-1", "find", {"n": 1})]


# -- tracing ----------------------------------------------------------------------------------------------


async def test_a_run_is_a_span_below_its_attempt_and_linked_to_who_submitted_it(bench: Bench) -> None:
    exporter = InMemorySpanExporter()
    bench.runner.tracer = traced_by(SimpleSpanProcessor(exporter)).tracer
    await bench.gateway.create("t")
    envelope = bench.gateway.envelope("t")
    envelope.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    submit = bench.gateway.submit_of()
    submit.traceparent = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
    run = bench.runner.open(envelope, submit, bench.instance)
    bench.tasks.spawn(run.run(lambda: None))
    await eventually(lambda: bench.client.answers)
    bench.client.answers[0].say(finish(500))
    await bench.ended(run)
    ask, span = exporter.get_finished_spans()
    assert span.attributes is not None
    assert (span.name, span.attributes["gateway.outcome"]) == (f"run {WORKER}/inst-0", "failed")
    assert span.parent is not None
    assert [hex(part) for part in (span.parent.trace_id, span.parent.span_id)] == [
        "0xaf7651916cd43dd8448eb211c80319c",
        "0xb7ad6b7169203331",
    ]
    assert [hex(link.context.span_id) for link in span.links] == ["0xf067aa0ba902b7"]
    assert ask.parent is not None
    assert (ask.name, ask.parent.span_id) == ("ask", span.context.span_id)
    assert (ask.attributes or {})["gateway.outcome"] == "failed"


# -- all ways ---------------------------------------------------------------------------------------------


ENDS: list[Callable[[Run, FakeAnswer], None]] = [
    lambda run, answer: answer.say(finish()),
    lambda run, answer: answer.fail(LingmaDisconnected("gone")),
    lambda run, answer: run.stop("drain"),
]


@pytest.mark.parametrize("first", ENDS)
@pytest.mark.parametrize("second", ENDS)
async def test_two_ends_at_once_give_one_finished(
    bench: Bench, first: Callable[[Run, FakeAnswer], None], second: Callable[[Run, FakeAnswer], None]
) -> None:
    run, answer = await bench.asked()
    first(run, answer)
    second(run, answer)
    await bench.ended(run)
    await bench.gateway.finished("t")
    assert await bench.gateway.slots() == []
    assert sum(bench.stats.turns.values()) == 1
