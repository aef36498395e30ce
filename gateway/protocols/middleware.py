"""What every answer carries, whoever makes it: the request id, and the wish to part while draining.

Pure ASGI. The request id is the client's own when it sent one, cleaned, so that it may stand in logs, in
headers and on the server span (which tells its own id, see telemetry/spans.py).
"""

from collections.abc import Awaitable, Callable, Iterable

from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.kernel.ids import new_hex

MAX_REQUEST_ID = 128

_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


def clean_request_id(given: bytes) -> str:
    """The client's id, printable ASCII and bounded; a new one when nothing of it is left."""
    text = "".join(chr(byte) for byte in given if 0x20 <= byte <= 0x7E)[:MAX_REQUEST_ID].strip()
    return text or f"req_{new_hex(24)}"


class RequestContext:
    def __init__(self, app: ASGIApp, *, draining: Callable[[], bool]) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = clean_request_id(given)
        scope["request_id"] = request_id
        trace.get_current_span().set_attribute("gateway.request.id", request_id)
        extra = (b"x-request-id", request_id.encode("ascii"))

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] in _STARTS:
                headers = self._parting(scope, message.get("headers", ()))
                message = {**message, "headers": [*headers, extra]}
            return send(message)

        with bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)

    def _parting(self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
        """While the replica drains, HTTP/1.1 clients are asked to take their next request elsewhere."""
        if scope["type"] != "http" or scope["http_version"] != "1.1" or not self._draining():
            return headers
        return [
            *((name, value) for name, value in headers if name != b"connection"),
            (b"connection", b"close"),
        ]
