"""Runs attempts: one Run is one ask of one instance, from Accepted to Finished.

A pipe: pushes go to the turn's log as they came. Of their content it reads only which session answers, how
it ended and which native tool waits (pushes.py). Whatever happens (a cancel, a dead process, a lost fence,
a silent upstream), a run ends with one Finished, a stopped chat and a free slot. Called by consumer.py.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from opentelemetry import trace

from gateway.jobs.messages import Accepted, Declined, Envelope, Finished, Submit, ToolReply, slot_holder
from gateway.kernel.clock import Clock
from gateway.kernel.errors import ErrorKind, GatewayError, StoreUnavailable, UpstreamError
from gateway.store.keys import Keys
from gateway.store.kv import KVClient
from gateway.store.leases import Leases
from gateway.store.turnlog import Fence, TurnState, Write
from gateway.telemetry.spans import TurnSpan, worker_span
from workers import pushes
from workers.lingma.errors import AskRefused, LingmaDisconnected, LingmaNotReady
from workers.ports import Answer, Instance
from workers.publisher import BacklogFull, Publisher, Refused
from workers.stats import WorkerStats
from workers.tools import ToolDesk
from workers.watch import Ending, Limits, Watch

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
STOP_WAIT_S = 0.5
"""How long the upstream may take to confirm a stop before we go on."""
ACCEPT_LIMIT_S = 15.0
FINISH_LIMIT_S = 30.0
RELEASE_LIMIT_S = 1.0
RETRY_S = 0.1


@dataclass(slots=True)
class Runner:
    """What all runs of a worker share, and which there are."""

    worker: str
    publisher: Publisher
    leases: Leases
    kv: KVClient
    keys: Keys
    clock: Clock
    limits: Limits
    stats: WorkerStats
    tracer: trace.Tracer = field(default_factory=trace.NoOpTracer)
    runs: "dict[tuple[str, int], Run]" = field(default_factory=dict)
    """By turn and attempt."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last run has ended."""

    def open(self, envelope: Envelope, submit: Submit, instance: Instance) -> "Run":
        """Register a run; until it has ended, in_flight() counts it and a repeated Submit meets it."""
        run = Run(self, envelope, submit, instance)
        self.runs[envelope.turn_id, envelope.attempt] = run
        self.idle.clear()
        return run

    def close(self, run: "Run") -> None:
        self.runs.pop((run.turn_id, run.attempt), None)
        if not self.runs:
            self.idle.set()

    async def decline(self, envelope: Envelope, reason: str) -> None:
        """Say that this worker does not take an attempt. Raises StoreUnavailable."""
        await self.publisher.open(envelope, self.fence(envelope)).decline(Declined(reason=reason))
        self.stats.declined[reason] += 1
        log.info("turn.declined", extra={"turn_id": envelope.turn_id, "reason": reason})

    async def cancel_unbegun(self, envelope: Envelope, reason: str) -> None:
        """End an attempt that was cancelled before it came. Raises StoreUnavailable."""
        outbox = self.publisher.open(envelope, self.fence(envelope))
        finished = Finished(outcome="cancelled", reason=reason)
        written = await outbox.finish(TurnState.CANCELLED, finished, within_s=ACCEPT_LIMIT_S)
        if written is None:
            raise StoreUnavailable("the store was away for too long")
        self.stats.turns["cancelled"] += 1
        log.info("turn.cancelled_unbegun", extra={"turn_id": envelope.turn_id, "reason": reason})

    def fence(self, envelope: Envelope) -> Fence:
        """As the gateway assigned it.

        After a restart its epoch is that of an earlier incarnation. That is safe: accept() lets only one of
        the two through, and the epoch of our replies tells the gateway which.
        """
        return Fence(envelope.attempt, self.worker, envelope.epoch)

    def in_flight(self, instance: str) -> int:
        return sum(1 for run in self.runs.values() if run.instance.name == instance and run.holds_slot)

    def accepted(self) -> "list[Run]":
        return [run for run in self.runs.values() if run.accepted and run.holds_slot]


class Run:
    """One attempt. `run()` is awaited once; `stop()` may be called at any time."""

    def __init__(self, runner: Runner, envelope: Envelope, submit: Submit, instance: Instance) -> None:
        self.turn_id = envelope.turn_id
        self.attempt = envelope.attempt
        self.instance = instance
        holder = slot_holder(envelope.turn_id, envelope.attempt)
        self.slot = (runner.keys.slots(runner.worker, instance.index), holder)
        self.lease_grace_s = submit.lease_grace_s
        self.unread_since: float | None = None
        """Loop time at which heartbeat.py first found no gateway reading the turn."""
        self.accepted = False
        self.holds_slot = True
        self._runner = runner
        self._submit = submit
        self._trace = (envelope.traceparent, envelope.tracestate)
        self._fence = runner.fence(envelope)
        self._outbox = runner.publisher.open(envelope, self._fence, self._refused)
        self._session_id = submit.session_id
        self._session_seen = False
        self._ask_began = False
        """The ask may have been sent."""
        self._answering = False
        """It was sent."""
        self._tools = ToolDesk(instance.client, submit)
        self._ending: Ending | None = None
        """What stop() asked for."""
        self._scope: asyncio.Timeout | None = None

    # -- from outside -------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """End as cancelled, soon. The first reason stays."""
        self._end_with(Ending("cancelled", reason=reason, stop=True))

    def _refused(self, write: Write) -> None:
        self._end_with(Ending("refused", reason=write.value, stop=True))

    def _end_with(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            if self._scope is not None and not self._scope.expired():
                # The limit of the whole answer doubles as the way to interrupt it: see _answer().
                self._scope.reschedule(asyncio.get_running_loop().time())

    def _asked_to_end(self) -> Ending | None:
        return self._ending

    async def answer_tool(self, reply: ToolReply) -> None:
        """Pass on what a client answered to a native tool call; ignored before the ask."""
        if not self._answering:
            return
        try:
            await self._tools.reply(reply, self._session_id)
        except UpstreamError:
            log.info("turn.tool_reply_lost", extra={"turn_id": self.turn_id})

    # -- the life of an attempt ---------------------------------------------------------------------------

    async def run(self, settled: Callable[[], None]) -> None:
        """Everything from accept to release. `settled` is called once the command must not be read again.

        Raises StoreUnavailable when nobody knows whether the turn is ours: read the command again later.
        """
        try:
            if await self._take(settled):
                with self._span() as span:
                    ending = await self._answer(span)
                    span.finish(outcome=ending.outcome, error_kind=ending.kind or "")
                    await self._finish(ending)
        finally:
            self.holds_slot = False
            self._runner.close(self)
            await self._outbox.aclose()

    async def fail(self) -> None:
        """Say that the run broke; for a caller that caught what it raised."""
        await self._finish(Ending("failed", ErrorKind.INTERNAL, "the worker failed", stop=True))

    def _span(self) -> TurnSpan:
        return worker_span(
            self._runner.tracer,
            instance=f"{self._runner.worker}/{self.instance.name}",
            turn_id=self.turn_id,
            attempt=self.attempt,
            trace_of_attempt=self._trace,
            submitted=self._submit.traceparent,
        )

    async def _take(self, settled: Callable[[], None]) -> bool:
        """Make the turn ours. False when it is not, or was cancelled before it began."""
        if self._ending is not None:
            await self._finish(self._ending)
            settled()
            return False
        taken = await self._accept()
        settled()
        if taken:
            self.accepted = True
            log.info(
                "turn.accepted",
                extra={"turn_id": self.turn_id, "attempt": self.attempt, "instance": self.instance.name},
            )
        return taken

    async def _accept(self) -> bool:
        """Until the store has answered. Raises StoreUnavailable after ACCEPT_LIMIT_S without an answer."""
        entry = Accepted(worker=self._runner.worker, instance=self.instance.name)
        until = asyncio.get_running_loop().time() + ACCEPT_LIMIT_S
        in_doubt = False
        while True:
            try:
                write = await self._outbox.accept(entry)
                if write is Write.FENCED:
                    return await self._fenced_at_accept(in_doubt)
                return write is Write.OK
            except StoreUnavailable:
                if asyncio.get_running_loop().time() > until:
                    raise
                in_doubt = True
            await asyncio.sleep(RETRY_S)

    async def _fenced_at_accept(self, in_doubt: bool) -> bool:
        """A fence is accepted once. Find out whether it was this run that did, without hearing the answer."""
        publisher = self._runner.publisher
        record = await publisher.turns.get(self.turn_id)
        if record is None or record.fence != self._fence or record.state is not TurnState.RUNNING:
            log.info("turn.fenced", extra={"turn_id": self.turn_id, "attempt": self.attempt})
            self._runner.stats.turns["fenced"] += 1
            return False
        if in_doubt and self._fence.epoch == publisher.epoch:
            return True
        # Accepted by an earlier incarnation, or by a run of ours that gave up: nobody works on it.
        await self._finish(Ending("lost", ErrorKind.WORKER_LOST, "the worker was restarted"))
        return False

    async def _answer(self, span: TurnSpan) -> Ending:
        """Ask and forward until something ends it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline_s = (self._submit.deadline_ms - self._runner.clock.now_ms()) / 1000
        total_s = min(self._runner.limits.total_s, max(deadline_s, 0.0))
        watch = Watch(self._submit.upstream_request_id, began, self._runner.limits)
        if (ending := self._asked_to_end()) is not None:
            return ending
        if total_s == 0:
            return watch.timeout(total_s)
        scope = self._scope = asyncio.timeout(total_s)
        try:
            async with scope:
                try:
                    return await self._forward(watch, span)
                finally:
                    self._scope = None
        except TimeoutError:
            return self._asked_to_end() or watch.timeout(total_s)
        except Refused as refused:
            return Ending("refused", reason=refused.write.value, stop=True)
        except GatewayError as error:
            return self._broken(error)
        except BacklogFull:
            message = "the store was away for too long"
            return Ending("failed", ErrorKind.STORE_UNAVAILABLE, message, stop=True)

    def _broken(self, error: GatewayError) -> Ending:
        refused = isinstance(error, AskRefused)
        unsent = isinstance(error, LingmaNotReady) and not self._answering
        gone = isinstance(error, LingmaDisconnected | LingmaNotReady)
        return Ending(
            "failed",
            error.kind,
            error.message,
            retryable=refused or unsent,
            stop=self._answering and not (refused or gone),
        )

    async def _forward(self, watch: Watch, span: TurnSpan) -> Ending:
        params = await self._params()
        if isinstance(params, Ending):
            return params
        client = self.instance.client
        self._ask_began = True
        with span.stage("ask") as stage:
            answer = await client.ask(params, self._submit.upstream_request_id)
            self._answering = True
            with contextlib.closing(answer):
                ending = await self._forward_answer(answer, watch)
            stage.tell(gateway__outcome=ending.outcome)
        return ending

    async def _forward_answer(self, answer: Answer, watch: Watch) -> Ending:
        loop = asyncio.get_running_loop()
        while True:
            bodies = await answer.next(min(HEARTBEAT_S, watch.left_s(loop.time())))
            now = loop.time()
            if not bodies:
                if answer.ended:
                    return Ending("failed", ErrorKind.UPSTREAM_EOF, "the answer ended without saying how")
                if watch.left_s(now) <= 0:
                    return watch.timeout(watch.silence_limit_s)
                await self._outbox.heartbeat()
                continue
            watch.seen(now)
            tools: list[pushes.ToolAsk] = []
            ending: Ending | None = None
            for count, body in enumerate(bodies, 1):
                if (ending := self._note(pushes.read(body), tools)) is not None:
                    del bodies[count:]
                    break
            await self._outbox.put(bodies)
            if ending is not None:
                return ending
            for tool in tools:
                await self._tools.ask(tool, self._session_id)

    async def _params(self) -> bytes | Ending:
        """The request parameters, unread, from the command or the blob beside it."""
        body: bytes | None = self._submit.params
        if self._submit.in_blob:
            try:
                body = await self._runner.kv.kv_get(self._runner.keys.blob(self.turn_id))
            except StoreUnavailable:
                return Ending(
                    "failed", ErrorKind.STORE_UNAVAILABLE, "the request could not be read", retryable=True
                )
        if body is None:
            return Ending("failed", ErrorKind.STORE_DATA_LOSS, "the store lost the request", retryable=True)
        return body

    # -- what pushes mean to us ---------------------------------------------------------------------------

    def _note(self, push: pushes.Push, tools: list[pushes.ToolAsk]) -> Ending | None:
        if not self._session_seen and (session_id := pushes.text(push.params(), "sessionId")):
            self._session_id, self._session_seen = session_id, True
        if (tool := pushes.tool_ask(push)) is not None:
            tools.append(tool)
            return None
        ended = pushes.ending(push)
        if ended is None:
            return None
        self._session_id = ended.session_id or self._session_id
        if ended.error is None:
            return Ending("completed")
        return Ending("failed", ended.error, ended.message, stop=push.method != pushes.FINISH)

    # -- the end ------------------------------------------------------------------------------------------

    async def _finish(self, ending: Ending) -> None:
        """Stop the upstream, free the slot, write the last entry."""
        stats = self._runner.stats
        if ending.stop and self._ask_began:
            await self._stop_upstream()
        self.holds_slot = False
        await self._release_slot()
        written: Write | None = Write.FENCED
        if ending.outcome != "refused":
            written = await self._outbox.finish(
                TurnState(ending.outcome),
                Finished(
                    outcome=ending.outcome,
                    session_id=self._session_id if self._ask_began else "",
                    error_kind=ending.kind or "",
                    error=ending.message,
                    retryable=ending.retryable,
                    reason=ending.reason,
                ),
                within_s=FINISH_LIMIT_S,
            )
        outcome = ending.outcome if written is Write.OK else "fenced"
        stats.turns[outcome] += 1
        log.info(
            "turn.ended",
            extra={
                "turn_id": self.turn_id,
                "attempt": self.attempt,
                "outcome": outcome,
                "kind": ending.kind or "",
                "reason": ending.reason,
                "frames": self._outbox.seq,
            },
        )

    async def _stop_upstream(self) -> None:
        self._runner.stats.stops += 1
        try:
            async with asyncio.timeout(STOP_WAIT_S):
                await self.instance.client.stop(self._submit.upstream_request_id, self._session_id)
        except (TimeoutError, UpstreamError):
            log.info("turn.stop_unconfirmed", extra={"turn_id": self.turn_id})

    async def _release_slot(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_LIMIT_S):
                await self._runner.leases.release(*self.slot)
        except (TimeoutError, StoreUnavailable):
            log.debug("turn.slot_left_to_expire", extra={"turn_id": self.turn_id})
