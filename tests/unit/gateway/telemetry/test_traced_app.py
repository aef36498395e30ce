"""What the ASGI wrapping adds and hides, held against the instrumentation as it comes."""

import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation._semconv import _StabilityMode
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from starlette.routing import Route, Router

from gateway.telemetry.setup import start_tracing
from gateway.telemetry.traced_app import Message, Receive, Send, _collect, _described, traced_app
from tests.unit.gateway.telemetry.conftest import Recorded


async def answer(scope: Message, receive: Receive, send: Send) -> None:
    """An app that repeats its query string, in two chunks."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": scope["query_string"], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Endpoint:
    """An ASGI application behind a route, for any method."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


answer_any = Endpoint(answer)


async def ask(
    app: Any,
    path: str,
    query: bytes = b"",
    headers: Sequence[tuple[bytes, bytes]] = (),
    method: str = "POST",
) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 8317),
    }
    await app(scope, receive, send)
    return sent


async def test_a_request_is_one_span_and_its_trace_id_is_told(recorded: Recorded) -> None:
    sent = await ask(traced_app(answer, recorded.tracing), "/v1/messages")
    span = recorded.only()
    assert span.kind is trace.SpanKind.SERVER
    headers = dict(sent[0]["headers"])
    assert headers[b"x-own"] == b"1"
    trace_id, span_id = format(span.context.trace_id, "032x"), format(span.context.span_id, "016x")
    assert headers[b"x-trace-id"].decode() == trace_id
    assert headers[b"traceparent"].decode().split("-")[1:3] == [trace_id, span_id]
    assert int(headers[b"traceparent"][-2:], 16) & 1, "sampled"
    assert headers[b"traceresponse"] == headers[b"traceparent"]


async def test_a_key_in_the_query_reaches_the_app_but_no_span(recorded: Recorded) -> None:
    sent = await ask(traced_app(answer, recorded.tracing), "/v1beta/models/m", b"key=AIza-hidden")
    assert sent[1]["body"] == b"key=AIza-hidden"
    assert "hidden" not in recorded.only().to_json()


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": scope["headers"]})
    await send({"type": "http.response.body", "body": b""})


SENT = [
    (b"host", b"gateway.example"),
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"x-team", b"blue"),
    (b"authorization", b"Bearer sk-hidden"),
]


async def test_the_app_sees_every_header_and_the_trace_goes_on(recorded: Recorded) -> None:
    sent = await ask(traced_app(echo, recorded.tracing), "/v1/messages", headers=SENT)
    assert sent[0]["headers"][: len(SENT)] == SENT
    span = recorded.only()
    assert f"{span.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert span.attributes is not None
    assert "gateway.example" in str(span.attributes["http.url"])
    assert "blue" not in span.to_json()


async def test_operators_may_have_headers_recorded(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST", "x-team")
    await ask(traced_app(echo, recorded.tracing), "/v1/messages", headers=SENT)
    span = recorded.only().to_json()
    assert "blue" in span
    assert "hidden" not in span


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/metrics"])
async def test_probes_and_scrapes_make_no_spans(recorded: Recorded, path: str) -> None:
    sent = await ask(traced_app(answer, recorded.tracing), path, b"a=b")
    assert recorded.spans == []
    assert sent[1]["body"] == b"a=b"


async def test_a_path_that_only_contains_such_a_word_is_traced(recorded: Recorded) -> None:
    await ask(traced_app(answer, recorded.tracing), "/v1/turns/metrics/events")
    assert len(recorded.spans) == 1


def test_without_an_exporter_the_app_is_not_wrapped() -> None:
    assert traced_app(answer, start_tracing({}, service="s", instance="i", version="0")) is answer


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/models/one:generate", "POST /models/{model}:{method}"),
        ("POST", "/models/made-up-4711:generate", "POST /models/{model}:{method}"),
        ("GET", "/made-up-4711", "GET"),
        ("MADE-UP-4711", "/models/one:generate", "HTTP /models/{model}:{method}"),
    ],
)
async def test_server_spans_are_named_by_route(recorded: Recorded, method: str, path: str, name: str) -> None:
    router = Router([Route("/models/{model:path}:{method}", answer_any)], default=answer_any)
    await ask(traced_app(router, recorded.tracing), path, method=method)
    span = recorded.only()
    assert span.name == name
    assert span.attributes is not None
    assert span.attributes.get("http.route", "") == name.partition(" ")[2]


async def test_a_request_without_an_answer_is_named_by_its_route(recorded: Recorded) -> None:
    async def leaves(scope: Message, receive: Receive, send: Send) -> None:
        pass

    router = Router([Route("/models", Endpoint(leaves))])
    await ask(traced_app(router, recorded.tracing), "/models")
    assert recorded.only().name == "POST /models"


# -- held against the instrumentation as it comes ---------------------------------------------------------


def scope_of(**other: Any) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/responses",
        "raw_path": b"/v1/responses",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"gateway.example:8443"), (b"user-agent", b"openai/1.0"), (b"x-own", b"1")],
        "client": ("10.0.0.7", 4711),
        "server": ("127.0.0.1", 8317),
    }
    return scope | other


SCOPES = [
    scope_of(),
    scope_of(client=("10.0.0.7", 4712)),
    scope_of(client=("10.0.0.8", 1)),
    scope_of(client=("10.0.0.8", 2)),
    scope_of(client=None),
    scope_of(server=None),
    scope_of(server=("gateway", 80)),
    scope_of(http_version="2", scheme="https", method="MADE-UP"),
    scope_of(headers=[]),
    scope_of(headers=[(b"host", b"one"), (b"host", b"two"), (b"user-agent", b"Googlebot")]),
    scope_of(headers=[(b"host", b"caf\xe9"), (b"user-agent", b"")]),
    scope_of(headers=[(b"user-agent", b"long " * 400)], path="/" + "long" * 400),
    scope_of(type="websocket", scheme="ws"),
]


@pytest.mark.parametrize("mode", list(_StabilityMode))
def test_requests_are_described_as_the_instrumentation_would(mode: _StabilityMode) -> None:
    """Twice: read, and remembered; and never with what another request was described by."""
    for scope in [*SCOPES, *reversed(SCOPES)]:
        assert list(_described(scope, mode).items()) == list(_collect(scope, mode).items())


async def test_instrumentations_of_others_see_all_of_a_request(recorded: Recorded) -> None:
    traced_app(answer, recorded.tracing)
    theirs = OpenTelemetryMiddleware(answer, tracer_provider=recorded.tracing.provider)
    await ask(theirs, "/v1/messages", b"a=b")
    assert (recorded.spans[-1].attributes or {})["http.url"] == "http://127.0.0.1:8317/v1/messages?a=b"


class Answered:
    """An app that gives one answer, or fails."""

    def __init__(self, *messages: Message, error: Exception | None = None) -> None:
        self._messages = messages
        self._error = error

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        for message in self._messages:
            await send(message)
        if self._error is not None:
            raise self._error


def start(status: int) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-length", b"2"), (b"x", b"y")],
    }


BODY = {"type": "http.response.body", "body": b"ok"}
MORE = {**BODY, "more_body": True}
ANSWERS = [
    Answered(start(200), BODY),
    Answered(start(404), MORE, MORE, BODY),
    Answered(start(503), BODY),
    Answered(start(200), MORE),
    Answered(),
    Answered(error=ValueError("no")),
    Answered(start(200), MORE, error=ValueError("no")),
    Answered(start(200), BODY, error=ValueError("no")),
]


def shape(span: ReadableSpan) -> object:
    """What does not change from one request to the next, without the parts of a traceback that name files."""
    events = [(event.name, (event.attributes or {}).get("exception.message")) for event in span.events]
    parent = span.parent and (span.parent.trace_id, span.parent.span_id, span.parent.is_remote)
    status = span.status.status_code, span.status.description
    return span.kind, dict(span.attributes or {}), status, events, parent, span.context.trace_flags


@pytest.mark.parametrize("app", ANSWERS)
@pytest.mark.parametrize("headers", [(), SENT, [*SENT, (b"tracestate", b"k=v"), (b"baggage", b"a=b")]])
async def test_spans_are_those_of_the_instrumentation(
    app: Answered, headers: Sequence[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Recorded(), Recorded()
    plain = OpenTelemetryMiddleware(
        app,
        tracer_provider=theirs.tracing.provider,
        meter_provider=NoOpMeterProvider(),
        exclude_spans=["receive", "send"],
    )
    for wrapped in (traced_app(app, ours.tracing), plain):
        with contextlib.suppress(ValueError):
            await ask(wrapped, "/v1/messages", headers=headers)
    assert shape(ours.only()) == shape(theirs.only())


async def test_an_answer_reaches_the_client_as_it_was(recorded: Recorded) -> None:
    head = {**start(200), "trailers": False}
    sent = await ask(traced_app(Answered(head, MORE, BODY), recorded.tracing), "/v1/messages")
    told = sent[0].pop("headers")
    assert told[:2] == head["headers"]
    assert sent == [{key: value for key, value in head.items() if key != "headers"}, MORE, BODY]


async def test_operators_may_have_headers_of_answers_recorded(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE", "x-own")
    await ask(traced_app(answer, recorded.tracing), "/v1/messages")
    assert (recorded.only().attributes or {})["http.response.header.x_own"] == ("1",)


async def test_what_is_no_request_passes(recorded: Recorded) -> None:
    seen: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await traced_app(app, recorded.tracing)({"type": "lifespan"}, None, None)
    assert (seen, recorded.spans) == (["lifespan"], [])


@pytest.mark.parametrize(
    ("start", "status"),
    [
        ({"type": "websocket.accept"}, 101),
        ({"type": "websocket.http.response.start", "status": 426, "headers": []}, 426),
    ],
)
async def test_a_websocket_is_one_span_and_its_messages_none(
    recorded: Recorded, start: Message, status: int
) -> None:
    sent: list[Message] = []
    message = {"type": "websocket.send", "text": "said"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    await traced_app(Answered(start, message), recorded.tracing)(
        scope_of(type="websocket", scheme="ws"), receive, send
    )
    span = recorded.only()
    assert (span.name, (span.attributes or {})["http.status_code"]) == ("GET", status)
    assert b"x-trace-id" in dict(sent[0]["headers"])
    assert sent[1] is message
