"""Brings the answer of a running turn to its client, whole or as a stream. Every path closes the run.

What a stream goes to is a Sink: the body of an HTTP answer, or the messages of a WebSocket.

A stream is read and written by two tasks, so that what the engine gives while a write is under way leaves in
the next write as one piece. Its headers wait a little for the first content: a failure before that keeps its
real HTTP status. One lazy timer serves the wait, the keep-alives and the deadline of a send, because arming a
timer for every send would cost more than the send's own bookkeeping.
"""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Protocol

from gateway.kernel.aio import background, shielded
from gateway.kernel.errors import ErrorKind, GatewayError
from gateway.protocols.answers import Answer, ClientProtocol, Headers, early_failure, failure_of
from gateway.protocols.http import Client, Cut, Exchange, TurnRun, losses_header
from gateway.turn.events import ErrorInfo, TurnCompleted, TurnEvent, TurnFailed, error_info
from gateway.turn.fold import fold
from gateway.turn.frame import Frame
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn

log = logging.getLogger(__name__)

MAX_WAITING_FRAMES = 1024
"""Frames that may wait for a slow client; beyond it the engine waits, and upstream is read no further."""
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""The same in bytes of upstream messages, some of which are very long."""
SETTLE_S = 5.0
"""How long the engine may tidy up after its terminal event before it is closed."""
LAST_WORDS_S = 1.0

_BROKEN = ErrorInfo(
    kind=ErrorKind.INTERNAL, message="The gateway failed to finish the answer", retryable=True
)


class Sink(Protocol):
    """Where a stream goes."""

    async def begin(self, content_type: bytes, headers: Headers) -> None: ...

    async def write(self, data: bytes, *, last: bool) -> None:
        """What an encoder gave: whole events, perhaps none."""
        ...

    async def refuse(self, answer: Answer, headers: Headers) -> None:
        """In place of a stream: the turn has failed before it said anything. Bounded inside."""
        ...


async def deliver(exchange: Exchange, run: TurnRun, turn: Turn, protocol: ClientProtocol) -> None:
    """Answer in the form the turn asks for; returns when nothing of the turn is left running."""
    if turn.stream:
        await deliver_stream(_Body(exchange), exchange, run, turn, protocol)
        return
    try:
        await _deliver_whole(exchange, run, turn, protocol)
    finally:
        await run.aclose()


async def deliver_stream(
    sink: Sink, client: Client, run: TurnRun, turn: Turn, protocol: ClientProtocol
) -> bool:
    """Whether the answer went out whole, an error included; it is cut when the client has gone."""
    try:
        stream = _Stream(sink, client, run, turn, protocol)
        async with background(stream.read()):
            return await stream.write()
    finally:
        await run.aclose()


async def _deliver_whole(exchange: Exchange, run: TurnRun, turn: Turn, protocol: ClientProtocol) -> None:
    events: list[TurnEvent] = []
    failure: ErrorInfo | None = None
    raw: bytes | None = None
    cut = Cut(exchange)
    async with cut:
        try:
            async for burst in run:
                for frame in burst:
                    if frame.whole and frame.dialect == turn.raw.dialect:
                        raw = frame.raw
                    events += frame.events
        except GatewayError as error:
            failure = error_info(error)
    if cut.reason is not None:
        _log_cut(cut, turn)
        return
    answer = protocol.error(failure) if failure else _whole_answer(protocol, turn, events, raw)
    await exchange.answer(answer, _turn_headers(turn, run))


def _whole_answer(
    protocol: ClientProtocol, turn: Turn, events: Sequence[TurnEvent], raw: bytes | None
) -> Answer:
    end = events[-1] if events else None
    if raw is not None and isinstance(end, TurnCompleted):
        passed_on = protocol.passed_on(turn, raw, end.finish)
        if passed_on is not None:
            return Answer(200, passed_on)
    result = fold([Frame(tuple(events))])
    failure = failure_of(result)
    return protocol.error(failure) if failure else Answer(200, protocol.result(turn, result))


def _log_cut(cut: Cut, turn: Turn) -> None:
    if cut.reason == "client_stalled":
        log.info("http.client_stalled", extra={"turn_id": turn.id, "request_id": turn.request_id})
    else:
        log.info("http.client_gone", extra={"turn_id": turn.id, "request_id": turn.request_id})


def _turn_headers(turn: Turn, run: TurnRun) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"x-turn-id", turn.id.encode()), *losses_header(run.losses))


class _Body:
    """The body of an HTTP answer."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def begin(self, content_type: bytes, headers: Headers) -> None:
        headers = (*self._exchange.stream_headers(content_type), *headers)
        await self._exchange.send({"type": "http.response.start", "status": 200, "headers": headers})

    async def write(self, data: bytes, *, last: bool) -> None:
        await self._exchange.send({"type": "http.response.body", "body": data, "more_body": not last})

    async def refuse(self, answer: Answer, headers: Headers) -> None:
        await self._exchange.answer(answer, headers)


class _Stream:
    """One streamed answer: `read` fills what `write` empties."""

    def __init__(
        self, sink: Sink, client: Client, run: TurnRun, turn: Turn, protocol: ClientProtocol
    ) -> None:
        self.cut = Cut(client)
        self._sink = sink
        self._run = run
        self._turn = turn
        self._protocol = protocol
        self._limits = client.limits
        self._loop = asyncio.get_running_loop()

        self._waiting: list[Frame] = []
        self._waiting_bytes = 0
        self._content = False
        self._finished = False
        self._error: ErrorInfo | None = None
        self._wake: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

        self._ended = False
        """The last message of the answer is on its way."""
        self._hold_over = False
        self._keepalive_due = False
        self._sending_since: float | None = None
        self._last_sent = float("-inf")
        self._timer: asyncio.TimerHandle | None = None

    # -- reading ------------------------------------------------------------------------------------------

    async def read(self) -> None:
        try:
            async for burst in self._run:
                self._waiting += burst
                self._waiting_bytes += sum(frame.size for frame in burst)
                if not self._content:
                    self._content = any(frame.has_content for frame in burst)
                self._notify()
                while len(self._waiting) >= MAX_WAITING_FRAMES or self._waiting_bytes >= MAX_WAITING_BYTES:
                    self._room = self._loop.create_future()
                    await self._room
        except GatewayError as error:
            self._error = error_info(error)
        finally:
            self._finished = True
            self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _take(self) -> list[Frame]:
        frames, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return frames

    def _news(self) -> "asyncio.Future[None]":
        """Done at the next frame, at the end of the run, or when a keep-alive is due."""
        self._wake = self._loop.create_future()
        return self._wake

    # -- writing ------------------------------------------------------------------------------------------

    async def write(self) -> bool:
        """Returns when the answer is out and the engine has tidied up, or when the client is lost: false."""
        self._timer = self._loop.call_later(self._limits.first_byte_hold_s, self._tick)
        try:
            async with self.cut:
                await self._write()
        except OSError:
            self.cut.reason = "client_gone"  # how servers other than Hypercorn say it
        finally:
            self._timer.cancel()
        if self._ended:
            await self._settle()
        else:
            _log_cut(self.cut, self._turn)
        return self.cut.reason is None

    async def _write(self) -> None:
        while not (self._content or self._finished or self._hold_over):
            await self._news()
        frames = self._take()
        failure = self._error or early_failure(frames)
        if self._finished and not frames:
            failure = failure or _BROKEN
        headers = _turn_headers(self._turn, self._run)
        if failure is not None:
            self._ended = True
            await self._sink.refuse(self._protocol.error(failure), headers)
            return
        encoder = self._protocol.encoder(self._turn, self._run.losses)
        await self._sent(self._sink.begin(encoder.content_type, headers))
        try:
            await self._write_frames(encoder, frames)
        finally:
            if not self._ended and self.cut.reason is None:
                await shielded(self._last_words(encoder), within_s=LAST_WORDS_S)

    async def _write_frames(self, encoder: Encoder, frames: list[Frame]) -> None:
        while True:
            if frames:
                last = frames[-1].is_terminal
                data = encoder.encode(frames)
            elif self._finished:
                last = True
                data = encoder.encode([_failed(self._error or _BROKEN)])
            elif self._keepalive_due:
                last = False
                data = encoder.keepalive()
            else:
                await self._news()
                frames = self._take()
                continue
            if last:
                # From here on a disconnect is the server's answer to our last message.
                self._ended = True
            if data or last:
                await self._sent(self._sink.write(data, last=last))
                self._keepalive_due = False
            if last:
                return
            frames = self._take()

    async def _sent(self, sending: Awaitable[None]) -> None:
        self._sending_since = self._loop.time()
        await sending
        self._sending_since = None
        self._last_sent = self._loop.time()

    async def _last_words(self, encoder: Encoder) -> None:
        """The stream cannot go on, by a defect or a shutdown: say so, and end it as the protocol wants."""
        await self._sink.write(encoder.encode([_failed(_BROKEN)]), last=True)

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_S):
                while not self._finished:
                    await self._news()
        except TimeoutError:
            log.warning("http.run_unsettled", extra={"turn_id": self._turn.id})

    def _tick(self) -> None:
        """The end of the wait for content, then keep-alives, and the deadline of the send under way."""
        now = self._loop.time()
        if self._sending_since is not None:
            due = self._sending_since + self._limits.send_deadline_s
            if now >= due:
                self.cut.now("client_stalled")
                return
        else:
            due = self._last_sent + self._limits.keepalive_s
            if now >= due:
                self._hold_over = self._keepalive_due = True
                self._notify()
                due = now + self._limits.keepalive_s
        self._timer = self._loop.call_at(due, self._tick)


def _failed(error: ErrorInfo) -> Frame:
    return Frame((TurnFailed(error),))
