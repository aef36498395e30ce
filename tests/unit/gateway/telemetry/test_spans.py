"""Spans: names, attributes, links."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from gateway.kernel.errors import UpstreamProtocol
from gateway.telemetry.setup import start_tracing
from gateway.telemetry.spans import exemplar, stage_span, turn_span, worker_span
from gateway.turn.ports import UNTRACED, AttemptFailed
from gateway.turn.usage import Usage
from tests.unit.gateway.telemetry.conftest import Recorded


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
