"""WebSockets as Hypercorn 0.18 serves them, mended: applied once, before serving.

- A message above the limit is thrown away as it comes, and the application is told that it was there. The
  original closes with 1009, after which clients send the same again.
- A handshake that is refused gets head and body of the answer in one write; clients lose the body otherwise.
- Frames that make no sense are answered with the close code for that, and what comes after a close is
  ignored. The original says nothing, and raises.
- A connection given up in the middle of a write is not said goodbye to: that would wait for ever behind it.
- Messages are not compressed: that costs more than the rest of a small one, and memory for each connection.
- Messages that are ready together leave in one write, where the application hands them over together.
- What a client sends before its handshake is answered waits for the answer. The original says 400, and keeps
  the connection.
- What a client still sends to an application that has ended is thrown away. The original waits for ever for
  somebody to take it.
- Pings end with their connection, and need no task each. In the original it lasts until the next one is due.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, cast

import h11
from hypercorn.events import RawData
from hypercorn.protocol import h2 as server_h2
from hypercorn.protocol import h11 as server_h11
from hypercorn.protocol.events import Body, Data, Event, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import AppWrapper, ASGISendEvent, WebsocketResponseBodyEvent
from hypercorn.utils import build_and_validate_headers
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping

from gateway.protocols.websocket import TEXTS, TOO_LARGE


class ThrowingAway(WebsocketBuffer):
    """Keeps nothing of a message that has grown too large, but knows of it."""

    _too_large = False

    def extend(self, event: Message[Any]) -> None:
        if self._too_large:
            return
        try:
            super().extend(event)
        except FrameTooLargeError:
            self._too_large = True
            self.value = None

    def clear(self) -> None:
        super().clear()
        self._too_large = False

    def to_message(self) -> dict[str, Any]:
        if self._too_large:
            return {"type": "websocket.receive", "bytes": b"", "text": None, TOO_LARGE: True}
        return super().to_message()


class SoundStream(WSStream):
    """One WebSocket, over HTTP/1.1 or HTTP/2."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.app = _telling(self.app)
        self.buffer = ThrowingAway(self.config.websocket_max_message_size)
        self._over = asyncio.Event()
        self._answered = asyncio.Event()
        self._writing = False

    async def handle(self, event: Event) -> None:
        if isinstance(event, StreamClosed):
            self._over.set()
        elif isinstance(event, Body | Data):
            if self.app_put is not None:
                await self._answered.wait()
            if not self.handshake.accepted or self.connection.state is ConnectionState.CLOSED:
                return  # refused, or both sides have said goodbye
        await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        if message is None:
            self._take_no_more()
        elif message["type"] == "websocket.accept":
            self.handshake.extensions = None
        if message is not None:
            self._writing = True
        elif self._writing:
            # Cut short: the client does not read, and nothing may follow half a frame.
            self.state = ASGIWebsocketState.CLOSED
        if message is not None and (texts := cast(Any, message).get(TEXTS)) is not None:
            await self._send_texts(texts)
        else:
            await super().app_send(message)
        self._writing = False
        if self.state is not ASGIWebsocketState.HANDSHAKE:
            self._answered.set()

    def _take_no_more(self) -> None:
        self._answered.set()
        queue = cast(Any, self.app_put).__self__
        self.app_put = _throw_away
        while not queue.empty():  # which lets go whoever waits for room
            queue.get_nowait()

    async def _send_texts(self, texts: Iterable[str]) -> None:
        if self.closed or self.state is not ASGIWebsocketState.CONNECTED:
            return
        if self.connection.state is ConnectionState.OPEN:  # else the client has said goodbye
            data = b"".join([text_frame(text.encode()) for text in texts])
            await self.send(Data(stream_id=self.stream_id, data=data))

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if self._over.is_set():
                return  # the client has gone: whatever else it sent, nobody takes an answer
            if isinstance(event, Message):
                self.buffer.extend(event)
                if event.message_finished:
                    await cast(Any, self.app_put)(self.buffer.to_message())
                    self.buffer.clear()
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                if self.connection.state is ConnectionState.REMOTE_CLOSING:
                    await self._send_wsproto_event(event.response())
                elif self.connection.state is ConnectionState.OPEN:
                    await self._send_wsproto_event(CloseConnection(code=event.code, reason=event.reason))
                await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_rejection(self, message: WebsocketResponseBodyEvent) -> None:
        whole = self.state is ASGIWebsocketState.HANDSHAKE and not message.get("more_body", False)
        protocol = cast(Any, self.send).__self__
        if not whole or not isinstance(protocol, server_h11.H11Protocol):
            await super()._send_rejection(message)
            return
        pieces = [
            h11.Response(
                status_code=int(self.response["status"]),
                headers=[
                    *build_and_validate_headers(self.response["headers"]),
                    *self.config.response_headers("h11"),
                    (b"connection", b"close"),
                ],
            ),
            h11.Data(data=bytes(message.get("body", b""))),
            h11.EndOfMessage(),
        ]
        self.state = ASGIWebsocketState.HTTPCLOSED
        written = [cast(Any, protocol.connection).send(piece) for piece in pieces]
        await protocol.send(RawData(b"".join(written)))

    async def _send_pings(self) -> None:
        while not (self.closed or self._over.is_set()):
            await self._send_wsproto_event(Ping())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.websocket_ping_interval):
                    await self._over.wait()


def text_frame(data: bytes) -> bytes:
    """One whole text message of a server's, as wsproto writes it where nothing is compressed."""
    size = len(data)
    if size < 126:
        return b"\x81%c%b" % (size, data)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), data)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), data)


async def _throw_away(message: Any) -> None:
    pass


def _telling(app: AppWrapper) -> AppWrapper:
    """The application, told that it may hand over several messages at once."""

    async def told(scope: Any, *channels: Any) -> None:
        scope["extensions"][TEXTS] = {}
        await app(scope, *channels)

    return cast(AppWrapper, told)


def apply() -> None:
    """Idempotent."""
    server_h11.WSStream = SoundStream  # type: ignore[attr-defined,assignment]
    server_h2.WSStream = SoundStream  # type: ignore[attr-defined,assignment]
