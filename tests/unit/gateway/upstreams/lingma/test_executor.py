import asyncio
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import (
    InvalidRequest,
    QueueTimeout,
    StoreUnavailable,
    UpstreamEof,
    UpstreamProtocol,
    UpstreamUnavailable,
    WorkerLost,
)
from gateway.kernel.ids import new_turn_id
from gateway.sessions.policy import SessionPolicy
from gateway.sessions.store import SessionLimits
from gateway.sessions.store_memory import MemorySessionCache
from gateway.store.backends import Stores, open_memory
from gateway.store.leases_memory import MemoryLeases
from gateway.store.turnlog import TurnState, Write
from gateway.telemetry.setup import traced_by
from gateway.telemetry.spans import turn_span
from gateway.turn.events import TurnEvent, TurnFailed
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.items import Message, Role, TextPart
from gateway.turn.ports import AttemptFailed, Call
from gateway.turn.request import RawRequest, Turn
from gateway.upstreams.lingma.executor import LingmaExecutor, LingmaOptions
from tests.fakes.scripted_worker import GatewaySide, Job, ScriptedWorker, answers
from tests.support.clients import until

CLOCK = SystemClock()


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    async with open_memory(CLOCK) as stores:
        yield stores


def said(role: Role, text: str) -> Message:
    return Message(role=role, parts=(TextPart(text),))


def turn(*items: Message, stream: bool = True, tenant: str = "-", **more: object) -> Turn:
    now = CLOCK.now_ms()
    return Turn(  # type: ignore[arg-type]
        id=new_turn_id(now),
        tenant=tenant,
        created_at_ms=now,
        model="org_auto",
        items=items or (said("user", "A"),),
        raw=RawRequest("chat", {}),
        stream=stream,
        **more,
    )


class Bench:
    """The executor on a gateway half, as the engine would use it."""

    def __init__(self, gateway: GatewaySide, **options: object) -> None:
        self.gateway = gateway
        self.cache = MemorySessionCache(SessionLimits(max_entries=lambda: 16, ttl_s=60), CLOCK)
        self.executor = LingmaExecutor(
            gateway.jobs,
            gateway.directory,
            SessionPolicy(self.cache),
            CLOCK,
            LingmaOptions(**options),  # type: ignore[arg-type]
        )

    def call(self, subject: Turn, *, attempt: int = 1, fresh: bool = False, queue_s: float = 5.0) -> Call:
        return Call(
            turn=subject,
            model="org_auto",
            attempt=attempt,
            deadline_ms=subject.created_at_ms + 60_000,
            queue_until=asyncio.get_running_loop().time() + queue_s,
            fresh=fresh,
        )

    async def frames(self, call: Call) -> list[Frame]:
        return [frame async for burst in self.executor.attempt(call) for frame in burst]

    async def run(self, subject: Turn, **options: object) -> TurnResult:
        try:
            return fold(await self.frames(self.call(subject, **options)))  # type: ignore[arg-type]
        finally:
            self.executor.conclude(subject)

    async def failure(self, subject: Turn, **options: object) -> AttemptFailed:
        with pytest.raises(AttemptFailed) as caught:
            await self.run(subject, **options)
        return caught.value


async def test_a_turn_is_answered_and_leaves_nothing_behind(stores: Stores) -> None:
    worker = ScriptedWorker(stores)
    async with GatewaySide(stores).running(worker) as gateway:
        bench, subject = Bench(gateway), turn()
        result = await bench.run(subject)
        assert (result.text, result.finish) == ("ab", "stop")
        assert await gateway.slots_used(worker) == 0
        assert gateway.hub.turns == gateway.jobs.open_turns == 0
        record = await stores.turns.get(subject.id)
        assert record is not None
        assert record.state is TurnState.COMPLETED


@pytest.mark.parametrize("sampler", ["always_on", "always_off"])
async def test_a_command_carries_the_trace_of_its_attempt_and_who_submitted_it(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    exporter = InMemorySpanExporter()
    tracer = traced_by(SimpleSpanProcessor(exporter)).tracer
    worker = ScriptedWorker(stores)
    async with GatewaySide(stores).running(worker) as gateway:
        bench, subject = Bench(gateway), turn()
        call = bench.call(subject)
        with turn_span(tracer, upstream="lingma", model="m", turn_id=subject.id) as span:
            call.trace, call.stage = span.trace, span.stage
            await bench.frames(call)
        submits = [one for one in exporter.get_finished_spans() if one.name == "submit"]
        (job,) = worker.jobs
        assert (job.envelope.traceparent, job.envelope.tracestate) == call.trace
        expected = [f"{one.context.span_id:016x}" for one in submits]
        assert job.submit.traceparent.split("-")[2:3] == expected
        assert bool(submits) == (sampler == "always_on")


class Broken(MemoryLeases):
    """No slot can be had for the first so many times."""

    def __init__(self, times: int) -> None:
        super().__init__(CLOCK)
        self.left = times

    async def acquire(self, key: bytes, holder: str, *, limit: int, ttl_s: float) -> bool:
        if b":slots:" in key and self.left:
            self.left -= 1
            raise StoreUnavailable("the connection to the store was lost")
        return await super().acquire(key, holder, limit=limit, ttl_s=ttl_s)


@pytest.mark.parametrize("back", [True, False])
async def test_a_store_that_goes_while_a_turn_is_placed_is_waited_for(stores: Stores, back: bool) -> None:
    """Nobody has heard of the attempt: it is placed once more when the store is there again."""

    async def ride_out() -> bool:
        return back

    stores = stores._replace(leases=Broken(1))
    worker = ScriptedWorker(stores)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway, ride_out=ride_out)
        if back:
            assert (await bench.run(turn())).text == "ab"
            assert len(worker.jobs) == 1
        else:
            failure = await bench.failure(turn())
            assert isinstance(failure.error, StoreUnavailable)
            assert worker.jobs == []


async def test_lv_34_the_second_turn_continues_the_session_with_the_newest_message_alone(
    stores: Stores,
) -> None:
    """Given a reply R1 whose pushes name session s-9; expect ask 2 in s-9, isReply, with "B" alone."""

    async def other_session(job: Job) -> None:
        await job.accept()
        await job.say("R1", session="s-9")
        await job.chat_finish("R1", session="s-9")

    worker = ScriptedWorker(stores, "w", other_session)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway)
        await bench.run(turn(said("user", "A")))
        await bench.run(turn(said("user", "A"), said("assistant", "R1"), said("user", "B")))
        first, second = (job.ask for job in worker.jobs)
        assert (first["isReply"], first["questionText"]) == (False, "A")
        assert (second["isReply"], second["questionText"], second["sessionId"]) == (True, "B", "s-9")


async def test_a_session_is_used_once_and_never_again_under_its_old_key(stores: Stores) -> None:
    worker = ScriptedWorker(stores)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway)
        await bench.run(turn(said("user", "A")))
        history = (said("user", "A"), said("assistant", "ab"))
        await bench.run(turn(*history, said("user", "B")))
        await bench.run(turn(*history, said("user", "B")))
        assert [job.ask["isReply"] for job in worker.jobs] == [False, True, False]


async def test_lv_35_other_tenants_and_tools_use_no_session(stores: Stores) -> None:
    """Given turn 2 with another key, or with tools; expect the full transcript and no reply flag."""
    worker = ScriptedWorker(stores)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway)
        history = (said("user", "A"), said("assistant", "ab"), said("user", "B"))
        await bench.run(turn(said("user", "A")))
        await bench.run(turn(*history, tenant="other"))
        await bench.run(turn(*history, tools_mentioned=True))
        assert [job.ask["isReply"] for job in worker.jobs] == [False, False, False]
        assert worker.jobs[1].ask["questionText"] == "user: A\n\nassistant: ab\n\nuser: B"
        await bench.run(turn(*history))
        assert worker.jobs[-1].ask["isReply"] is True


@pytest.mark.parametrize("stream", [True, False])
async def test_lv_38_another_session_at_the_first_push_is_a_lost_context(
    stores: Stores, stream: bool
) -> None:
    """Given an answer that names another session; expect one retry with the full history."""

    async def forgetful(job: Job) -> None:
        await job.accept()
        await job.say("what?", session="s-new")
        await job.cancelled.wait()
        await job.finish("cancelled")

    worker = ScriptedWorker(stores, "w", answers, forgetful)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway)
        await bench.run(turn(said("user", "A")))
        subject = turn(said("user", "A"), said("assistant", "ab"), said("user", "B"), stream=stream)
        with pytest.raises(AttemptFailed) as caught:
            await bench.frames(bench.call(subject))
        assert caught.value.again == "fresh"
        result = fold(await bench.frames(bench.call(subject, attempt=2, fresh=True)))
        bench.executor.conclude(subject)
        assert result.text == "ab"
        assert [job.ask["isReply"] for job in worker.jobs] == [False, True, False]
        assert [job.envelope.attempt for job in worker.jobs] == [1, 1, 2]
        await until(lambda: worker.jobs[1].cancelled.is_set(), "the cancel of the fenced attempt")


async def test_another_session_at_the_finish_retries_only_what_was_not_streamed(stores: Stores) -> None:
    async def forgetful(job: Job) -> None:
        await job.accept()
        await job.say("what?")
        await job.chat_finish("what?", session="s-new")

    for stream in (False, True):
        worker = ScriptedWorker(stores, f"w{stream}", answers, forgetful)
        async with GatewaySide(stores, f"r{stream}").running(worker) as gateway:
            bench = Bench(gateway)
            await bench.run(turn(said("user", "A")))
            subject = turn(said("user", "A"), said("assistant", "ab"), said("user", "B"), stream=stream)
            if stream:
                assert (await bench.run(subject)).text == "what?"
                assert (await bench.cache.stats())["size"] == 0
            else:
                assert (await bench.failure(subject)).again == "fresh"
        await worker.vanish()


async def test_a_session_that_is_refused_is_tried_fresh(stores: Stores) -> None:
    async def unknown_session(job: Job) -> None:
        await job.accept()
        await job.chat_finish(status=500)

    worker = ScriptedWorker(stores, "w", answers, unknown_session)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway)
        await bench.run(turn(said("user", "A")))
        failure = await bench.failure(turn(said("user", "A"), said("assistant", "ab"), said("user", "B")))
        assert failure.again == "fresh"


async def test_lv_39_a_session_whose_instance_is_gone_is_not_used_elsewhere(stores: Stores) -> None:
    """Given a session on a worker that has left; expect the full history on another one, no reply flag."""
    one, other = ScriptedWorker(stores, "one"), ScriptedWorker(stores, "two")
    async with GatewaySide(stores).running(one) as gateway:
        bench = Bench(gateway)
        await bench.run(turn(said("user", "A")))
        await one.vanish()
        async with GatewaySide(stores, "r2").running(other) as second:
            bench2 = Bench(second)
            bench2.executor._sessions = bench.executor._sessions
            await bench2.run(turn(said("user", "A"), said("assistant", "ab"), said("user", "B")))
    assert other.jobs[0].ask["isReply"] is False


async def test_a_full_instance_is_waited_for_when_it_owns_the_session(stores: Stores) -> None:
    release = asyncio.Event()

    async def slow(job: Job) -> None:
        await job.accept()
        await release.wait()
        await job.say("x")
        await job.chat_finish("x")

    one, other = ScriptedWorker(stores, "a", answers, slow, capacity=1), ScriptedWorker(stores, "b")
    async with GatewaySide(stores).running(one) as gateway:
        bench = Bench(gateway)
        await bench.run(turn(said("user", "A")))
        async with asyncio.TaskGroup() as group:
            group.create_task(bench.run(turn(said("user", "Z"))))
            await until(lambda: len(one.jobs) == 2, "the slot to be taken")
            await other.beat()
            await gateway.directory.refresh()
            follow_up = turn(said("user", "A"), said("assistant", "ab"), said("user", "B"))
            task = group.create_task(bench.run(follow_up))
            await asyncio.sleep(0.05)
            assert not task.done()
            release.set()
        assert [job.ask["isReply"] for job in one.jobs] == [False, False, True]
        assert other.jobs == []


async def test_a_declined_turn_goes_to_another_worker(stores: Stores) -> None:
    async def declines(job: Job) -> None:
        await job.decline()

    one, other = ScriptedWorker(stores, "a", declines, declines), ScriptedWorker(stores, "b", declines)
    async with GatewaySide(stores).running(one, other) as gateway:
        result = await Bench(gateway).run(turn())
        assert result.text == "ab"
        attempts = sorted(job.envelope.attempt for job in [*one.jobs, *other.jobs])
        assert attempts == list(range(1, len(attempts) + 1))
        assert await gateway.slots_used(one, other) == 0


async def test_no_worker_at_all_is_unavailable_with_a_remedy(stores: Stores) -> None:
    async with GatewaySide(stores).running() as gateway:
        failure = await Bench(gateway).failure(turn(), queue_s=0.05)
        assert isinstance(failure.error, UpstreamUnavailable)
        assert "lingma-gateway work" in failure.error.message
        assert failure.again == "next"


async def test_an_instance_that_needs_a_login_is_named_in_the_remedy(stores: Stores) -> None:
    worker = ScriptedWorker(stores)
    worker.ready, worker.login = False, "login_required"
    async with GatewaySide(stores).running(worker) as gateway:
        failure = await Bench(gateway).failure(turn(), queue_s=0.05)
        assert isinstance(failure.error, UpstreamUnavailable)
        assert "LINGMA_SESSION_BUNDLE" in failure.error.message


async def test_full_slots_are_a_queue_timeout(stores: Stores) -> None:
    worker = ScriptedWorker(stores, "w", capacity=1)
    async with GatewaySide(stores).running(worker) as gateway:
        await stores.leases.acquire(stores.keys.slots("w", 0), "x", limit=1, ttl_s=10)
        failure = await Bench(gateway).failure(turn(), queue_s=0.05)
        assert isinstance(failure.error, QueueTimeout)
        assert failure.again == "next"


async def test_lv_12_a_refused_ask_fails_at_once(stores: Stores) -> None:
    """Given chat/ask answered success:false, "quota"; expect an error at once, no waiting for a finish."""

    async def refused(job: Job) -> None:
        await job.accept()
        await job.finish("failed", error_kind="upstream_protocol", error="quota", retryable=True)

    worker = ScriptedWorker(stores, "w", refused)
    async with GatewaySide(stores).running(worker) as gateway:
        failure = await Bench(gateway).failure(turn())
        assert isinstance(failure.error, UpstreamProtocol)
        assert failure.again == "next"
        assert "quota" in failure.error.message


async def test_an_answer_that_fails_before_it_says_anything_may_be_given_by_another(stores: Stores) -> None:
    async def fails(job: Job) -> None:
        await job.accept()
        await job.chat_finish(status=500)

    async def late(job: Job) -> None:
        await job.accept()
        await job.chat_finish(status=408)

    worker = ScriptedWorker(stores, "w", fails, late)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway)
        failure = await bench.failure(turn())
        assert isinstance(failure.error, UpstreamProtocol)
        assert failure.again == "next"
        (failed,) = [
            frame.events[-1] for frame in await bench.frames(bench.call(turn())) if frame.is_terminal
        ]
        assert isinstance(failed, TurnFailed)  # who took so long may still be at work


async def test_a_process_that_dies_before_content_may_be_retried(stores: Stores) -> None:
    async def dies(job: Job) -> None:
        await job.accept()
        await job.finish("failed", error_kind="upstream_eof", error="Lingma died")

    worker = ScriptedWorker(stores, "w", dies)
    async with GatewaySide(stores).running(worker) as gateway:
        bench, subject = Bench(gateway), turn()
        with pytest.raises(AttemptFailed) as caught:
            await bench.frames(bench.call(subject))
        assert isinstance(caught.value.error, UpstreamEof)
        assert caught.value.again == "retry"
        result = fold(await bench.frames(bench.call(subject, attempt=2)))
        bench.executor.conclude(subject)
        assert result.text == "ab"


async def test_a_process_that_dies_in_mid_answer_ends_the_stream_with_an_error(stores: Stores) -> None:
    async def dies(job: Job) -> None:
        await job.accept()
        await job.say("par")
        await until(lambda: job.worker.jobs, "anything")
        await job.finish("failed", error_kind="upstream_eof", error="Lingma died")

    worker = ScriptedWorker(stores, "w", dies)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway)
        try:
            result = await bench.run(turn())
        except AttemptFailed:
            return  # both entries came in one read: nothing had been handed on
        assert result.text == "par"
        assert result.error is not None
        assert result.error.kind == "upstream_eof"
        assert (await bench.cache.stats())["size"] == 0


async def test_a_worker_that_vanishes_is_lost_and_its_late_words_are_refused(stores: Stores) -> None:
    writes: list[Write] = []
    resume = asyncio.Event()

    async def hangs(job: Job) -> None:
        await job.accept()
        await resume.wait()
        writes.append(await job.say("late"))

    one, other = ScriptedWorker(stores, "one", hangs), ScriptedWorker(stores, "two")
    async with GatewaySide(stores).running(one) as gateway:
        bench, subject = Bench(gateway), turn()

        async def leave() -> None:
            await until(lambda: one.jobs, "the submit")
            await one.vanish()

        failure, _ = await asyncio.gather(bench.frames(bench.call(subject)), leave(), return_exceptions=True)
        assert isinstance(failure, AttemptFailed)
        assert isinstance(failure.error, WorkerLost)
        assert failure.again == "retry"
        await other.beat()
        await gateway.directory.refresh()
        async with GatewaySide(stores, "r2").running(other):
            result = fold(await bench.frames(bench.call(subject, attempt=2)))
            resume.set()
            await until(lambda: writes, "the late write")
        bench.executor.conclude(subject)
        assert result.text == "ab"
        assert writes == [Write.FENCED]


async def test_a_client_that_leaves_stops_the_worker_and_frees_the_slot(stores: Stores) -> None:
    async def endless(job: Job) -> None:
        await job.accept()
        await job.say("x")
        await job.cancelled.wait()
        await job.finish("cancelled", reason=job.cancel_reason)

    worker = ScriptedWorker(stores, "w", endless)
    async with GatewaySide(stores).running(worker) as gateway:
        bench, subject = Bench(gateway), turn()
        bursts = bench.executor.attempt(bench.call(subject))
        await anext(bursts)
        await bursts.aclose()
        bench.executor.conclude(subject)
        await until(lambda: worker.jobs[0].cancelled.is_set(), "the cancel", 1.0)
        assert worker.jobs[0].cancel_reason == "client_gone"
        async with asyncio.timeout(2):
            while await gateway.slots_used(worker):
                await asyncio.sleep(0.01)
        assert (await bench.cache.stats())["size"] == 0


async def test_a_worker_that_ignores_a_cancel_is_fenced(stores: Stores) -> None:
    writes: list[Write] = []
    late = asyncio.Event()

    async def stubborn(job: Job) -> None:
        await job.accept()
        await job.say("x")
        await late.wait()
        writes.append(await job.say("y"))

    worker = ScriptedWorker(stores, "w", stubborn)
    async with GatewaySide(stores).running(worker) as gateway:
        bench, subject = Bench(gateway), turn()
        bursts = bench.executor.attempt(bench.call(subject))
        await anext(bursts)
        await bursts.aclose()
        bench.executor.conclude(subject)

        async def ended() -> bool:
            record = await stores.turns.get(subject.id)
            return record is not None and record.state is TurnState.CANCELLED

        await until(ended, "the turn to be ended by the gateway", 3.0)
        assert await gateway.slots_used(worker) == 0
        late.set()
        await until(lambda: writes, "the late write")
        assert writes == [Write.FENCED]


async def test_a_worker_that_is_draining_cancels_legally(stores: Stores) -> None:
    async def drains(job: Job) -> None:
        await job.accept()
        await job.finish("cancelled", reason="drain")

    worker = ScriptedWorker(stores, "w", drains)
    async with GatewaySide(stores).running(worker) as gateway:
        result = await Bench(gateway).run(turn())
        assert result.cancelled == "drain"


async def test_a_long_prompt_travels_beside_the_command(stores: Stores) -> None:
    seen: list[bytes] = []

    async def reads_blob(job: Job) -> None:
        blob = await stores.kv.kv_get(stores.keys.blob(job.envelope.turn_id))
        seen.append(blob or b"")
        assert job.submit.in_blob
        await answers(job)

    worker = ScriptedWorker(stores, "w", reads_blob)
    async with GatewaySide(stores).running(worker) as gateway:
        await Bench(gateway).run(turn(said("user", "x" * 200_000)))
    assert len(seen[0]) > 200_000


async def test_a_turn_out_of_time_is_stopped(stores: Stores) -> None:
    async def hangs(job: Job) -> None:
        await job.accept()
        await job.say("x")
        await job.cancelled.wait()
        await job.finish("cancelled")

    worker = ScriptedWorker(stores, "w", hangs)
    async with GatewaySide(stores).running(worker) as gateway:
        bench, subject = Bench(gateway), turn()
        call = bench.call(subject)
        call.deadline_ms = CLOCK.now_ms() - 900
        frames = await bench.frames(call)
        events: list[TurnEvent] = [event for frame in frames for event in frame.events]
        bench.executor.conclude(subject)
        assert isinstance(events[-1], TurnFailed)
        assert events[-1].error.kind == "upstream_timeout"
        await until(lambda: worker.jobs[0].cancelled.is_set(), "the cancel", 1.0)


async def test_a_worker_that_was_restarted_before_content_is_retried(stores: Stores) -> None:
    async def given_up(job: Job) -> None:
        await job.accept()
        await job.finish("lost")

    worker = ScriptedWorker(stores, "w", given_up)
    async with GatewaySide(stores).running(worker) as gateway:
        bench, subject = Bench(gateway), turn()
        with pytest.raises(AttemptFailed) as caught:
            await bench.frames(bench.call(subject))
        assert isinstance(caught.value.error, WorkerLost)
        assert caught.value.again == "retry"
        result = fold(await bench.frames(bench.call(subject, attempt=2)))
        bench.executor.conclude(subject)
        assert result.text == "ab"


@pytest.mark.parametrize("texts", [[""], ["", "  \n"]])
async def test_messages_without_any_text_are_refused_before_a_slot_is_taken(
    stores: Stores, texts: list[str]
) -> None:
    worker = ScriptedWorker(stores)
    async with GatewaySide(stores).running(worker) as gateway:
        failure = await Bench(gateway).failure(turn(*(said("user", text) for text in texts)))
        assert isinstance(failure.error, InvalidRequest)
        assert failure.error.param == "messages"
        assert worker.jobs == []


async def test_an_empty_newest_message_is_sent_with_the_history(stores: Stores) -> None:
    worker = ScriptedWorker(stores)
    async with GatewaySide(stores).running(worker) as gateway:
        bench = Bench(gateway)
        await bench.run(turn(said("user", "A")))
        await bench.run(turn(said("user", "A"), said("assistant", "ab"), said("user", "")))
        assert [job.ask["isReply"] for job in worker.jobs] == [False, False]


async def test_upstream_words_reach_the_client_without_secrets(stores: Stores) -> None:
    async def refused(job: Job) -> None:
        await job.accept()
        await job.finish("failed", error_kind="upstream_protocol", error="bad token=abc123 sk-0123456789abc")

    worker = ScriptedWorker(stores, "w", refused)
    async with GatewaySide(stores).running(worker) as gateway:
        failure = await Bench(gateway).failure(turn())
        assert "abc123" not in failure.error.message
        assert "sk-0123456789abc" not in failure.error.message
