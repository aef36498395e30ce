"""GET /v1/responses: turns over a WebSocket, one after the other, the events of each as they are over HTTP.

A connection remembers what was said on it (chain.py), so that a client sends only what is new. Nothing else
is kept: on a new connection clients send everything, and any replica will do. That is what they are made to
do whenever a connection cannot go on (an unknown response, its age, a replica that stops): by a code, or by a
close between two responses, after which every Codex connects anew without a word to its user. Other errors
leave the connection open. How frames look is frames.py.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec
from starlette.types import Receive, Scope, Send

from gateway.access.keys import Principal
from gateway.kernel.aio import background
from gateway.kernel.errors import ErrorKind, Forbidden, GatewayError, InvalidRequest, UpstreamUnavailable
from gateway.kernel.json import JsonObject
from gateway.protocols.answers import Answer, ClientProtocol, Headers
from gateway.protocols.bodies import TurnContext
from gateway.protocols.delivery import deliver_stream
from gateway.protocols.endpoint import Edge, bearer_keys, check_model, context_of
from gateway.protocols.http import NORMAL
from gateway.protocols.responses import frames
from gateway.protocols.responses.chain import NOTHING, Chain, Memory, Past
from gateway.protocols.responses.frames import Create, Heard
from gateway.protocols.responses.parse import turn_of
from gateway.protocols.responses.response import response_id
from gateway.protocols.websocket import (
    POLICY,
    RESTART,
    Inbox,
    Socket,
    Sockets,
    bytes_of,
    is_foreign,
)
from gateway.telemetry.sockets import Why
from gateway.turn.events import ErrorInfo, error_info
from gateway.turn.request import Turn

log = logging.getLogger(__name__)


class ResponsesSocket:
    """The application of the route."""

    def __init__(
        self, edge: Edge, sockets: Sockets, protocol: ClientProtocol, told: Callable[[Turn], ClientProtocol]
    ) -> None:
        """`told`: how one turn is told to its client."""
        self._edge = edge
        self._sockets = sockets
        self._memory = memory = Memory(sockets.max_remembered_bytes)
        sockets.counts.remembered_bytes = lambda: memory.bytes
        self._protocol = protocol
        self._told = told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = Socket(scope, receive, send, self._edge.limits)
        if not self._sockets.enabled:
            await socket.refuse(self._protocol.error(_SWITCHED_OFF, status=426))
            return
        try:
            principal = self._admitted(scope)
        except GatewayError as error:
            log.info("http.refused", extra={"kind": str(error.kind), "param": error.param})
            await socket.refuse(self._protocol.error(error_info(error)))
            return
        await socket.accept()
        connection = _Connection(
            socket, self._edge, self._sockets, self._memory, principal, self._protocol, self._told
        )
        await connection.run()

    def _admitted(self, scope: Scope) -> Principal:
        if is_foreign(scope):
            raise Forbidden("WebSockets are not served to the pages of other hosts", code="foreign_origin")
        principal = self._edge.tiers.client(bearer_keys(scope))
        if self._sockets.lobby.state == "closed":
            raise UpstreamUnavailable("This replica is shutting down; please try again", retry_after_s=1)
        return principal


_SWITCHED_OFF = ErrorInfo(
    kind=ErrorKind.INVALID_REQUEST,
    message="This gateway does not serve WebSockets here; please use HTTP",
    code="websocket_not_supported",
)


class _Messages:
    """The sink of one answer; see protocols/delivery.py."""

    def __init__(self, socket: Socket, previous: str) -> None:
        """`previous`: the response that the request goes on from, if any."""
        self.heard = Heard()
        self._previous = previous
        self._socket = socket
        self._events = frames.Events()

    async def begin(self, content_type: bytes, headers: Headers) -> None:
        """Nothing: messages have no head."""

    async def write(self, data: bytes, *, last: bool) -> None:
        events = list(self._events.of(data, last=last))
        for event in events:
            self.heard.hear(event)
        if self._previous:
            events = [frames.gone_on_from(event, self._previous) for event in events]
        await self._socket.send(events)

    async def refuse(self, answer: Answer, headers: Headers) -> None:
        if answer.status == 200:  # told as a stream of its own
            await self._socket.say(*self._events.of(answer.body, last=True))
        else:
            await self._socket.say(frames.error_frame(answer, (*headers, *self._socket.named)))


class _Connection:
    """One connection: a task reads what comes, another answers it."""

    def __init__(
        self,
        socket: Socket,
        edge: Edge,
        sockets: Sockets,
        memory: Memory,
        principal: Principal,
        protocol: ClientProtocol,
        told: Callable[[Turn], ClientProtocol],
    ) -> None:
        self._socket = socket
        self._edge = edge
        self._sockets = sockets
        self._principal = principal
        self._protocol = protocol
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(edge.limits.max_body_bytes)
        self._chain = Chain(edge.limits.max_body_bytes, memory)
        self._news = asyncio.Event()
        self._parting: tuple[Why, int, str] | None = None
        """Why, by which code and with what words it is to be closed."""
        self._turns = 0

    async def run(self) -> None:
        """Returns when the connection is over and nothing of it is left running."""
        opened = self._loop.time()
        counts = self._sockets.counts
        counts.open += 1
        self._sockets.lobby.join(self)
        timer = self._loop.call_later(
            self._sockets.max_age_s, self._part, "age", NORMAL, "the connection has reached its age limit"
        )
        try:
            async with background(self._read()):
                await self._answer_all()
                await self._close()
        finally:
            timer.cancel()
            self._chain.forget()
            self._sockets.lobby.part(self)
            counts.open -= 1
            why = self._parting[0] if self._parting else "stalled" if self._socket.stalled else "client"
            counts.closed[why] += 1
            age_s = round(self._loop.time() - opened, 1)
            log.info("websocket.closed", extra={"reason": why, "turns": self._turns, "age_s": age_s})

    def leave_soon(self) -> None:
        self._part("drain", RESTART, "the replica is shutting down")

    def _part(self, why: Why, code: int, reason: str) -> None:
        if self._parting is None:
            self._parting = (why, code, reason)
        self._news.set()

    # -- reading ------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while (message := await self._socket.next_message()) is not None:
            data = bytes_of(message)
            if data is not None and frames.is_processed(data):
                self._sockets.counts.messages["processed"] += 1
                continue
            self._inbox.put(data)
            if self._inbox.overflows:
                await self._cut_off()
                break
            self._news.set()
        self._socket.left()
        self._news.set()

    async def _cut_off(self) -> None:
        """In the middle of an answer; what still comes is thrown away."""
        self._parting = ("flood", POLICY, "too many messages")
        self._socket.left()
        self._news.set()
        while await self._socket.next_message() is not None:
            pass

    async def _has_next(self) -> bool:
        """False when the connection is to end, or has."""
        while not (self._inbox or self._parting or self._socket.gone.is_set()):
            self._news.clear()
            await self._news.wait()
        return bool(self._inbox) and not self._socket.gone.is_set()

    # -- answering ----------------------------------------------------------------------------------------

    async def _answer_all(self) -> None:
        while await self._has_next():
            if self._parting is not None:
                await self._say_error(self._limit_reached("This connection is about to be closed"))
                return
            await self._answer(self._inbox.take())

    async def _close(self) -> None:
        if self._parting is None or (self._socket.gone.is_set() and self._parting[0] != "flood"):
            return
        self._inbox.clear()
        self._socket.gone.clear()
        _, code, reason = self._parting
        await self._socket.close(code, reason)

    async def _answer(self, message: bytes | InvalidRequest) -> None:
        stream_id = ""
        try:
            if isinstance(message, InvalidRequest):
                raise message
            create = frames.read_create(message)
            del message  # it may be large, and the answer long
            stream_id = create.stream_id
            await self._create(create)
        except GatewayError as error:
            self._sockets.counts.messages["refused"] += 1
            log.info("websocket.refused", extra={"kind": str(error.kind), "param": error.param})
            await self._say_error(error, stream_id)

    async def _say_error(self, error: GatewayError, stream_id: str = "") -> None:
        answer = self._protocol.error(error_info(error))
        await self._socket.say(frames.error_frame(answer, self._socket.named, stream_id))

    async def _create(self, create: Create) -> None:
        """Raises GatewayError when nothing was begun."""
        if create.stream_id:
            raise InvalidRequest(
                "'stream_id' cannot be used: a connection answers one request after the other; please open "
                "another one",
                param="stream_id",
                code="invalid_stream_id",
            )
        past = self._past_of(create)
        turn = self._turn_of(create, past)
        if create.generate:
            self._sockets.counts.messages["create"] += 1
            await self._run(create, past, turn)
            return
        self._sockets.counts.messages["prewarm"] += 1
        await self._socket.say(*frames.prewarmed(turn))
        self._chain.remember(response_id(turn), past, create.input, create.size, turn.model)

    def _past_of(self, create: Create) -> Past:
        if not create.previous:
            return NOTHING
        past = self._chain.past(create.previous)
        if past is None:
            self._part("chain", NORMAL, "the previous response is not known here")
            raise self._limit_reached(
                f"Previous response with id '{create.previous[:80]}' not found on this connection",
                param="previous_response_id",
            )
        if past.size + create.size > self._edge.limits.max_body_bytes:
            raise InvalidRequest(
                f"The conversation is larger than {self._edge.limits.max_body_bytes} bytes",
                param="input",
                code="request_too_large",
            )
        return past

    def _limit_reached(self, message: str, param: str | None = None) -> InvalidRequest:
        return InvalidRequest(
            f"{message}; please open a new one and send the whole conversation as 'input'",
            param=param,
            code=frames.LIMIT_REACHED,
        )

    def _turn_of(self, create: Create, past: Past) -> Turn:
        try:
            body: JsonObject = frames.continued(create, past, self._chain.items(past))
            if not create.generate and body.get("input") is None:
                body = {**body, "input": []}
            turn = turn_of(body, self._context(create), may_be_empty=not create.generate)
        except InvalidRequest as error:
            raise frames.as_sent(error, past.length) from None
        check_model(turn, self._principal)
        return turn

    def _context(self, create: Create) -> TurnContext:
        """Codex says in each message what it says in the headers of each request."""
        context = context_of(self._edge, self._socket.scope, self._principal)
        return msgspec.structs.replace(context, headers={**context.headers, **create.metadata})

    async def _run(self, create: Create, past: Past, turn: Turn) -> None:
        self._turns += 1
        sink = _Messages(self._socket, create.previous)
        run = self._edge.engine.run_turn(turn)
        whole = await deliver_stream(sink, self._socket, run, turn, self._told(turn))
        if not whole:
            self._socket.give_up()
        elif sink.heard.response_id:
            said = sink.heard.items
            size = create.size + sum(map(len, said))
            items = [*create.input, *frames.read_items(said)]
            self._chain.remember(sink.heard.response_id, past, items, size, turn.model)
