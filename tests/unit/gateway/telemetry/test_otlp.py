"""What the exporter sends, held against the encoder of OpenTelemetry, which is read as the truth."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as original
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gateway.telemetry.otlp import encode_spans, encoded
from gateway.telemetry.setup import start_tracing

_ids = st.integers(1, 2**64 - 1)
_texts = st.text(max_size=300)
_values = st.one_of(
    _texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(_texts, max_size=3).map(tuple),
    st.lists(st.integers(0, 300), max_size=3).map(tuple),
)
_attributes = st.dictionaries(st.text(min_size=1, max_size=130), _values, max_size=6)
_contexts = st.builds(
    SpanContext,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=_ids,
    is_remote=st.booleans(),
    trace_flags=st.just(TraceFlags(1)),
    trace_state=st.sampled_from([TraceState(), TraceState([("k", "v")])]),
)
_statuses = st.sampled_from(
    [Status(StatusCode.UNSET), Status(StatusCode.OK), Status(StatusCode.ERROR), Status(StatusCode.ERROR, "ü")]
)
_resources = st.sampled_from(
    [
        Resource.create({"service.name": "x", "n": 7}),
        Resource({"a": "b"}, "https://schema.example/1"),
        Resource({"service.name": "x", "rare": -1}),
    ]
)
_scopes = st.sampled_from(
    [
        None,
        InstrumentationScope("gateway", "1.2"),
        InstrumentationScope("asgi", None, "https://s.example", {"k": "v"}),
        InstrumentationScope("rare", None, None, {"n": -1}),
    ]
)


@st.composite
def _spans(draw: st.DrawFn) -> ReadableSpan:
    start = draw(st.integers(1, 2**63))
    return ReadableSpan(
        name=draw(_texts),
        context=draw(_contexts),
        parent=draw(st.none() | _contexts),
        resource=draw(_resources),
        attributes=draw(_attributes),
        events=draw(st.lists(st.builds(Event, _texts, _attributes, st.integers(1, 2**62)), max_size=1)),
        links=draw(st.lists(st.builds(Link, _contexts, _attributes), max_size=1)),
        kind=draw(st.sampled_from(SpanKind)),
        status=draw(_statuses),
        start_time=start,
        end_time=start + draw(st.integers(0, 10**12)),
        instrumentation_scope=draw(_scopes),
    )


def flat(request: bytes) -> list[tuple[bytes, bytes, bytes, str, str]]:
    """Every span with what it stands under, in an order of their own."""
    read = ExportTraceServiceRequest.FromString(request)
    return sorted(
        (
            span.SerializeToString(deterministic=True),
            of.resource.SerializeToString(deterministic=True),
            scoped.scope.SerializeToString(deterministic=True),
            of.schema_url,
            scoped.schema_url,
        )
        for of in read.resource_spans
        for scoped in of.scope_spans
        for span in scoped.spans
    )


@given(st.lists(_spans(), max_size=5))
def test_spans_read_as_the_original_would_have_them(spans: list[ReadableSpan]) -> None:
    assert flat(encoded(spans)) == flat(original(spans).SerializeToString())


@pytest.mark.parametrize(
    "attributes",
    [{}, {"http.request.method": "POST", "n": 200, "on": True, "s": 0.25, "reasons": ("stop",)}],
)
def test_a_plain_span_is_written_to_the_byte(attributes: dict[str, Any]) -> None:
    context = SpanContext(1, 2, is_remote=False)
    span = ReadableSpan(
        "chat m", context, resource=Resource({"a": "b"}), attributes=attributes, start_time=1, end_time=2
    )
    assert encode_spans([span]).SerializePartialToString() == original([span]).SerializePartialToString()


@pytest.mark.parametrize("value", ["caf\udce9", ("caf\udce9",), 2**63])
@pytest.mark.parametrize("of_all", [True, False])
def test_a_value_that_cannot_be_written_is_left_out_alone(value: Any, of_all: bool) -> None:
    """Such as an environment variable that is no UTF-8: no span is lost for it."""
    bad, good = {"bad": value, "a": "b"}, {"a": "b"}
    span = ReadableSpan(
        "chat m",
        SpanContext(1, 2, is_remote=False),
        resource=Resource(bad if of_all else good),
        attributes=good if of_all else bad,
        start_time=1,
        end_time=2,
    )
    assert flat(encoded([span])) == flat(original([span]).SerializeToString())


def test_the_exporter_asks_us() -> None:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    start_tracing({"OTEL_TRACES_EXPORTER": "otlp"}, service="s", instance="i", version="1").close()
    assert OTLPSpanExporter.export.__globals__["encode_spans"] is encode_spans
