"""What every request passes first: its key leaves the address, its answer gets the request id.

While the replica drains, answers also ask their clients to part. A defect of ours becomes an answer, unless
one has begun, and is raised on to the server, which logs it. The request id is sent under both names that
clients read: `x-request-id` (OpenAI's) and `request-id` (Anthropic's).

Pure ASGI. The request id is the client's own when it sent one, cleaned, so that it may stand in logs, in
headers and on the server span (which tells its own id, see telemetry/traced_app.py).
"""

from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import unquote_to_bytes

from opentelemetry import trace
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from gateway.kernel.ids import new_hex
from gateway.protocols.answers import Answer
from gateway.protocols.http import head_of

MAX_REQUEST_ID = 128
_QUERY_KEY = b"x-goog-api-key"

_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


def clean_request_id(given: bytes) -> str:
    """The client's id, printable ASCII and bounded; a new one when nothing of it is left."""
    text = "".join(chr(byte) for byte in given if 0x20 <= byte <= 0x7E)[:MAX_REQUEST_ID].strip()
    return text or f"req_{new_hex(24)}"


class HideQueryKey:
    """Moves an API key from the address, where Google's clients may put it, into its header.

    Outermost, before tracing and logging: addresses are recorded, keys must not be.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and b"key=" in scope["query_string"]:
            scope = _without_query_key(scope)
        await self._app(scope, receive, send)


def _without_query_key(scope: Scope) -> Scope:
    pairs = scope["query_string"].split(b"&")
    keys = [pair[4:] for pair in pairs if pair.startswith(b"key=")]
    headers = list(scope["headers"])
    if keys and not any(name == _QUERY_KEY for name, _ in headers):
        headers.append((_QUERY_KEY, unquote_to_bytes(keys[0].replace(b"+", b" "))))
    kept = b"&".join(pair for pair in pairs if not pair.startswith(b"key="))
    return {**scope, "query_string": kept, "headers": headers}


class RequestContext:
    def __init__(
        self, app: ASGIApp, *, draining: Callable[[], bool], defect: Callable[[str], Answer]
    ) -> None:
        """`defect`: how one is told to the client of a path."""
        self._app = app
        self._draining = draining
        self._defect = defect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = clean_request_id(given)
        scope["request_id"] = request_id
        trace.get_current_span().set_attribute("gateway.request.id", request_id)
        named = request_id.encode("ascii")
        extra = ((b"x-request-id", named), (b"request-id", named))

        begun = False

        def send_with_id(message: Message) -> Awaitable[None]:
            if message["type"] in _STARTS:
                nonlocal begun
                begun = True
                headers = self._parting(scope, message.get("headers", ()))
                message = {**message, "headers": [*headers, *extra]}
            return send(message)

        bind_contextvars(request_id=request_id)  # of this task, which is the request's own
        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            if scope["type"] == "http" and not begun:
                answer = self._defect(scope["path"])
                head = {"status": answer.status, "headers": head_of(answer)}
                await send_with_id({"type": "http.response.start", **head})
                await send_with_id({"type": "http.response.body", "body": answer.body})
            raise

    def _parting(self, scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
        """While the replica drains, HTTP/1.1 clients are asked to take their next request elsewhere."""
        if scope["type"] != "http" or scope["http_version"] != "1.1" or not self._draining():
            return headers
        return [
            *((name, value) for name, value in headers if name != b"connection"),
            (b"connection", b"close"),
        ]
