"""Back-pressure for HTTP/2, which Hypercorn 0.18 has not: applied once, before serving. ADR 5 has the story.

Its stream buffer lets a writer go on whenever a pop gave little, and a pop gives nothing at all while the
client's window is closed; so a client that does not read is buffered without bound, and no send of ours ever
waits. With the buffer's own level as the measure, sends wait, and our deadline for stalled readers holds
(protocols/delivery.py). A stream that ends with data nobody took is reset, and its buffer freed.

And an upgrade from HTTP/1.1 with settings that make no sense, which ended in an exception that nobody caught
and in the log as an error, ends with its connection.
"""

import contextlib

import h2.errors
import h2.exceptions
import hyperframe.exceptions
from hypercorn.events import Closed
from hypercorn.protocol import h2 as server


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


def apply() -> None:
    """Idempotent."""
    server.StreamBuffer.pop = _pop  # type: ignore[method-assign]
    server.H2Protocol._close_stream = _close_and_reset  # type: ignore[method-assign]
    server.H2Protocol.initiate = _initiate_or_close  # type: ignore[method-assign]
