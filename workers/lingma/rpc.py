"""JSON-RPC on one connection to a Lingma subprocess: requests, notifications, pushes and their receipts.

Both sides number their requests from 1, so only direction tells them apart: a message with a method is
theirs, one without answers ours. Every push that carries an id is acknowledged before it is looked at,
because the subprocess waits for that. What is issued in one turn of the event loop leaves as one WebSocket
message. Knows nothing of chats or logins: that is client.py, its only caller.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gateway.kernel import json
from gateway.kernel.errors import InvalidRequest, UpstreamTimeout
from workers.lingma.errors import FramingError, LingmaDisconnected, RpcError
from workers.lingma.framing import MAX_BODY_BYTES, FrameDecoder, encode
from workers.lingma.websocket import WebSocketLink

log = logging.getLogger(__name__)

TOOL_INVOKE = "tool/invoke"
COALESCE_BYTES = 1024 * 1024
"""Prompts of this size go one by one: joining them would only copy them."""
_NONE = msgspec.Raw()


class PushParams(msgspec.Struct):
    """The little that tells whose a push is."""

    requestId: str = ""
    sessionId: str = ""


class Incoming(msgspec.Struct):
    """One message of the subprocess, its parts left as they came."""

    id: msgspec.Raw = _NONE
    method: str = ""
    params: PushParams | None = None
    result: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE


class _Loose(msgspec.Struct):
    id: msgspec.Raw = _NONE
    method: str = ""
    params: msgspec.Raw = _NONE
    result: msgspec.Raw = _NONE
    error: msgspec.Raw = _NONE


class _ErrorObject(msgspec.Struct):
    code: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a request: a result (JSON), or why there is none."""

    result: bytes = b"null"
    error: RpcError | LingmaDisconnected | None = None


OnPush = Callable[[Incoming, bytes], bool]
"""Gets each push with its body. True claims a tool/invoke: the handler answers it with respond()."""
OnReply = Callable[[Reply], None]

_decoder = msgspec.json.Decoder(Incoming)
_loose_decoder = msgspec.json.Decoder(_Loose)
_params_decoder = msgspec.json.Decoder(PushParams)
_error_decoder = msgspec.json.Decoder(_ErrorObject)


def decode(body: bytes) -> Incoming | None:
    """Read one message; fields of an unexpected type count as absent. None when it is no JSON object."""
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError:
        return _decode_loosely(body)
    except msgspec.DecodeError:
        return None


def _decode_loosely(body: bytes) -> Incoming | None:
    try:
        loose = _loose_decoder.decode(body)
    except msgspec.DecodeError:
        return None
    params = PushParams()
    try:
        value = json.loads(bytes(loose.params))
    except json.JsonError:
        value = None
    if isinstance(value, dict):
        request_id, session_id = value.get("requestId"), value.get("sessionId")
        params.requestId = request_id if isinstance(request_id, str) else ""
        params.sessionId = session_id if isinstance(session_id, str) else ""
    return Incoming(loose.id, loose.method, params, loose.result, loose.error)


class RpcConnection:
    """One connection. After the loss of it every open request has failed and on_lost has been called once."""

    def __init__(
        self,
        port: int,
        on_push: OnPush,
        on_lost: Callable[[str], None] | None = None,
        *,
        coalesce: bool = True,
        ping_interval_s: float = 25.0,
    ) -> None:
        self._on_push = on_push
        self._on_lost = on_lost
        self._coalesce = coalesce
        self._link = WebSocketLink(port, self._on_bytes, self._lost, ping_interval_s=ping_interval_s)
        self._frames = FrameDecoder()
        self._pending: dict[bytes, OnReply] = {}
        """By id, as it is written."""
        self._next_id = 0
        self._outbox: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._closed = False

    async def open(self, timeout_s: float = 5.0) -> None:
        """Raises LingmaDisconnected."""
        await self._link.open(timeout_s)

    async def aclose(self) -> None:
        self._flush()
        await self._link.aclose()
        self._lost("closed by us")

    @property
    def is_open(self) -> bool:
        return not self._closed and self._link.is_open

    # -- ours ---------------------------------------------------------------------------------------------

    def call(self, method: str, params: bytes, on_reply: OnReply | None) -> bytes:
        """Send a request and return its id; on_reply is called once. Without it the reply is dropped.

        params is JSON, taken as it is. Raises LingmaDisconnected, and InvalidRequest for a message that is
        too long.
        """
        self._check_open()
        self._next_id += 1
        call_id = b"%d" % self._next_id
        self._send(
            b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % (call_id, method.encode(), params)
        )
        if on_reply is not None:
            self._pending[call_id] = on_reply
        return call_id

    def forget(self, call_id: bytes) -> None:
        """Nobody waits for this reply any more."""
        self._pending.pop(call_id, None)

    async def request(self, method: str, params: object, *, timeout_s: float) -> bytes:
        """Send a request and wait for its result (JSON).

        Raises RpcError, UpstreamTimeout (phase "rpc") and LingmaDisconnected.
        """
        answer: asyncio.Future[Reply] = self._loop.create_future()

        def resolve(reply: Reply) -> None:
            if not answer.done():
                answer.set_result(reply)

        call_id = self.call(method, json.dumps(params), resolve)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await answer
        except TimeoutError as error:
            raise UpstreamTimeout(f"{method} was not answered within {timeout_s:g} s", phase="rpc") from error
        finally:
            self.forget(call_id)
        if isinstance(reply.error, RpcError):
            raise RpcError(reply.error.rpc_code, f"{method}: {reply.error.message}")
        if reply.error is not None:
            raise reply.error
        return reply.result

    def notify(self, method: str, params: bytes) -> None:
        """Send a notification; params is JSON, taken as it is. Raises like call()."""
        self._check_open()
        self._send(b'{"jsonrpc":"2.0","method":"%b","params":%b}' % (method.encode(), params))

    def respond(self, push_id: msgspec.Raw, result: bytes = b"null") -> None:
        """Answer a push that was claimed."""
        self._send(b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (push_id, result))

    # -- theirs -------------------------------------------------------------------------------------------

    def _on_bytes(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            return
        try:
            bodies = self._frames.feed(data)
        except FramingError as error:
            log.warning("lingma.framing_broken", extra={"reason": error.message})
            self._link.abort(error.message)
            self._lost(error.message)
            return
        for body in bodies:
            self._on_body(body)

    def _on_body(self, body: bytes) -> None:
        message = decode(body)
        if message is None:
            log.warning("lingma.message_unreadable", extra={"size_bytes": len(body)})
        elif not message.method:
            self._on_reply(message)
        elif not message.id or message.id == _NULL:
            self._on_push(message, body)
        elif message.method != TOOL_INVOKE:
            self.respond(message.id)
            self._on_push(message, body)
        elif not self._on_push(message, body):
            self.respond(message.id)

    def _on_reply(self, message: Incoming) -> None:
        on_reply = self._pending.pop(bytes(message.id), None)
        if on_reply is None:
            return
        if message.error and message.error != _NULL:
            on_reply(Reply(error=_read_error(message.error)))
        else:
            on_reply(Reply(bytes(message.result) or b"null"))

    def _lost(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._outbox.clear()
        pending, self._pending = self._pending, {}
        for on_reply in pending.values():
            on_reply(Reply(error=LingmaDisconnected(f"the connection to Lingma ended: {reason}")))
        if self._on_lost is not None:
            self._on_lost(reason)

    # -- sending ------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if not self.is_open:
            raise LingmaDisconnected("the connection to Lingma is closed")

    def _send(self, body: bytes) -> None:
        if len(body) > MAX_BODY_BYTES:
            raise InvalidRequest(f"a message of {len(body)} bytes is too long")
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(encode(body))

    def _flush(self) -> None:
        if not self._outbox:
            return
        outbox, self._outbox = self._outbox, []
        if len(outbox) == 1 or (self._coalesce and sum(map(len, outbox)) <= COALESCE_BYTES):
            self._link.send(b"".join(outbox))
            return
        for frame in outbox:
            self._link.send(frame)


_NULL = msgspec.Raw(b"null")


def _read_error(raw: msgspec.Raw) -> RpcError:
    try:
        value = _error_decoder.decode(raw)
    except msgspec.DecodeError:
        return RpcError(0, "")
    return RpcError(value.code, value.message)
