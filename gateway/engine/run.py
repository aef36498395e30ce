"""The one orchestration of a turn: admission, routing, attempts, grammar, observers, a legal end.

A TurnRun is iterated once, by the task that answers the client. It yields bursts of frames whose events keep
turn/grammar.py. An error before the first frame is raised as a GatewayError; afterwards every failure is a
terminal event, so the client always gets its protocol's own end. Closing it early stops the upstream work.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import msgspec
from opentelemetry import trace

from gateway.engine.admission import Admission, Admitted
from gateway.engine.drain import Drain
from gateway.engine.observers import Observers, TurnRecorder
from gateway.engine.retry import Plan
from gateway.engine.routing import Candidate, Route, Router
from gateway.kernel.aio import shielded
from gateway.kernel.clock import Clock
from gateway.kernel.errors import GatewayError, Internal, Overloaded, QueueTimeout, UpstreamUnavailable
from gateway.store.outage import never_away
from gateway.telemetry.spans import TurnSpan, exemplar, stage_span, turn_span
from gateway.turn.events import (
    CancelReason,
    TurnCancelled,
    TurnEvent,
    TurnFailed,
    TurnStarted,
    error_info,
)
from gateway.turn.frame import Burst, Frame
from gateway.turn.grammar import Repair
from gateway.turn.losses import Loss
from gateway.turn.model_name import with_named_effort
from gateway.turn.ports import AttemptFailed, Call, Executor
from gateway.turn.request import Turn

log = logging.getLogger(__name__)

CLOSE_S = 2.0
"""Bound of the cleanup when a turn is cut short."""


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    turn_timeout_s: float = 600.0
    queue_timeout_s: float = 30.0


class Engine:
    """What every turn of this replica shares."""

    def __init__(
        self,
        *,
        router: Router,
        admission: Admission,
        drain: Drain,
        recorder: TurnRecorder,
        clock: Clock,
        limits: EngineLimits,
        tracer: trace.Tracer | None = None,
        trace_content: bool = False,
        ride_out: Callable[[], Awaitable[bool]] = never_away,
    ) -> None:
        """ride_out: waits for a store that has just gone."""
        self.ride_out = ride_out
        self.tracer = tracer or trace.NoOpTracer()
        self.trace_content = trace_content
        """Spans may hold what was asked and answered."""
        self.router = router
        self.admission = admission
        self.drain = drain
        self.recorder = recorder
        self.clock = clock
        self.limits = limits

    def run_turn(self, turn: Turn) -> "TurnRun":
        return TurnRun(self, with_named_effort(turn))


class TurnRun:
    """One turn being run. Iterate it, then close it."""

    def __init__(self, engine: Engine, turn: Turn) -> None:
        self._engine = engine
        self._turn = turn
        self.losses: list[Loss] = list(turn.losses)
        """Those of the attempt that answers, complete when the first burst has arrived."""
        self._observers = Observers(turn, engine.recorder, engine.clock, keep_items=engine.trace_content)
        self._observers.figures.losses = self.losses
        self._observers.figures.exemplar = exemplar()
        self._started = TurnStarted(model=turn.model, created_at=turn.created_at_ms // 1000)
        self._repair = Repair(self._started)
        self._said_start = False
        self._over = False
        """Nothing of it is left running."""
        self._call: Call | None = None
        self._cancel_reason: CancelReason | None = None
        self._reader: asyncio.Task[object] | None = None
        self._is_read = False
        """The reader waits for the next burst."""
        self._bursts = self._run()

    # -- the consumer's side ------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Burst]:
        return self

    async def __anext__(self) -> Burst:
        if self._cancel_reason is not None and not self._repair.ended and self._said_start:
            # Cancelled while the consumer was busy sending: the generator learns of it now.
            return await self._bursts.athrow(asyncio.CancelledError())
        if self._reader is None:
            self._reader = asyncio.current_task()
        self._is_read = True
        try:
            return await anext(self._bursts)
        finally:
            self._is_read = False

    async def aclose(self) -> None:
        """Stop the work if it still runs, and record the turn. Bounded; safe to call twice."""
        if not self._over:
            await shielded(self._bursts.aclose(), within_s=CLOSE_S)
        self._observers.close()

    def cancel(self, reason: CancelReason) -> None:
        """End the turn from outside: its client is told with a legal end."""
        if self._cancel_reason is not None or self._repair.ended:
            return
        self._cancel_reason = reason
        if self._call is not None:
            self._call.cancel_reason = reason
        if self._is_read and self._reader is not None:
            self._reader.cancel()

    # -- the orchestration --------------------------------------------------------------------------------

    async def _run(self) -> AsyncGenerator[Burst, None]:
        engine = self._engine
        engine.drain.enter(self)
        admitted: Admitted | None = None
        try:
            queue_until = asyncio.get_running_loop().time() + engine.limits.queue_timeout_s
            route = self._route()
            admitted = await self._admitted(queue_until)
            async with contextlib.aclosing(self._attempts(route, queue_until)) as bursts:
                async for burst in bursts:
                    yield burst
        except asyncio.CancelledError:
            if self._cancel_reason is None:
                raise
            if (task := asyncio.current_task()) is not None:
                task.uncancel()
            yield self._end(TurnCancelled(self._cancel_reason))
        except GatewayError as error:
            if not self._said_start:
                self._observers.refused(error.kind)
                raise
            yield self._end(TurnFailed(error_info(error)))
        except Exception as error:
            log.exception("turn.crashed", extra={"turn_id": self._turn.id})
            internal = Internal("the gateway failed to process this request")
            if not self._said_start:
                self._observers.refused(internal.kind)
                raise internal from error
            yield self._end(TurnFailed(error_info(internal)))
        finally:
            try:
                if admitted is not None:
                    await admitted.leave()
            finally:
                self._observers.figures.repairs = self._repair.repairs
                self._observers.close()
                engine.drain.leave(self)
                self._over = True

    def _route(self) -> Route:
        engine = self._engine
        if engine.drain.state == "closed":
            raise UpstreamUnavailable("This replica is shutting down; please try again", retry_after_s=1)
        with stage_span(engine.tracer, "route") as stage:
            route = engine.router.route(self._turn)
            stage.tell(gateway__candidates=len(route.candidates))
        return route

    async def _admitted(self, queue_until: float) -> Admitted:
        engine = self._engine
        with stage_span(engine.tracer, "admission"):
            await engine.ride_out()
            admitted = await engine.admission.admit(self._turn, until=queue_until)
        figures = self._observers.figures
        figures.queued_s = engine.clock.monotonic() - figures.started_at
        return admitted

    async def _attempts(self, route: Route, queue_until: float) -> AsyncGenerator[Burst, None]:
        """Attempts, each under its span, until one has sent content or none may follow."""
        plan = Plan(candidates=len(route.candidates))
        used: list[Executor] = []
        try:
            while True:
                plan.begin()
                candidate = route.candidates[plan.index]
                if candidate.executor not in used:
                    used.append(candidate.executor)
                self.losses[:] = _losses(self._turn, route, candidate)
                call = self._order(candidate, plan, queue_until)
                try:
                    with self._span(candidate, call) as span:
                        self._begin(call, span)
                        try:
                            async with contextlib.aclosing(candidate.executor.attempt(call)) as bursts:
                                async for burst in bursts:
                                    if legal := self._legal(burst):
                                        yield legal
                                    if self._repair.ended:
                                        return
                            yield self._end(None)
                            return
                        finally:
                            self._finish(call, span)
                except AttemptFailed as failure:
                    failed = (candidate.executor.name, str(failure.error.kind))
                    self._observers.figures.failed_attempts.append(failed)
                    error = self._after(failure, plan)
                if error is not None:
                    # Not while the failure is handled: both would hold each other and, by their tracebacks,
                    # everything that the attempt has read, until the garbage is looked at.
                    try:
                        raise error
                    finally:
                        del error
                if plan.pause_s:
                    await asyncio.sleep(plan.pause_s)
        finally:
            for executor in used:
                executor.conclude(self._turn)

    def _span(self, candidate: Candidate, call: Call) -> contextlib.AbstractContextManager[TurnSpan]:
        return turn_span(
            self._engine.tracer,
            upstream=candidate.executor.name,
            model=candidate.model,
            turn_id=self._turn.id,
            attempt=call.attempt,
            stream=self._turn.stream,
            request_id=self._turn.request_id,
        )

    def _begin(self, call: Call, span: TurnSpan) -> None:
        call.trace, call.stage = span.trace, span.stage
        if self._engine.trace_content:
            span.asks(self._turn.items)

    def _finish(self, call: Call, span: TurnSpan) -> None:
        figures = self._observers.figures
        figures.replayed += [(figures.upstream, what) for what in call.replayed]
        if not span.is_recording:
            return
        if figures.first_content_at is not None:
            span.first_content(figures.first_content_at - figures.started_at)
        if self._observers.items:
            span.answers(self._observers.items, figures.finish)
        span.finish(
            outcome=figures.outcome,
            finish=figures.finish,
            error_kind=figures.error_kind,
            usage=figures.usage,
            losses=[str(loss) for loss in dict.fromkeys(self.losses)],
        )

    def _order(self, candidate: Candidate, plan: Plan, queue_until: float) -> Call:
        """The next attempt, and the figures that say who makes it."""
        figures = self._observers.figures
        figures.attempts = plan.attempts
        figures.upstream = candidate.executor.name
        figures.model = candidate.model
        timeout_ms = round(self._engine.limits.turn_timeout_s * 1000)
        self._call = Call(
            turn=self._turn,
            model=candidate.model,
            account=candidate.account,
            attempt=plan.attempts,
            deadline_ms=self._turn.created_at_ms + timeout_ms,
            queue_until=queue_until,
            fresh=plan.fresh,
        )
        return self._call

    def _after(self, failure: AttemptFailed, plan: Plan) -> GatewayError | None:
        """What ends the turn; None when another attempt may follow."""
        if not plan.after(failure):
            if isinstance(failure.error, QueueTimeout | Overloaded):
                self._engine.admission.reject()
            return failure.error
        log.info(
            "turn.retried",
            extra={"turn_id": self._turn.id, "again": failure.again, "kind": str(failure.error.kind)},
        )
        return None

    # -- every frame passes here --------------------------------------------------------------------------

    def _legal(self, burst: Burst) -> Burst:
        """The burst with its events in legal order; frames that say nothing are left out."""
        out: Burst = []
        for frame in burst:
            if self._repair.ended:
                break  # the stream of a client is over, whatever its upstream goes on to say
            events = frame.events
            if self._said_start and events and type(events[0]) is TurnStarted:
                events = events[1:]  # a later attempt: the client knows already
            legal = self._repair.feed(events)
            if legal:
                self._said_start = True
                self._observers.see(legal)
            elif not (frame.size and self._said_start):
                continue  # else a client of the same dialect gets the bytes
            out.append(frame if legal is frame.events else msgspec.structs.replace(frame, events=legal))
        return out

    def _end(self, terminal: TurnFailed | TurnCancelled | None) -> Burst:
        events: tuple[TurnEvent, ...] = self._repair.eof(terminal)
        self._said_start = True
        self._observers.see(events)
        return [Frame(events)]


def _losses(turn: Turn, route: Route, candidate: Candidate) -> list[Loss]:
    """What a client is told to have lost when that candidate answers."""
    executor = candidate.executor
    read = () if executor.capabilities.speaks == turn.raw.dialect else turn.losses
    return [*read, *route.losses, *executor.losses(turn, candidate.model)]
