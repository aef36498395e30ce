"""Spans: names, attributes, links, and what the ASGI wrapping adds and hides."""

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from starlette.routing import Route, Router

from gateway.kernel.errors import UpstreamProtocol
from gateway.telemetry.setup import Tracing, start_tracing, traced_by
from gateway.telemetry.spans import (
    Message,
    Receive,
    Send,
    exemplar,
    stage_span,
    traced_app,
    turn_span,
    worker_span,
)
from gateway.turn.ports import UNTRACED, AttemptFailed
from gateway.turn.usage import Usage


class Recorded:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing: Tracing = traced_by(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def only(self) -> ReadableSpan:
        (span,) = self.spans
        return span


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def test_an_attempt_is_a_chat_span_with_genai_attributes(recorded: Recorded) -> None:
    with turn_span(
        recorded.tracing.tracer, upstream="lingma", model="kmodel", turn_id="t-1", attempt=2, request_id="r-1"
    ) as span:
        span.first_content(0.25)
        span.finish(outcome="completed", finish="stop", usage=Usage(input_tokens=3, output_tokens=4))
    done = recorded.only()
    assert done.name == "chat kmodel"
    assert dict(done.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "lingma",
        "gen_ai.request.model": "kmodel",
        "gen_ai.request.stream": False,
        "gen_ai.response.time_to_first_chunk": 0.25,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 4,
        "gateway.turn.id": "t-1",
        "gateway.attempt": 2,
        "gateway.request.id": "r-1",
        "gateway.outcome": "completed",
    }


def test_a_failed_attempt_says_which_kind(recorded: Recorded) -> None:
    with turn_span(recorded.tracing.tracer, upstream="lingma", model="m", turn_id="t") as span:
        span.finish(outcome="failed", error_kind="worker_lost")
    done = recorded.only()
    assert (done.attributes or {})["error.type"] == "worker_lost"
    assert done.status.status_code is trace.StatusCode.ERROR


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RuntimeError("no such a-secret-word"), "RuntimeError"),
        (UpstreamProtocol("no such a-secret-word"), "upstream_protocol"),
        (AttemptFailed(UpstreamProtocol("no such a-secret-word")), "upstream_protocol"),
    ],
)
def test_an_exception_is_recorded_without_its_text_and_goes_on(
    recorded: Recorded, error: Exception, kind: str
) -> None:
    """An upstream's refusal quotes the request."""
    with (
        pytest.raises(type(error), match="no such"),
        turn_span(recorded.tracing.tracer, upstream="u", model="m", turn_id="t"),
    ):
        raise error
    done = recorded.only()
    assert (done.attributes or {})["error.type"] == kind
    assert done.status.status_code is trace.StatusCode.ERROR
    assert "a-secret-word" not in done.to_json()


def test_parts_of_an_attempt_are_spans_below_it(recorded: Recorded) -> None:
    with turn_span(recorded.tracing.tracer, upstream="u", model="m", turn_id="t") as span:
        with span.stage("POST") as stage:
            stage.tell(http__response__status_code=200, server__address="up")
        with pytest.raises(ValueError, match="x"), span.stage("replay.read"):
            raise ValueError("x")
        with pytest.raises(GeneratorExit), span.stage("place"):
            raise GeneratorExit
    post, read, place, attempt = recorded.spans
    assert (post.name, post.kind) == ("POST", trace.SpanKind.CLIENT)
    assert dict(post.attributes or {}) == {"http.response.status_code": 200, "server.address": "up"}
    for one in (post, read, place):
        assert one.parent is not None
        assert one.parent.span_id == attempt.context.span_id
    assert (read.attributes or {})["error.type"] == "ValueError"
    assert read.status.status_code is trace.StatusCode.ERROR
    assert (place.attributes or {})["gateway.outcome"] == "cancelled"
    assert place.status.status_code is trace.StatusCode.UNSET


def test_nobody_pays_for_parts_that_nobody_traces() -> None:
    tracing = start_tracing({}, service="s", instance="i", version="0")
    with turn_span(tracing.tracer, upstream="u", model="m", turn_id="t") as span:
        assert span.stage("POST") is UNTRACED
    with stage_span(tracing.tracer, "route") as stage:
        stage.tell(gateway__candidates=1)
    assert stage is UNTRACED


def test_a_worker_s_span_is_below_the_attempt_and_linked_to_the_submit(recorded: Recorded) -> None:
    tracer = recorded.tracing.tracer
    with turn_span(tracer, upstream="u", model="m", turn_id="t") as attempt, attempt.stage("submit") as stage:
        submitted, _ = stage.trace
    with worker_span(
        tracer, instance="w", turn_id="t", attempt=1, trace_of_attempt=attempt.trace, submitted=submitted
    ):
        pass
    submit, chat, run = recorded.spans
    assert (submit.kind, run.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    assert run.parent is not None
    assert run.context.trace_id == chat.context.trace_id
    assert run.parent.span_id == chat.context.span_id
    assert [link.context.span_id for link in run.links] == [submit.context.span_id]


@pytest.mark.parametrize("carried", ["", "garbage"])
def test_a_worker_s_span_is_a_trace_of_its_own_when_nothing_travelled(
    recorded: Recorded, carried: str
) -> None:
    tracer = recorded.tracing.tracer
    with worker_span(
        tracer, instance="w", turn_id="t", attempt=1, trace_of_attempt=(carried, ""), submitted=carried
    ):
        pass
    assert (recorded.only().parent, len(recorded.only().links)) == (None, 0)


def test_what_is_not_sampled_here_is_not_sampled_by_the_worker(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    here = Recorded().tracing.tracer
    with turn_span(here, upstream="u", model="m", turn_id="t") as attempt:
        assert attempt.stage("submit").trace == ("", "")
        assert not int(attempt.trace[0][-2:], 16) & 1
    tracer = recorded.tracing.tracer
    with worker_span(
        tracer, instance="w", turn_id="t", attempt=1, trace_of_attempt=attempt.trace, submitted=""
    ):
        pass
    assert recorded.spans == []


def test_without_tracing_nothing_travels_and_nothing_breaks() -> None:
    tracing = start_tracing({}, service="s", instance="i", version="0")
    with turn_span(tracing.tracer, upstream="u", model="m", turn_id="t") as span:
        span.finish(outcome="completed")
        assert span.trace == ("", "")


def test_an_exemplar_names_the_current_span(recorded: Recorded) -> None:
    assert exemplar() is None
    with recorded.tracing.tracer.start_as_current_span("POST /v1/messages"):
        told = exemplar()
    context = recorded.only().context
    assert told == {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def test_an_exemplar_names_no_trace_that_nobody_kept() -> None:
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("t")
    with tracer.start_as_current_span("POST /v1/messages") as span:
        assert span.get_span_context().is_valid
        assert exemplar() is None


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
