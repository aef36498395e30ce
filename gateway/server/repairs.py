"""What Hypercorn 0.18 gets wrong for us, mended: applied once, before serving. ADR 5 has the story.

- HTTP/2 without back-pressure. Its stream buffer lets a writer go on whenever a pop gave little, and a pop
  gives nothing at all while the client's window is closed; so a client that does not read is buffered without
  bound, and no send of ours ever waits. With the buffer's own level as the measure, sends wait, and our
  deadline for stalled readers holds (protocols/delivery.py). A stream that ends with data nobody took is
  reset, and its buffer freed.
- A stream over HTTP/2 that is closed while its data is written, which waits when the client reads nothing at
  all, ends the one task that writes for its connection: nothing is said on any of its streams any more. It
  ends alone.
- HTTP/2 requests that make no sense, and data for a stream that was answered meanwhile, end in an exception
  that takes the connection and all its other streams along. The one stream is reset instead.
- An upgrade from HTTP/1.1 with settings that make no sense ends with its connection, not with an exception.
- A connection that its client has closed keeps its descriptor until the idle timeout. It goes at once.
- A connection over HTTP/1.1 that is closed behind an answer, while another request has come already, leaves
  its reader waiting for ever for the end of that answer. It reads on and throws away what it gets.
- A connection that is closed with data that its client does not take stays, data and descriptor, for as long
  as the client likes. It goes after LINGER_S.
"""

import contextlib
from collections.abc import Iterable
from typing import cast

import h2.errors
import h2.events
import h2.exceptions
import h11
import hyperframe.exceptions
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed
from hypercorn.protocol import h2 as server
from hypercorn.protocol.h11 import H11Protocol

LINGER_S = 30.0
"""For a client to take the rest of an answer: what a transport holds without letting its writer wait."""


async def _pop(self: server.StreamBuffer, max_length: int) -> bytes:
    """As the original, but a waiting writer goes on only when the buffer is low."""
    length = min(len(self.buffer), max_length)
    data = bytes(self.buffer[:length])
    del self.buffer[:length]
    if len(self.buffer) < server.BUFFER_LOW_WATER:
        await self._paused.set()
    if len(self.buffer) == 0:
        await self._is_empty.set()
    return data


_send_data = server.H2Protocol._send_data


async def _send_of_known(self: server.H2Protocol, stream_id: int) -> None:
    """As the original, which looks for the stream's buffer again when it has written."""
    try:
        await _send_data(self, stream_id)
    except KeyError:
        with contextlib.suppress(KeyError):
            self.priority.remove_stream(stream_id)


_close_stream = server.H2Protocol._close_stream


async def _close_and_reset(self: server.H2Protocol, stream_id: int) -> None:
    """As the original; what the client never took goes with the stream."""
    await _close_stream(self, stream_id)
    buffer = self.stream_buffers.get(stream_id)
    if buffer is None or buffer.complete:
        return
    del self.stream_buffers[stream_id]
    await buffer.close()
    with contextlib.suppress(KeyError):
        self.priority.remove_stream(stream_id)
    if not self.closed:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.connection.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
            await self._flush()


_initiate = server.H2Protocol.initiate
_BROKEN_SETTINGS = (h2.exceptions.ProtocolError, hyperframe.exceptions.HyperframeError, ValueError)


async def _initiate_or_close(
    self: server.H2Protocol, headers: list[tuple[bytes, bytes]] | None = None, settings: bytes | None = None
) -> None:
    """As the original; settings that cannot be read end the connection."""
    try:
        await _initiate(self, headers, settings)
    except _BROKEN_SETTINGS:
        if settings is None:
            raise
        await self.send(Closed())


_create_stream = server.H2Protocol._create_stream
_handle_events = server.H2Protocol._handle_events


def _is_sound(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """A request that can be told to an application."""
    fields = dict(headers)
    method, path = fields.get(b":method", b""), fields.get(b":path", b"")
    # An extended CONNECT (RFC 8441) has a path like any request.
    return bool(method) and bool(path) and method.isascii() and path.isascii()


async def _create_sound_stream(self: server.H2Protocol, request: h2.events.RequestReceived) -> None:
    """As the original; a request that makes no sense is reset alone."""
    if _is_sound(request.headers or ()):
        await _create_stream(self, request)
        return
    with contextlib.suppress(h2.exceptions.ProtocolError):
        self.connection.reset_stream(request.stream_id, h2.errors.ErrorCodes.PROTOCOL_ERROR)


async def _handle_known(self: server.H2Protocol, events: list[h2.events.Event]) -> None:
    """As the original; data for a stream that is over is taken and thrown away."""
    begun = {event.stream_id for event in events if isinstance(event, h2.events.RequestReceived)}
    known = []
    for event in events:
        late = isinstance(event, h2.events.DataReceived) and event.stream_id not in {*self.streams, *begun}
        if isinstance(event, h2.events.DataReceived) and late:
            with contextlib.suppress(h2.exceptions.ProtocolError):
                taken = event.flow_controlled_length or 0
                self.connection.acknowledge_received_data(taken, event.stream_id or 0)
        else:
            known.append(event)
    await _handle_events(self, known)


_read_data = TCPServer._read_data


async def _read_and_part(self: TCPServer) -> None:
    """As the original; who has left is not waited for until the idle timeout."""
    await _read_data(self)
    await self.idle_task.stop()


class _Over:
    """In place of the state of a connection that answers nothing any more."""

    our_state = None
    their_state = h11.ERROR
    they_are_waiting_for_100_continue = False
    trailing_data = (b"", False)

    def receive_data(self, data: bytes) -> None:
        pass

    def next_event(self) -> type[h11.NEED_DATA]:
        return h11.NEED_DATA

    def send(self, event: h11.Event) -> bytes:
        raise h11.LocalProtocolError("the connection is over")


_maybe_recycle = H11Protocol._maybe_recycle


async def _recycle_or_end(self: H11Protocol) -> None:
    """As the original; a connection that is not used again has nothing to wait for."""
    connection = self.connection
    if isinstance(connection, h11.Connection):
        done = connection.our_state is h11.DONE and connection.their_state is h11.DONE
        if not done or self.context.terminated.is_set():
            self.connection = cast(h11.Connection, _Over())
    await _maybe_recycle(self)


_close = TCPServer._close


async def _close_in_time(self: TCPServer) -> None:
    """As the original; what the client does not take in time goes with the connection."""
    timer = self.loop.call_later(LINGER_S, self.writer.transport.abort)
    try:
        await _close(self)
    finally:
        timer.cancel()


def apply() -> None:
    """Idempotent."""
    H11Protocol._maybe_recycle = _recycle_or_end  # type: ignore[method-assign]
    TCPServer._close = _close_in_time  # type: ignore[method-assign]
    TCPServer._read_data = _read_and_part  # type: ignore[method-assign]
    server.H2Protocol._create_stream = _create_sound_stream  # type: ignore[method-assign]
    server.H2Protocol._handle_events = _handle_known  # type: ignore[method-assign]
    server.StreamBuffer.pop = _pop  # type: ignore[method-assign]
    server.H2Protocol._send_data = _send_of_known  # type: ignore[method-assign]
    server.H2Protocol._close_stream = _close_and_reset  # type: ignore[method-assign]
    server.H2Protocol.initiate = _initiate_or_close  # type: ignore[method-assign]
