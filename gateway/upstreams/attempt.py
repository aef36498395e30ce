"""One attempt on an HTTP upstream, whatever its dialect: ask, judge, decode, hold back, tell.

A *lane* knows the dialect; this module knows when an attempt may still be followed by another. Until the
first content everything is held back, so that a failure up to there leaves no trace with the client; from
there on every failure is a terminal event. What replay has to remember is kept before the client learns that
the turn is over, so that its next turn finds it.
"""

import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

import msgspec

from gateway.kernel.aio import shielded
from gateway.kernel.clock import Clock
from gateway.kernel.errors import ErrorKind, GatewayError, UpstreamError, UpstreamProtocol, UpstreamTimeout
from gateway.kernel.json import is_rich
from gateway.telemetry.redact import REDACTED
from gateway.turn.events import ErrorInfo, TurnFailed, error_info
from gateway.turn.frame import Burst, Frame, terminal_of
from gateway.turn.ports import UNTRACED, AttemptFailed, Call, Stage
from gateway.upstreams.cooldowns import Account, Cooldowns
from gateway.upstreams.faults import FAILURE_REST_S, Fault, Rest, error_of
from gateway.upstreams.http import UpstreamAnswer, UpstreamHttp, UpstreamRequest, too_long
from gateway.wire.sse import SseEvent, SseSplitter

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Unpacked, of an answer that is not streamed and of what a stream holds before content: images are long."""
MAX_STREAM_BYTES: Final = 128 * 1024 * 1024
"""Unpacked, of a stream: of what passes through something stays, such as the text of the final answer."""
MAX_VALUES: Final = 20_000
"""Of JSON in an event or an answer."""
MAX_HELD: Final = 50_000
"""Events that may come before content."""
KEEP_S: Final = 2.0
"""How long remembering may hold up the end of an answer."""
MAX_WAIT_S: Final = 31 * 86_400.0
FORGET_S: Final = 10.0
"""How long forgetting what was refused may hold up the next attempt: longer than a command to the store."""
LINGER_S: Final = 2.0
"""How long a connection may be silent behind the end of its answer."""


class Lane(Protocol):
    """The dialect's part of one attempt."""

    @property
    def ended(self) -> bool:
        """A terminal event was decoded."""
        ...

    @property
    def fault(self) -> Fault | None:
        """What the upstream said went wrong inside its stream."""
        ...

    @property
    def gives_back(self) -> bool:
        """Whether the request holds what the upstream has sealed, which an attempt could leave out."""
        ...

    async def request(self) -> UpstreamRequest:
        """Asked once, before anything else. Raises GatewayError when it cannot be made."""
        ...

    def judge(self, status: int, body: bytes, retry_after_s: float | None) -> Fault:
        """An answer that is an error."""
        ...

    def feed(self, events: Sequence[SseEvent], seq: int, into: Burst) -> None:
        """Events that came together, the first with that number. What comes before an error is there."""
        ...

    def feed_whole(self, body: bytes) -> Frame: ...

    def eof(self) -> Frame | None: ...

    def conclude(self, fault: Fault | None) -> Coroutine[Any, Any, bool] | None:
        """The attempt is over: what is to be done to remember what a next turn needs, or to forget what the
        upstream rejected; None when that is nothing. It gives whether the store has it so. Raises StoreError
        where replay is strict.
        """
        ...


class Attempt:
    """Runs one lane. Iterate `bursts()` once."""

    def __init__(
        self,
        call: Call,
        lane: Lane,
        http: UpstreamHttp,
        cooldowns: Cooldowns,
        clock: Clock,
        *,
        hold: bool = False,
        elsewhere: bool = False,
        finished: Callable[[], bool] = lambda: False,
    ) -> None:
        """`hold`: nothing is told before the end, which alone shows what the answer is worth.

        `elsewhere`: the same credential is asked at another address when nobody answers at this one, and so
        does not rest. `finished`: the answer has said its end, though more of it may follow: the end of the
        connection is not waited for long, and how it ends makes no difference.
        """
        self._call = call
        self._lane = lane
        self._http = http
        self._cooldowns = cooldowns
        self._clock = clock
        self._hold = hold
        self._elsewhere = elsewhere
        self._finished = finished
        self._held: Burst = []
        self._seen = False
        """There was content, be it held."""
        self._told_end = False
        """A terminal event was decoded."""
        self._content = False
        """The client has seen content."""
        self._puzzled = False
        """Nothing more is decoded."""
        self._seq = 0
        self._account = Account("", "")
        self._secrets: Sequence[str] = ()
        self._status = 0
        """Of the answer; 0 before there is one."""
        self._request_id = ""
        """What the upstream calls this request, to be quoted in a report to its operators."""

    async def bursts(self) -> AsyncGenerator[Burst, None]:
        """Raises AttemptFailed only before content."""
        try:
            request = await self._lane.request()
            self._account = Account(request.upstream, self._call.account)
            self._secrets = request.secrets
            last: Burst = []
            with self._call.stage("POST") as stage:
                answer = await self._asked(request, stage)
                try:
                    await self._accepted(answer)
                    if "event-stream" in answer.headers.get("content-type", "").lower():
                        async with contextlib.aclosing(self._streamed(answer)) as bursts:
                            async for burst in bursts:
                                if self._told_end:
                                    last = burst
                                    break
                                yield burst
                    else:
                        last = await self._told([self._whole(await answer.read(MAX_ANSWER_BYTES))])
                finally:
                    answer.close(ended=self._lane.ended)
            # Whoever gets it need not come back: by then nothing is left open.
            if last:
                yield last
        except GatewayError as error:
            if not self._content:
                # By no name of ours: it holds the error, which holds this frame.
                raise await self._broken_off(error) from None
            await self._broken_off(error)
            yield [Frame((TurnFailed(error_info(error)),))]

    async def _broken_off(self, error: GatewayError) -> AttemptFailed:
        """What that means for the next attempt, for the credential and for what is remembered."""
        if isinstance(error, UpstreamTimeout):
            self._tell_log("silent", error.message)
            if error.phase != "total" and not (self._elsewhere and error.phase == "connect"):
                await self._rest(Rest(FAILURE_REST_S, "silent", soft=True))
            await self._conclude(None)
            # The connection is closed, which ends the work of whoever was only slow. The next one is asked,
            # as there is time, but not all of them again.
            return AttemptFailed(error, again="no" if error.phase == "total" else "next")
        if isinstance(error, UpstreamError):
            self._tell_log("unreachable" if self._account.upstream else "no_key", error.message)
            # Nobody answered, or the answer broke off: the connection is gone, and with it the work.
            if not (self._elsewhere or self._content):
                await self._rest(Rest(FAILURE_REST_S, "unreachable", soft=True))
            await self._conclude(None)
            return AttemptFailed(error, again="next", or_again=True)
        return AttemptFailed(error)

    async def _asked(self, request: UpstreamRequest, stage: Stage) -> UpstreamAnswer:
        if stage is not UNTRACED:
            stage.tell(http__request__method="POST", url__full=request.url, server__address=request.host)
        answer = await self._http.post(request)
        stage.tell(http__response__status_code=answer.status)
        self._status = answer.status
        self._request_id = answer.headers.get("x-request-id", "")[:128]
        return answer

    async def _accepted(self, answer: UpstreamAnswer) -> None:
        """Raises AttemptFailed for an answer that is an error."""
        if answer.status != 200:
            body = await answer.read_error()
            raise await self._failed(self._judged(answer, body))
        await self._cooldowns.warm(self._account._replace(model=self._call.model))

    async def _streamed(self, answer: UpstreamAnswer) -> AsyncGenerator[Burst, None]:
        splitter = SseSplitter()
        size = 0
        try:
            async with contextlib.aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > (limit := MAX_STREAM_BYTES if self._content else MAX_ANSWER_BYTES):
                        raise too_long(self._account.upstream, limit)
                    if told := await self._told(self._decoded(splitter.feed(chunk))):
                        yield told
                    if self._lane.ended or self._puzzled:
                        return
                    if self._finished():
                        answer.hurry(LINGER_S)
        except UpstreamError:
            if not self._finished():
                raise
        rest = splitter.eof()
        burst = [] if rest is None else self._decoded([rest])
        if (last := self._last()) is not None:
            burst.append(last)
        if told := await self._told(burst):
            yield told

    def _judged(self, answer: UpstreamAnswer, body: bytes) -> Fault:
        try:
            return self._lane.judge(answer.status, body, retry_after_s(answer.headers, self._clock))
        except Exception:
            rest = Rest(FAILURE_REST_S, "failing", soft=True)
            return Fault(name="undecodable", info=self._senseless(), again="next", rest=rest)

    def _decoded(self, events: list[SseEvent]) -> Burst:
        burst: Burst = []
        first, self._seq = self._seq + 1, self._seq + len(events)
        try:
            sound = _sound(events)
            if sound:
                self._lane.feed(sound, first, burst)
            if len(sound) < len(events):
                raise ValueError("too many values")
        except Exception:
            burst.append(Frame((TurnFailed(self._senseless()),)))
        return burst

    def _last(self) -> Frame | None:
        try:
            return self._lane.eof()
        except Exception:
            return Frame((TurnFailed(self._senseless()),))

    def _whole(self, body: bytes) -> Frame:
        try:
            if is_rich(body, MAX_VALUES):
                raise ValueError("too many values")
            return self._lane.feed_whole(body)
        except Exception:
            return Frame((TurnFailed(self._senseless()),))

    def _senseless(self) -> ErrorInfo:
        """Whatever upstreams send, a decoder that stumbles over it costs the attempt and nothing else. Called
        while its exception is handled, for the log.
        """
        self._puzzled = True
        fields = {"turn_id": self._call.turn.id, "upstream": self._account.upstream}
        log.warning("upstream.undecodable", extra=fields, exc_info=True)
        message = "The upstream sent something that makes no sense"
        return ErrorInfo(kind=ErrorKind.UPSTREAM_PROTOCOL, message=message, retryable=True)

    async def _told(self, burst: Burst) -> Burst:
        """The burst, once there is content; what came before it goes with it, and nothing comes before."""
        terminal = terminal_of(burst)
        if terminal is not None:
            self._told_end = True
            if isinstance(end := terminal.events[-1], TurnFailed):
                told = TurnFailed(self._without_secrets(end.error))
                events = (*terminal.events[:-1], told)
                burst[burst.index(terminal)] = terminal = msgspec.structs.replace(terminal, events=events)
            await self._over(terminal)
        if not self._content:
            self._held += burst
            self._seen = self._seen or any(frame.has_content for frame in burst)
            self._content = self._seen and (terminal is not None or not self._hold)
            if not self._content:
                if len(self._held) > MAX_HELD:
                    raise UpstreamProtocol(f"Upstream {self._account.upstream} says nothing, over and over")
                return []
            burst, self._held = self._held, []
        return burst

    async def _over(self, terminal: Frame) -> None:
        """A terminal event was decoded. Raises AttemptFailed when it is a failure that nobody has seen."""
        end = terminal.events[-1]
        if not isinstance(end, TurnFailed):
            await self._conclude(None)
            return
        # A connection that ended inside an answer says little of whoever it was to.
        cut = self._content and end.error.kind == ErrorKind.UPSTREAM_EOF
        rest = None if cut else Rest(FAILURE_REST_S, "failing", soft=True)
        fault = self._lane.fault or Fault(name=str(end.error.kind), info=end.error, again="next", rest=rest)
        failed = await self._failed(fault)
        if not self._content:
            raise failed

    async def _failed(self, fault: Fault) -> AttemptFailed:
        fault = msgspec.structs.replace(fault, info=self._without_secrets(fault.info))
        self._tell_log(fault.name, fault.info.message)
        if fault.rest is not None:
            await self._rest(fault.rest)
        await self._conclude(fault)
        if fault.signature and self._lane.gives_back:
            return AttemptFailed(error_of(fault.info), again="fresh")
        return AttemptFailed(error_of(fault.info), again=fault.again, or_again=fault.may_pass)

    def _tell_log(self, fault: str, message: str) -> None:
        call = self._call
        log.info(
            "upstream.failed",
            extra={
                "turn_id": call.turn.id,
                "upstream": self._account.upstream,
                "account": call.account,
                "model": call.model,
                "fault": fault,
                "status": self._status,
                "upstream_request_id": self._request_id,
            },
        )
        # What it says may quote what it was asked.
        log.debug("upstream.told", extra={"turn_id": call.turn.id, "told": message})

    def _without_secrets(self, info: ErrorInfo) -> ErrorInfo:
        """Upstreams quote what they were sent, keys of the operator included."""
        message = info.message
        for secret in self._secrets:
            message = message.replace(secret, REDACTED)
        return info if message == info.message else msgspec.structs.replace(info, message=message)

    async def _rest(self, rest: Rest) -> None:
        if not self._account.upstream:
            return  # the request could not even be made
        if rest.model_only and not self._call.model:
            return
        account = self._account._replace(model=self._call.model) if rest.model_only else self._account
        await self._cooldowns.cool(account, rest.for_s, rest.reason, soft=rest.soft)

    async def _conclude(self, fault: Fault | None) -> None:
        """To its end, although the client may leave meanwhile."""
        work = self._lane.conclude(fault)
        if work is None:
            return
        within_s = KEEP_S if fault is None else FORGET_S
        with self._call.stage("replay.keep" if fault is None else "replay.forget"):
            taken = await shielded(work, within_s=within_s)
        if taken is None:
            self._call.replayed.append("late")
            fields = {"turn_id": self._call.turn.id, "upstream": self._account.upstream}
            log.warning("replay.late", extra=fields | {"within_s": within_s})
        else:
            self._call.replayed.append("dropped" if not taken else "kept" if fault is None else "forgotten")


def _sound(events: list[SseEvent]) -> list[SseEvent]:
    """Those before the first that holds too many values."""
    if max([len(event.raw) for event in events], default=0) <= MAX_VALUES:
        return events  # none can
    return list(itertools.takewhile(lambda event: not is_rich(event.data or b"", MAX_VALUES), events))


def retry_after_s(headers: Mapping[str, str], clock: Clock) -> float | None:
    """The Retry-After header in seconds, whichever of its forms it has; None when it says nothing."""
    milliseconds, text = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    try:
        if milliseconds:
            return _sensible(float(milliseconds) / 1000)
        return _sensible(float(text)) if text else None
    except ValueError:
        pass
    try:
        return _sensible(parsedate_to_datetime(text).timestamp() - clock.now_ms() / 1000)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _sensible(wait_s: float) -> float | None:
    """Nobody means to be asked again in a month."""
    return max(0.0, wait_s) if wait_s < MAX_WAIT_S else None
