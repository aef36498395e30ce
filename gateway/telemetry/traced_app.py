"""The server span around each request, made by the ASGI instrumentation of OpenTelemetry.

The instrumentation does what it does: propagation, span, status, errors. But it reads all of a request and of
its answer several times over, so it is shown little. What describes a request is read by its own function and
remembered, for most requests are like one before; the head of an answer is its status; the pieces of one pass
it by. The query it never sees: Gemini clients put their key there.

Called where the application is put together. The spans below this one are in telemetry/spans.py.
"""

from collections.abc import Awaitable, Callable, Hashable, MutableMapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

from opentelemetry import trace
from opentelemetry.instrumentation import asgi
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.propagate import get_global_textmap
from opentelemetry.semconv._incubating.attributes.http_attributes import HTTP_STATUS_CODE
from opentelemetry.semconv.attributes.http_attributes import HTTP_ROUTE
from opentelemetry.util.http import sanitize_method
from opentelemetry.util.types import AttributeValue

from gateway.telemetry.setup import Tracing
from gateway.telemetry.spans import traceparent_of
from gateway.telemetry.tracer import Provider

Message: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
AsgiApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
_Collect: TypeAlias = Callable[..., dict[str, AttributeValue]]

TRACE_ID_HEADER: Final = b"x-trace-id"
CONTEXT_HEADERS: Final = (b"traceparent", b"traceresponse")
"""Both say the same: the name of the header in requests, and the one that the standard drafts for answers."""

_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_HANDSHAKES = frozenset({"websocket.accept", "websocket.http.response.start"})
"""What the instrumentation knows no status of."""
SWITCHING_PROTOCOLS: Final = 101
_UNTRACED_PATHS = ("/healthz", "/livez", "/readyz", "/metrics")
_DESCRIBING = frozenset({b"host", b"user-agent"})
"""Headers that become attributes."""
_HIDDEN = "gateway.hidden"
"""In what the instrumentation is shown: the real thing."""
_collect: Final[_Collect] = asgi.collect_request_attributes
_REMEMBERED_CHARACTERS = 1024
"""What is longer is read each time."""


def traced_app(app: AsgiApp, tracing: Tracing) -> AsgiApp:
    """The app with a server span around each request, or the app itself when nothing is exported."""
    if tracing.provider is None:
        return app
    asgi.collect_request_attributes = _collected
    return ServerSpans(app, tracing.provider)


class ServerSpans(OpenTelemetryMiddleware):
    def __init__(self, app: AsgiApp, provider: Provider) -> None:
        super().__init__(
            self._inside,
            default_span_details=lambda shown: (_method_in(shown[_HIDDEN][0]), {}),
            tracer_provider=provider,
            meter_provider=NoOpMeterProvider(),
            exclude_spans=["receive", "send"],
        )
        self._traced = app
        self._propagated = frozenset(name.lower().encode() for name in get_global_textmap().fields)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].endswith(_UNTRACED_PATHS):
            await self._traced(scope, receive, send)
            return
        headers = scope["headers"]
        if not self.http_capture_headers_server_request:
            propagated = self._propagated
            headers = [header for header in headers if header[0] in propagated]
        shown = {"type": scope["type"], "headers": headers, _HIDDEN: (scope, send)}

        def send_hidden(message: Message) -> Awaitable[None]:
            return send(message.get(_HIDDEN, message))

        await super().__call__(shown, receive, send_hidden)

    async def _inside(self, shown: Message, receive: Receive, send: Send) -> None:
        """Give the app what was hidden, and tell the client its trace, to be quoted in reports."""
        scope, send_whole = shown[_HIDDEN]
        send_piece: Send = send_whole
        span = trace.get_current_span()
        context = span.get_span_context()
        if not context.is_valid:
            await self._traced(scope, receive, send_piece)
            return
        if span.is_recording():
            span.set_attributes(_described(scope, self._sem_conv_opt_in_mode))
        traceparent = traceparent_of(context).encode()
        told = [(name, traceparent) for name in CONTEXT_HEADERS]
        told.append((TRACE_ID_HEADER, traceparent[3:35]))
        captures = bool(self.http_capture_headers_server_response)

        def send_told(message: Message) -> Awaitable[None]:
            if message.get("more_body"):  # of bodies only; each event of a stream comes by here
                return send_piece(message)
            kind = message["type"]
            if kind == "websocket.send":
                return send_piece(message)
            if kind in _STARTS:
                _name_by_route(span, scope)
                if kind in _HANDSHAKES:
                    span.set_attribute(HTTP_STATUS_CODE, message.get("status", SWITCHING_PROTOCOLS))
                message = {**message, "headers": [*message.get("headers", ()), *told]}
                if not captures:
                    message = {"type": kind, "status": message.get("status"), _HIDDEN: message}
            return send(message)

        try:
            await self._traced(scope, receive, send_told)
        finally:
            _name_by_route(span, scope)  # of who got no answer


def _name_by_route(span: trace.Span, scope: Message) -> None:
    """As the conventions have it: by what the path was taken for, never by what a client made up."""
    if span.is_recording() and (route := getattr(scope.get("route"), "path_format", "")):
        span.update_name(f"{_method_in(scope)} {route}")
        span.set_attribute(HTTP_ROUTE, route)


# -- what a request is described by -----------------------------------------------------------------------


def _collected(shown: Message, *mode: Hashable) -> dict[str, AttributeValue]:
    """In the place of the instrumentation's: nothing yet for requests of ours, which are described once the
    span has begun; it would set everything twice, and sort it for metrics that nobody takes.
    """
    return {} if _HIDDEN in shown else _collect(shown, *mode)


def _described(scope: Message, mode: Hashable) -> dict[str, AttributeValue]:
    """As the instrumentation would; most requests are like one before, but for the port of the client."""
    telling = tuple([header for header in scope["headers"] if header[0] in _DESCRIBING])
    method, path = scope.get("method", ""), scope["path"]
    address, port = scope.get("client") or ("", 0)
    size = len(method) + len(path) + sum([len(value) for _, value in telling])
    attributes, ports = (_like if size < _REMEMBERED_CHARACTERS else _like.__wrapped__)(
        mode,
        method,
        path,
        scope.get("scheme", ""),
        scope.get("http_version", ""),
        scope.get("server"),
        address,
        telling,
    )
    return attributes | dict.fromkeys(ports, port)


@lru_cache(256)
def _like(
    mode: Hashable,
    method: str,
    path: str,
    scheme: str,
    http_version: str,
    server: tuple[str, int] | None,
    address: str,
    headers: tuple[tuple[bytes, bytes], ...],
) -> tuple[dict[str, AttributeValue], tuple[str, ...]]:
    """Attributes of such a request, and the names of those that are the client's port."""
    scope: Message = {"method": method, "path": path, "scheme": scheme, "http_version": http_version}
    scope["server"], scope["headers"] = server, headers
    one, other = (
        _collect({**scope, "client": (address, port) if address else None}, mode) for port in (1, 2)
    )
    return one, tuple(key for key, value in one.items() if other[key] != value)


def _method_in(scope: Message) -> str:
    """The handshake of a WebSocket is a GET, and says so over HTTP/1.1."""
    return _method_of("GET" if scope["type"] == "websocket" else scope.get("method", ""))


@lru_cache(32)
def _method_of(method: str) -> str:
    """One of those that HTTP knows."""
    known = sanitize_method(method)
    return "HTTP" if known == "_OTHER" else known
