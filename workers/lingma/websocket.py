"""One WebSocket to a subprocess on this machine: handshake, bytes in, messages out, signs of life.

A thin asyncio shell around the sans-I/O protocol of the websockets library. Its ready-made connection hands
each message from task to task; here a push costs no task switch and its acknowledgement leaves from the same
callback: 82 us CPU against 128 for a lone message, wake-up of the loop included, and 13 us for both under
load. Message borders are dropped: the frames inside are cut by framing.py. Called by rpc.py.
"""

import asyncio
import logging
from collections.abc import Callable

from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from workers.lingma.errors import LingmaDisconnected
from workers.lingma.framing import MAX_BODY_BYTES

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 1.0
MAX_MESSAGE_BYTES = MAX_BODY_BYTES + 64 * 1024
MAX_UNSENT_BYTES = 2 * MAX_BODY_BYTES
"""A subprocess that leaves this much unread is not coming back."""
SILENT_PINGS = 2
"""The connection is dead after this many pings without a single byte in return."""


class WebSocketLink(asyncio.Protocol):
    """Calls on_bytes for what arrives and on_lost exactly once, after a successful open()."""

    def __init__(
        self,
        port: int,
        on_bytes: Callable[[bytes | bytearray | memoryview], None],
        on_lost: Callable[[str], None],
        *,
        ping_interval_s: float = 25.0,
    ) -> None:
        self._port = port
        self._on_bytes = on_bytes
        self._on_lost = on_lost
        self._ping_interval_s = ping_interval_s
        self._protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/"), max_size=MAX_MESSAGE_BYTES)
        self._protocol.debug = False
        """The library would log what is said, prompts included."""
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._closed: asyncio.Future[None] = loop.create_future()
        self._ticker: asyncio.TimerHandle | None = None
        self._silent_pings = 0
        self._reason = ""

    async def open(self, timeout_s: float = 5.0) -> None:
        """Connect and shake hands. Raises LingmaDisconnected."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_connection(lambda: self, "127.0.0.1", self._port)
                await self._opened
        except OSError as error:  # a timeout is one, too
            self.abort("no handshake")
            raise LingmaDisconnected(f"cannot connect to port {self._port}") from error
        except asyncio.CancelledError:
            self.abort("no handshake")
            raise
        self._ticker = loop.call_later(self._ping_interval_s, self._tick)

    @property
    def is_open(self) -> bool:
        return self._protocol.state is State.OPEN and not self._closed.done()

    def send(self, data: bytes) -> None:
        """One text message. A link that is closed or closing drops it: on_lost tells the same story."""
        if not self.is_open or self._transport is None:
            return
        self._protocol.send_text(data)
        self._write()
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.abort("the subprocess does not read")

    def abort(self, reason: str) -> None:
        """Drop the connection now."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        """Say goodbye, wait a moment, leave."""
        if self._transport is None or self._closed.done():
            return
        self._reason = self._reason or "closed by us"
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._write()
        self._transport.close()
        try:
            await asyncio.wait({self._closed}, timeout=CLOSE_TIMEOUT_S)
        finally:
            self._transport.abort()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._protocol.send_request(self._protocol.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        self._silent_pings = 0
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if type(event) is Frame:
                # The opcodes of text, binary and continuation are below those of control frames.
                if event.opcode < 8:
                    self._on_bytes(event.data)
            elif isinstance(event, Response):
                self._shaken()
        if protocol.handshake_exc is not None:
            self._shaken()
        self._write()
        if protocol.close_expected() and self._transport is not None:
            broken = protocol.parser_exc is not None
            self._reason = self._reason or ("broken WebSocket" if broken else "closed by the subprocess")
            self._transport.close()

    def eof_received(self) -> None:
        self._reason = self._reason or "closed by the subprocess"

    def connection_lost(self, exc: Exception | None) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if not self._closed.done():
            self._closed.set_result(None)
        reason = self._reason or ("connection lost" if exc is None else type(exc).__name__)
        if not self._opened.done():
            self._opened.set_exception(ConnectionResetError(reason))
            self._opened.exception()  # nobody waits for it when open() has given up
            return
        if self._opened.cancelled() or self._opened.exception() is not None:
            return
        self._on_lost(reason)

    # -- inside -------------------------------------------------------------------------------------------

    def _shaken(self) -> None:
        if self._opened.done():
            return
        if self._protocol.handshake_exc is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(ConnectionResetError("handshake refused"))

    def _write(self) -> None:
        writes = self._protocol.data_to_send()
        if writes and self._transport is not None:
            self._transport.write(b"".join(writes))

    def _tick(self) -> None:
        """Any byte counts as life, an answer to the ping included."""
        if not self.is_open:
            return
        if self._silent_pings >= SILENT_PINGS:
            self.abort("no sign of life")
            return
        self._silent_pings += 1
        self._protocol.send_ping(b"")
        self._write()
        self._ticker = asyncio.get_running_loop().call_later(self._ping_interval_s, self._tick)
