"""Run attempts on Lingma: find an instance, hand the ask to its worker, decode what comes back.

Sessions: a turn that continues a known conversation claims its session and goes to the instance that owns it
with the newest message alone. A session is written back, under its new key, only after a clean finish. When
Lingma answers in another session than the one asked for, the context is lost: before any content was released
the engine is told to begin again with the full history.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial

import msgspec

from gateway.jobs.client import JobClient, JobTurn
from gateway.jobs.directory import Directory, Placement, Wish
from gateway.jobs.messages import (
    Accepted,
    Declined,
    Finished,
    FrameBatch,
    Heartbeat,
    Reply,
    Submit,
    slot_holder,
)
from gateway.kernel.aio import shielded
from gateway.kernel.clock import Clock
from gateway.kernel.errors import (
    ErrorKind,
    GatewayError,
    InvalidRequest,
    QueueTimeout,
    StoreError,
    StoreUnavailable,
    UpstreamEof,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
    WorkerLost,
)
from gateway.kernel.ids import derived_uuid
from gateway.kernel.waiting import WaitingRoom
from gateway.sessions.policy import Session, SessionPolicy, affinity
from gateway.store.outage import never_away, once_more
from gateway.telemetry.redact import redact_text
from gateway.turn import events as ev
from gateway.turn.estimate import input_tokens
from gateway.turn.frame import Burst, Frame
from gateway.turn.losses import Loss
from gateway.turn.ports import Again, AttemptFailed, Call, Capabilities
from gateway.turn.request import Turn
from gateway.upstreams.lingma.decode import EXECUTOR, LingmaDecoder
from gateway.upstreams.lingma.errors import again_after, error_of
from gateway.upstreams.lingma.request import (
    AskMode,
    ToolPolicy,
    ask_mode,
    build_ask,
    has_text,
    last_user_text,
    losses_of,
)
from gateway.upstreams.lingma.structured import wants_json

log = logging.getLogger(__name__)

REFRESH_WHEN_EMPTY_S = 0.25
RETRY_AFTER_S = 1.0
STOP_S = 1.0


class LingmaOptions(msgspec.Struct, frozen=True, kw_only=True):
    default_ask_mode: AskMode = "chat"
    sticky_wait_s: float = 5.0
    """How long a turn waits for the full instance that owns its session before it goes elsewhere."""
    queue_max: int = 256
    tools: ToolPolicy = ToolPolicy()
    ride_out: Callable[[], Awaitable[bool]] = never_away


class LingmaExecutor:
    name = EXECUTOR
    capabilities = Capabilities(images=False, tools="text", reasoning="plain")

    def __init__(
        self,
        jobs: JobClient,
        directory: Directory,
        sessions: SessionPolicy,
        clock: Clock,
        options: LingmaOptions,
    ) -> None:
        self._jobs = jobs
        self._directory = directory
        self._sessions = sessions
        self._clock = clock
        self._options = options
        self._room = WaitingRoom(max_waiting=options.queue_max)
        self._refreshed_at = 0.0
        directory.on_change.append(self._room.announce)

    @property
    def queued(self) -> int:
        """Turns that wait for a slot on this replica."""
        return self._room.waiting

    def losses(self, turn: Turn, model: str) -> Sequence[Loss]:
        return losses_of(turn, self._options.tools)

    async def attempt(self, call: Call) -> AsyncGenerator[Burst, None]:
        """One attempt; see the Executor port."""
        job = self._jobs.turn(call.turn)
        job.trace = call.trace
        attempt = _Attempt(self, call, job)
        try:
            await attempt.start()
            while not attempt.ended:
                if burst := await attempt.next():
                    yield burst
        except GatewayError as error:
            yield await attempt.fail(error)
        finally:
            if not attempt.ended:
                await shielded(job.stop(call.cancel_reason), within_s=STOP_S)
            self._room.announce()

    def conclude(self, turn: Turn) -> None:
        self._jobs.conclude(turn.id)

    # -- placement ----------------------------------------------------------------------------------------

    async def place(
        self, call: Call, session: Session | None, excluded: frozenset[str], holder: str
    ) -> Placement:
        """A slot on the session's instance or, failing that, on any. Raises AttemptFailed."""
        if session is not None and (placement := await self._sticky(session, call, holder)) is not None:
            return placement
        wish = Wish(model=call.model, affinity=affinity(call.turn), excluded=excluded)
        seen_ready = False

        async def attempt() -> Placement | None:
            nonlocal seen_ready
            if not self._directory.candidates():
                await self._refresh()
            seen_ready = seen_ready or bool(self._directory.suitable(wish))
            return await self._directory.place(wish, holder)

        placement = await self._room.wait_for(attempt, until=call.queue_until)
        if placement is not None:
            return placement
        if seen_ready:
            raise QueueTimeout(
                "Too many in-flight requests; no Lingma slot became free in time", retry_after_s=RETRY_AFTER_S
            )
        raise UpstreamUnavailable(self._directory.remedy(), retry_after_s=5)

    async def _sticky(self, session: Session, call: Call, holder: str) -> Placement | None:
        """Wait for the owner of the session a little while it is healthy but full."""
        loop = asyncio.get_running_loop()
        until = min(call.queue_until, loop.time() + self._options.sticky_wait_s)
        while (candidate := self._directory.find(session.instance)) is not None:
            if (placement := await self._directory.reserve(candidate, holder)) is not None:
                return placement
            if loop.time() >= until:
                return None
            await asyncio.sleep(min(0.05, max(0.0, until - loop.time())))
        return None

    async def _refresh(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._refreshed_at >= REFRESH_WHEN_EMPTY_S:
            self._refreshed_at = now
            await self._directory.refresh()

    @property
    def parts(self) -> tuple[JobClient, SessionPolicy, Clock, LingmaOptions]:
        return self._jobs, self._sessions, self._clock, self._options


class _Attempt:
    """The state of one attempt; `attempt()` above drives it."""

    def __init__(self, executor: LingmaExecutor, call: Call, job: JobTurn) -> None:
        self._executor = executor
        self._jobs, self._sessions, self._clock, self._options = executor.parts
        self._call = call
        self._turn = call.turn
        self._job = job
        self._mode = ask_mode(call.turn, self._options.default_ask_mode)
        self._session: Session | None = None
        self._placement: Placement | None = None
        self._decoder: LingmaDecoder
        self._excluded: frozenset[str] = frozenset()
        self._released = False
        """Content has been handed on."""
        self._held: Burst = []
        self._hold = False
        self.ended = False
        loop = asyncio.get_running_loop()
        self._until = loop.time() + max(0.0, (call.deadline_ms - self._clock.now_ms()) / 1000) + STOP_S

    # -- start --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Find an instance and submit; again elsewhere when a worker declines."""
        if not has_text(self._turn.items):
            raise InvalidRequest("There is no text in the messages", param="messages")
        if not self._call.fresh and last_user_text(self._turn.items).strip():
            with self._call.stage("session.claim") as stage:
                self._session = await self._sessions.claim(self._turn, self._mode)
                stage.tell(gateway__session__found=self._session is not None)
        await self._submit()

    async def _submit(self) -> None:
        number = self._job.attempts + 1
        holder = slot_holder(self._turn.id, number)
        with self._call.stage("place") as stage:
            place = partial(self._executor.place, self._call, self._session, self._excluded, holder)
            placement = await once_more(place, self._options.ride_out)  # nobody has heard of it yet
            stage.tell(gateway__instance=placement.full_name)
        self._placement = placement
        session = self._session
        if session is not None and session.instance != placement.full_name:
            session = self._session = None  # it belongs to a process that cannot take the turn
        request_id = derived_uuid(self._turn.id, "ask", number)
        ask = build_ask(
            self._turn,
            model=self._call.model,
            mode=self._mode,
            request_id=request_id,
            session_id=session.session_id if session else derived_uuid(self._turn.id, "session", number),
            is_reply=session is not None,
            tools=self._options.tools.offered(self._turn),
        )
        self._decoder = LingmaDecoder(
            self._turn.id,
            self._turn.model,
            self._turn.created_at_ms // 1000,
            # Of the whole conversation, whatever part of it Lingma still knows.
            prompt_tokens=input_tokens(self._turn),
            attempt=number,
            json_only=wants_json(self._turn.output_format),
        )
        self._hold = session is not None and not self._turn.stream
        submit = Submit(
            instance=placement.instance,
            params=ask.params,
            upstream_request_id=request_id,
            session_id=ask.session_id,
            deadline_ms=self._call.deadline_ms,
        )
        try:
            with self._call.stage("submit") as stage:
                submit.traceparent, _ = stage.trace
                await self._job.submit(placement, number, submit)
        except StoreError:
            with contextlib.suppress(StoreUnavailable):
                await self._jobs.directory.release(placement)
            raise

    # -- reading ------------------------------------------------------------------------------------------

    async def next(self) -> Burst:
        """The next burst to hand on, perhaps empty. Raises GatewayError, AttemptFailed."""
        try:
            replies = await self._job.next(until=self._until)
        except TimeoutError as error:
            raise UpstreamTimeout("the turn reached its time limit", phase="total") from error
        burst: Burst = []
        for reply in replies:
            await self._take(reply, burst)
        self._check_refusal(burst)
        if burst and burst[-1].is_terminal:
            await self._finish(burst[-1].events[-1])
        return self._release(burst)

    async def _take(self, reply: Reply, burst: Burst) -> None:
        match reply:
            case FrameBatch():
                feed, seq = self._decoder.feed, reply.seq_first
                for raw in reply.frames:
                    burst.append(feed(raw, seq))
                    seq += 1
                self._check_context()
            case Accepted():
                pass
            case Heartbeat():
                burst.append(Frame((ev.Heartbeat(),)))
            case Declined():
                await self._declined(reply)
            case Finished():
                self._take_finished(reply, burst)

    def _check_context(self) -> None:
        """Lingma answers in another session than the one asked for: it does not know what was said before."""
        session = self._session
        seen = self._decoder.first_session_id
        if session is None or not seen or self._released:
            return
        wrong = seen != session.session_id
        late = self._decoder.ended and self._decoder.session_id != session.session_id
        if wrong or (late and self._hold):
            log.info("session.context_lost", extra={"turn_id": self._turn.id})
            raise AttemptFailed(UpstreamEof("Lingma lost the context of this conversation"), again="fresh")

    def _check_refusal(self, burst: Burst) -> None:
        """It failed and said nothing: nobody may know the session any more, or others may do better."""
        if self._released:
            return
        match [event for frame in burst for event in frame.events if ev.is_content(event)]:
            case [ev.TurnFailed(error=error)] if error.kind is ErrorKind.UPSTREAM_PROTOCOL:
                again: Again = "fresh" if self._session else "next"
                raise AttemptFailed(UpstreamProtocol(error.message), again=again)
            case _:
                pass

    async def _declined(self, reply: Declined) -> None:
        placement = self._placement
        assert placement is not None
        log.info(
            "turn.declined",
            extra={"turn_id": self._turn.id, "instance": placement.full_name, "reason": reply.reason},
        )
        await self._jobs.directory.release(placement)
        self._excluded |= {placement.full_name}
        await self._submit()

    def _take_finished(self, reply: Finished, burst: Burst) -> None:
        if self._decoder.ended:
            return
        match reply.outcome:
            case "completed":
                if (frame := self._decoder.eof()) is not None:
                    burst.append(frame)
            case "cancelled":
                reason: ev.CancelReason = "drain" if reply.reason == "drain" else "admin"
                burst.append(Frame((ev.TurnCancelled(reason),)))
            case "lost":
                # Its worker was started anew and has given the attempt up: fenced, and never sent again.
                raise WorkerLost(redact_text(reply.error) or "the worker that ran this turn was restarted")
            case "failed":
                error = error_of(reply)
                if not self._released and not any(frame.has_content for frame in burst):
                    raise AttemptFailed(error, again=self._again(reply))
                raise error

    def _again(self, reply: Finished) -> Again:
        """A refused ask may go to another instance, a dead process to any; a time limit is final."""
        if reply.retryable:
            assert self._placement is not None
            others = {c.full_name for c in self._jobs.directory.candidates()} - {self._placement.full_name}
            return "retry" if others else "next"
        return "retry" if reply.error_kind == UpstreamEof.kind else "no"

    def _release(self, burst: Burst) -> Burst:
        """Hold back what a retry may still replace: a non-stream turn in a session, until its end."""
        if self._hold and not self.ended:
            self._held.extend(burst)
            return []
        if self._held:
            burst, self._held = self._held + burst, []
        if not self._released:
            self._released = any(frame.has_content for frame in burst)
        return burst

    # -- the end ------------------------------------------------------------------------------------------

    async def _finish(self, terminal: ev.TurnEvent) -> None:
        self.ended = True
        placement = self._placement
        if not isinstance(terminal, ev.TurnCompleted) or placement is None:
            return
        late_loss = self._session is not None and self._decoder.session_id != self._session.session_id
        if late_loss:
            log.info("session.context_lost", extra={"turn_id": self._turn.id})
            return
        await self._sessions.remember(
            self._turn,
            self._mode,
            reply_text=self._decoder.reply_text,
            session_id=self._decoder.session_id,
            instance=placement.full_name,
        )

    async def fail(self, error: GatewayError) -> Burst:
        """The attempt cannot go on. Raises AttemptFailed while the client has seen nothing."""
        if isinstance(error, WorkerLost):
            self._job.lost = True
        if not self._released and not self.ended:
            raise AttemptFailed(error, again=again_after(error)) from error
        self._call.cancel_reason = "deadline" if isinstance(error, UpstreamTimeout) else "admin"
        return [Frame((ev.TurnFailed(ev.error_info(error)),))]
