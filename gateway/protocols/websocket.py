"""The shared edge of WebSockets: one connection as ASGI gives it, and what its handshake is held to.

Knows no protocol; protocols/responses/websocket.py serves turns on it. A handshake is refused with a whole
HTTP answer. What arrives is read by one task, which alone learns that the client has gone, and waits in an
Inbox, bounded, for the task that answers.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec
from starlette.types import Message, Receive, Scope, Send

from gateway.engine.drain import Guest
from gateway.kernel.errors import InvalidRequest
from gateway.protocols.answers import Answer, Headers
from gateway.protocols.http import ON_DISCONNECT, EdgeLimits, refuse_handshake, request_id_of
from gateway.telemetry.sockets import SocketCounts

log = logging.getLogger(__name__)

TOO_LARGE = "gateway.too_large"
"""In a message that the server has thrown away for its size (gateway/server/websocket.py)."""
TEXTS = "gateway.texts"
"""Of a message that is several; what such a server is known by."""
MAX_WAITING = 8
"""Messages that wait for the one that is being answered."""
MAX_REFUSED = 64
"""Refused ones that wait to be told so; a client that goes on is cut."""
PARTING_S = 2.0
"""How long a client may take to answer a close."""

POLICY, RESTART = 1008, 1012
"""Close codes: the client breaks the rules; come again, somebody else will answer."""


class Lobby(Protocol):
    """Knows when the replica is about to stop; see engine/drain.py."""

    @property
    def state(self) -> str: ...
    def join(self, guest: Guest) -> None: ...
    def part(self, guest: Guest) -> None: ...


class Sockets(msgspec.Struct, frozen=True, kw_only=True):
    """What WebSockets are served with; one for all of them."""

    lobby: Lobby
    counts: SocketCounts
    enabled: bool = True
    max_age_s: float = 3300.0
    max_remembered_bytes: int = 64 * 1024 * 1024
    """Of what is remembered on all of them together."""


# -- the handshake ----------------------------------------------------------------------------------------

_PORTS = {b"http": b":80", b"https": b":443", b"ws": b":80", b"wss": b":443"}


def is_foreign(scope: Scope) -> bool:
    """Whether a browser shows the page of another host. Only browsers send an Origin, and always do."""
    headers = scope["headers"]
    origins = [value.strip().lower() for name, value in headers if name == b"origin"]
    host = next((value.strip().lower() for name, value in headers if name == b"host"), b"")
    return any(not _is_own(origin, host) for origin in origins)


def _is_own(origin: bytes, host: bytes) -> bool:
    scheme, found, place = origin.partition(b"://")
    port = _PORTS.get(scheme)
    if not found or port is None or not place:
        return False
    return place.removesuffix(port) == host.removesuffix(port)


# -- the connection ---------------------------------------------------------------------------------------


class Inbox:
    """Messages in the order they came, each as its bytes or as why it is refused."""

    def __init__(self, max_bytes: int) -> None:
        """Of one message, and of those that wait together."""
        self._max_bytes = max_bytes
        self._waiting: deque[bytes | InvalidRequest] = deque()
        self._bytes = 0
        self._bodies = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, data: bytes | None) -> None:
        """None is a message that was too large to be kept."""
        if data is None or len(data) > self._max_bytes:
            self._waiting.append(
                InvalidRequest(
                    f"The message is larger than {self._max_bytes} bytes", code="request_too_large"
                )
            )
        elif self._bodies >= MAX_WAITING or (self._bodies and self._bytes + len(data) > self._max_bytes):
            self._waiting.append(
                InvalidRequest(
                    "Too many requests wait on this connection: it answers one after the other; please wait "
                    "for the end of a response before asking for more",
                    code="too_many_waiting_requests",
                )
            )
        else:
            self._waiting.append(data)
            self._bytes += len(data)
            self._bodies += 1

    def take(self) -> bytes | InvalidRequest:
        taken = self._waiting.popleft()
        if isinstance(taken, bytes):
            self._bytes -= len(taken)
            self._bodies -= 1
        return taken

    @property
    def overflows(self) -> bool:
        return len(self._waiting) > MAX_REFUSED

    def clear(self) -> None:
        self._waiting.clear()
        self._bytes = self._bodies = 0


class Socket:
    """One WebSocket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: EdgeLimits) -> None:
        self.scope: Scope = {**scope, ON_DISCONNECT: self._register}
        self.limits = limits
        self.receive = receive
        self.named: Headers = ((b"x-request-id", request_id_of(scope).encode()),)
        """What its handshake is found by."""
        self.gone = asyncio.Event()
        """The client has left, or is given up."""
        self.stalled = False
        """Given up."""
        self._send = send
        self._tell: Callable[[], None] | None = None

    async def refuse(self, answer: Answer) -> None:
        await refuse_handshake(self.scope, self._send, answer)

    async def accept(self) -> None:
        await self._send({"type": "websocket.accept"})

    def _register(self, tell: Callable[[], None] | None) -> None:
        """See protocols/http.py: who is to be told that the client has gone."""
        self._tell = tell
        if tell is not None and self.gone.is_set():
            tell()

    def left(self) -> None:
        self.gone.set()
        if self._tell is not None:
            self._tell()

    async def next_message(self) -> Message | None:
        """The next message; None when the client has gone."""
        while True:
            message = await self.receive()
            match message["type"]:
                case "websocket.receive":
                    return message
                case "websocket.disconnect":
                    return None
                case _:
                    pass

    async def send(self, messages: Iterable[bytes]) -> None:
        """As long as it takes: for those who watch over it."""
        texts = [message.decode("utf-8", "replace") for message in messages]
        if TEXTS in self.scope.get("extensions", {}):
            if texts:
                await self._send({"type": "websocket.send", TEXTS: texts})
            return
        for text in texts:
            await self._send({"type": "websocket.send", "text": text})

    async def say(self, *messages: bytes) -> None:
        """A client that does not read in time is given up."""
        try:
            async with asyncio.timeout(self.limits.send_deadline_s):
                await self.send(messages)
        except TimeoutError:
            log.info("websocket.client_stalled")
            self.give_up()

    def give_up(self) -> None:
        """Of a client that has not left by itself."""
        self.stalled = self.stalled or not self.gone.is_set()
        self.left()

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye and wait a little for the answer, so that what was said before is not cut off."""
        try:
            async with asyncio.timeout(PARTING_S):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                await self.gone.wait()
        except TimeoutError:
            self.left()


def bytes_of(message: Message) -> bytes | None:
    """What a message says; None of one that the server has thrown away for its size."""
    if message.get(TOO_LARGE):
        return None
    text = message.get("text")
    return bytes(message.get("bytes") or b"") if text is None else str(text).encode("utf-8", "replace")
