"""The shared HTTP edge: one request as ASGI gives it, and the engine as the edge sees it.

Knows no protocol and no turn in detail; protocols/endpoint.py puts the pieces together, protocols/delivery.py
brings a turn's answer to its client. Facts about the server (measured on Hypercorn 0.18): it announces ASGI
2.1, so that only a pending `receive()` learns that a client has gone, and `send` raises nothing afterwards.
Ours tells it to whoever asks, under ON_DISCONNECT in the scope; see server/disconnects.py.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Protocol

import msgspec
from starlette.types import Message, Receive, Scope, Send

from gateway.kernel.aio import Tasks, within
from gateway.kernel.errors import ErrorKind
from gateway.protocols.answers import Answer, ClientProtocol, Headers
from gateway.protocols.compression import ACCEPTED, BrokenBody, UnknownCoding, coding_of, unpack
from gateway.turn.events import ErrorInfo
from gateway.turn.frame import Burst
from gateway.turn.losses import Loss
from gateway.turn.request import Turn

log = logging.getLogger(__name__)

ON_DISCONNECT = "gateway.on_disconnect"
"""Of the scope, where the server has it: a function that takes whom to call once when the client has gone, at
once if it has already, and None for nobody.
"""
NORMAL = 1000
"""The close code of a WebSocket on which there is nothing more to say."""
LINGER_S = 20.0
"""How long the rest of a refused body is taken and thrown away, and how long it may pause."""
LINGER_SILENCE_S = 1.0
MAX_LOSSES_BYTES = 1024
"""Of the header that tells them; what does not fit is counted."""


class TurnRun(Protocol):
    """One turn under way."""

    losses: list[Loss]
    """Complete when the first burst has arrived."""

    def __aiter__(self) -> AsyncIterator[Burst]:
        """Bursts of frames, with a terminal event last. Raises GatewayError before the first frame only."""
        ...

    async def aclose(self) -> None:
        """Stop the work if it still runs; of a resumable turn, the reading. Shielded and bounded inside."""
        ...


class Engine(Protocol):
    def run_turn(self, turn: Turn) -> TurnRun: ...


class EdgeLimits(msgspec.Struct, frozen=True, kw_only=True):
    max_body_bytes: int = 128 * 1024 * 1024
    body_silence_s: float = 60.0
    """How long a client may pause while it sends its body."""
    first_byte_hold_s: float = 5.0
    """How long the headers of a stream wait for the first content."""
    keepalive_s: float = 10.0
    """The longest silence of a stream."""
    send_deadline_s: float = 30.0
    """How long a client may take to read what was sent."""


class Refused(Exception):
    """A request that HTTP itself has a status for; `status` overrules the protocol's table."""

    def __init__(self, status: int, message: str, code: str, *, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.info = ErrorInfo(kind=ErrorKind.INVALID_REQUEST, message=message, code=code)
        self.headers = headers


class Client(Protocol):
    """Who may leave while it is answered: an Exchange, or a WebSocket."""

    limits: "EdgeLimits"
    scope: Scope
    receive: Receive


class ClientGone(Exception):
    """Nobody is there to read an answer."""


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limits: EdgeLimits) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.limits = limits
        self._body_read = False

    def header(self, name: bytes) -> bytes:
        """The first header of that lower-case name, or nothing."""
        for key, value in self.scope["headers"]:
            if key == name:
                return bytes(value)
        return b""

    async def read_body(self) -> bytes:
        """The body, unpacked; the limit holds for what arrives and for what comes out of it.

        Raises Refused for a body that is too large, too slow, broken or packed in an unknown way, and
        ClientGone.
        """
        limit = self.limits.max_body_bytes
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        coding = self._coding()
        try:
            body = await self._read_chunks(limit)
        except TimeoutError:
            raise Refused(408, "The request body did not arrive in time", "request_timeout") from None
        return body if coding is None else await _unpacked(coding, body, limit)

    def _coding(self) -> str | None:
        try:
            return coding_of(value for name, value in self.scope["headers"] if name == b"content-encoding")
        except UnknownCoding:
            raise Refused(
                415,
                f"Request bodies may be compressed with {ACCEPTED}, or not at all",
                "unsupported_content_encoding",
                headers=((b"accept-encoding", ACCEPTED.encode()),),
            ) from None

    async def _read_chunks(self, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await within(self.receive(), self.limits.body_silence_s)
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            self._body_read = not message.get("more_body", False)
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            chunks.append(chunk)
            if self._body_read:
                return b"".join(chunks)

    async def answer(self, answer: Answer, extra: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send a whole answer. A client that does not read it in time is given up.

        When the body was not read, its rest is taken and thrown away after the answer: a connection closed
        before that is reset, and the client never sees why it was refused.
        """
        headers = [*head_of(answer), *extra]
        linger = self._has_unread_body()
        if linger and self.scope["http_version"] == "1.1":
            headers.append((b"connection", b"close"))
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        body = {"type": "http.response.body", "body": answer.body, "more_body": linger}
        try:
            await within(self._send_whole(start, body), self.limits.send_deadline_s)
        except TimeoutError:
            log.info("http.client_stalled", extra={"request_id": request_id_of(self.scope)})

    async def _send_whole(self, start: Message, body: Message) -> None:
        await self.send(start)
        await self.send(body)
        if body["more_body"]:
            await self._discard_body()
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    def _has_unread_body(self) -> bool:
        if self._body_read:
            return False
        if self.scope["http_version"] in ("1.0", "1.1"):
            length = self.header(b"content-length")
            return length not in (b"", b"0") or bool(self.header(b"transfer-encoding"))
        return True  # HTTP/2 need not announce a body

    async def _discard_body(self) -> None:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + LINGER_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SILENCE_S) as deadline:
                while loop.time() < give_up:
                    message = await self.receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    deadline.reschedule(loop.time() + LINGER_SILENCE_S)

    async def refuse(self, protocol: ClientProtocol, refused: Refused) -> None:
        await self.answer(protocol.error(refused.info, status=refused.status), refused.headers)

    def stream_headers(self, content_type: bytes) -> Headers:
        """Keep every proxy on the way from holding, caching or rewriting the stream."""
        headers = (
            (b"content-type", content_type),
            (b"cache-control", b"no-cache, no-transform"),
            (b"x-accel-buffering", b"no"),
        )
        if self.scope["http_version"] == "1.1":
            return (*headers, (b"connection", b"keep-alive"))
        return headers


def request_id_of(scope: Scope) -> str:
    """What protocols/middleware.py names the request, or the connection."""
    return str(scope.get("request_id", ""))


def head_of(answer: Answer) -> Headers:
    return (
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
        *answer.headers,
    )


async def refuse_handshake(scope: Scope, send: Send, answer: Answer) -> None:
    """Answer the handshake of a WebSocket with HTTP; servers that cannot close it, which is a 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": NORMAL})
        return
    start = {"type": "websocket.http.response.start", "status": answer.status, "headers": [*head_of(answer)]}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})


async def _unpacked(coding: str, body: bytes, limit: int) -> bytes:
    """Piece by piece, so that other turns go on meanwhile and nothing is unpacked beyond the limit."""
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in unpack(coding, body):
            size += len(piece)
            if size > limit:
                raise _too_large(limit)
            pieces.append(piece)
            await asyncio.sleep(0)
    except BrokenBody as broken:
        raise Refused(400, str(broken), "invalid_content_encoding") from None
    return b"".join(pieces)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"The request body is larger than {limit} bytes", "request_too_large")


def losses_header(losses: Iterable[Loss]) -> Headers:
    """`x-gateway-losses`, in printable ASCII and bounded; no header when nothing was lost."""
    texts = [_ascii(str(loss)) for loss in dict.fromkeys(losses)]
    if not texts:
        return ()
    kept: list[str] = []
    size = 0
    for text in texts:
        size += len(text) + 2
        if size > MAX_LOSSES_BYTES:
            kept.append(f"and {len(texts) - len(kept)} more")
            break
        kept.append(text)
    return ((b"x-gateway-losses", ", ".join(kept).encode("ascii")),)


def _ascii(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text)


class Cut:
    """A block that ends early when the client has gone, or when somebody says that it does not read.

    Used by one task. After the block `reason` tells whether it was cut.
    """

    def __init__(self, client: Client) -> None:
        self.reason: str | None = None
        self._client = client
        self._timeout = asyncio.timeout(None)
        self._inside = False
        self._watch: Tasks | None = None
        """Reads what the client sends, where the server does not tell by itself that it has gone."""

    async def __aenter__(self) -> "Cut":
        await self._timeout.__aenter__()
        self._inside = True
        if (on_disconnect := self._client.scope.get(ON_DISCONNECT)) is not None:
            on_disconnect(self._gone)
        else:
            self._watch = Tasks()
            self._watch.spawn(self._until_gone(), name="disconnect")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._inside = False
        if self._watch is None:
            self._client.scope[ON_DISCONNECT](None)
        else:
            await self._watch.aclose()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if self.reason is None:
                raise
            return True
        return False

    def now(self, reason: str) -> None:
        if self._inside and self.reason is None:
            self.reason = reason
            self._timeout.reschedule(asyncio.get_running_loop().time())

    def _gone(self) -> None:
        self.now("client_gone")

    async def _until_gone(self) -> None:
        while (await self._client.receive())["type"] != "http.disconnect":
            pass
        self._gone()
