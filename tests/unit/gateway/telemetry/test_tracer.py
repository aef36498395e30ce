"""Our spans, held against those of the SDK, which are read as the truth: same calls, same bytes."""

import os
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    AlwaysRecordSampler,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from gateway.telemetry.otlp import encoded
from gateway.telemetry.tracer import Provider


class Counted(IdGenerator):
    """The same ids in the same order; traces on both sides of what a ratio of one half takes."""

    def __init__(self) -> None:
        self._last = 0

    def generate_span_id(self) -> int:
        self._last += 1
        return self._last

    def generate_trace_id(self) -> int:
        self._last += 1
        return self._last << 64 | (self._last % 2) << 63 | self._last

    def is_trace_id_random(self) -> bool:
        return True


class Kept(SpanProcessor):
    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        self.begun.append(span.name)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)


RESOURCE = Resource.create({"service.name": "x"})


def both(calls: Callable[[trace.Tracer], object], sampler: Sampler | None = None) -> tuple[Kept, Kept]:
    """What becomes of the same calls with us, and with the SDK."""
    here, there = Kept(), Kept()
    ours = Provider(here, RESOURCE, sampler)
    ours.ids = Counted()
    theirs = TracerProvider(sampler, RESOURCE, shutdown_on_exit=False, id_generator=Counted())
    theirs.add_span_processor(there)
    told = [calls(provider.get_tracer("gateway", "1")) for provider in (ours, theirs)]
    assert told[0] == told[1]
    assert here.begun == there.begun
    return here, there


def sent(kept: Kept) -> bytes:
    written: bytes = encode_spans(kept.ended).SerializePartialToString()
    return written


def same(here: Kept, there: Kept) -> bool:
    """To the byte by the original encoder, and as the console has it."""
    return sent(here) == sent(there) and [s.to_json() for s in here.ended] == [
        s.to_json() for s in there.ended
    ]


# -- any calls --------------------------------------------------------------------------------------------

_keys = st.sampled_from(["a", "b", "c", "http.route", ""])
_plain_values = st.one_of(
    st.text(max_size=12), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False)
)
_values = st.one_of(
    _plain_values,
    st.lists(st.text(max_size=12), max_size=3).map(tuple),
    st.lists(st.integers(0, 9) | st.booleans(), max_size=3),
    st.none(),
    st.binary(max_size=4),
    st.dictionaries(st.text(min_size=1, max_size=3), st.text(max_size=12), max_size=2),
)
_attributes = st.dictionaries(_keys, _values, max_size=5)
_contexts = st.builds(
    SpanContext,
    trace_id=st.integers(0, 2**128 - 1),
    span_id=st.integers(0, 2**64 - 1),
    is_remote=st.booleans(),
    trace_flags=st.integers(0, 3).map(TraceFlags),
    trace_state=st.sampled_from([TraceState(), TraceState([("k", "v")])]),
)
_times = st.integers(1, 2**62)
_statuses = st.sampled_from(
    [*StatusCode, Status(StatusCode.OK), Status(StatusCode.ERROR, "broken"), Status()]
)
_links = st.lists(st.tuples(_contexts, _attributes), max_size=3)
_operations = st.one_of(
    st.tuples(st.just("set_attribute"), _keys, _values),
    st.tuples(st.just("set_attributes"), _attributes),
    st.tuples(st.just("add_event"), st.text(max_size=5), _attributes, _times),
    st.tuples(st.just("add_link"), _contexts, _attributes),
    st.tuples(st.just("update_name"), st.text(max_size=5)),
    st.tuples(st.just("set_status"), _statuses),
    st.tuples(st.just("set_status"), st.sampled_from(StatusCode), st.none() | st.text(max_size=5)),
    st.tuples(st.just("record_exception"), st.just(ValueError("no")), _attributes, _times),
    st.tuples(st.just("end"), _times),
)
_limits = st.fixed_dictionaries(
    {},
    optional={
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": st.sampled_from(["0", "1", "3", ""]),
        "OTEL_ATTRIBUTE_COUNT_LIMIT": st.sampled_from(["0", "2"]),
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": st.sampled_from(["0", "4"]),
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": st.sampled_from(["3"]),
        "OTEL_SPAN_EVENT_COUNT_LIMIT": st.sampled_from(["1"]),
        "OTEL_SPAN_LINK_COUNT_LIMIT": st.sampled_from(["1"]),
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": st.sampled_from(["1"]),
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": st.sampled_from(["1"]),
    },
)


@given(
    limits=_limits,
    name=st.text(max_size=5),
    kind=st.sampled_from(SpanKind),
    parent=st.none() | _contexts,
    attributes=st.none() | _attributes,
    links=_links,
    start=_times,
    operations=st.lists(_operations, max_size=8),
    below=st.lists(_operations, max_size=4),
)
def test_the_same_calls_make_the_same_spans(
    limits: dict[str, str],
    name: str,
    kind: SpanKind,
    parent: SpanContext | None,
    attributes: dict[str, Any] | None,
    links: list[tuple[SpanContext, dict[str, Any]]],
    start: int,
    operations: list[tuple[Any, ...]],
    below: list[tuple[Any, ...]],
) -> None:
    def calls(tracer: trace.Tracer) -> object:
        above = (
            None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())
        )
        span = tracer.start_span(name, above, kind, attributes, [Link(*link) for link in links], start)
        child = tracer.start_span(
            "below", trace.set_span_in_context(span, Context()), attributes=attributes, start_time=start + 1
        )
        told = [run(child, below), run(span, operations)]
        return told, span.get_span_context(), child.get_span_context()

    def run(span: trace.Span, operations: list[tuple[Any, ...]]) -> list[bool]:
        told = []
        for operation, *arguments in operations:
            getattr(span, operation)(*arguments)
            told.append(span.is_recording())
        span.end(2**62)
        return told

    with mock.patch.dict(os.environ, limits):
        here, there = both(calls)
        assert sent(here) == sent(there)
        assert [span.dropped_attributes for span in here.ended] == [s.dropped_attributes for s in there.ended]


def test_plain_spans_are_sent_as_the_sdk_s_would_be() -> None:
    """By our encoder, which takes another way for them."""

    def calls(tracer: trace.Tracer) -> None:
        span = tracer.start_span("chat m", kind=SpanKind.CLIENT, attributes={"a": "b", "n": 1}, start_time=1)
        span.set_attributes({"gen_ai.response.finish_reasons": ("stop",), "s": 0.5, "on": True})
        span.end(2)

    here, there = both(calls)
    assert encoded(here.ended) == sent(there)


def test_what_is_mutable_is_copied() -> None:
    def calls(tracer: trace.Tracer) -> None:
        reasons = ["stop"]
        span = tracer.start_span("x", attributes={"first": reasons}, start_time=1)
        span.set_attribute("second", reasons)
        reasons.append("later")
        span.end(2)

    here, there = both(calls)
    assert same(here, there)
    assert dict(here.ended[0].attributes or {}) == {"first": ("stop",), "second": ("stop",)}


def test_the_default_limit_of_attributes_holds() -> None:
    def calls(tracer: trace.Tracer) -> None:
        span = tracer.start_span("x", start_time=1)
        span.set_attributes({f"a{n}": n for n in range(130)})
        span.end(2)

    here, there = both(calls)
    assert same(here, there)
    assert (len(here.ended[0].attributes or {}), here.ended[0].dropped_attributes) == (128, 2)


# -- exceptions -------------------------------------------------------------------------------------------


class Odd(Exception):
    pass


def without_times(kept: Kept) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest.FromString(sent(kept))
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.ClearField("start_time_unix_nano")
        span.ClearField("end_time_unix_nano")
        for event in span.events:
            event.ClearField("time_unix_nano")
    return request


@pytest.mark.parametrize("error", [ValueError("no"), Odd("no"), GeneratorExit()])
@pytest.mark.parametrize("flags", [{}, {"record_exception": False}, {"set_status_on_exception": False}])
def test_exceptions_are_recorded_where_a_span_is_left(error: BaseException, flags: dict[str, bool]) -> None:
    def calls(tracer: trace.Tracer) -> None:
        with pytest.raises(type(error)), tracer.start_span("own block", **flags):
            raise error.with_traceback(None)
        with pytest.raises(type(error)), trace.use_span(tracer.start_span("current"), True, **flags):
            raise error.with_traceback(None)

    here, there = both(calls)
    assert without_times(here) == without_times(there)


def test_the_current_span_is_current_within_its_block_only() -> None:
    def calls(tracer: trace.Tracer) -> list[bool]:
        with tracer.start_as_current_span("above", start_time=1) as above:
            inside = trace.get_current_span() is above
            tracer.start_span("below", start_time=2).end(3)
        return [inside, trace.get_current_span() is trace.INVALID_SPAN, above.is_recording()]

    here, there = both(calls)
    assert [span.name for span in here.ended] == ["below", "above"]
    assert without_times(here) == without_times(there)


def test_a_span_ends_once() -> None:
    here = Kept()
    span = Provider(here).get_tracer("x").start_span("x")
    span.end()
    span.end()
    assert len(here.ended) == 1
    assert (here.ended[0].end_time or 0) >= (here.ended[0].start_time or 0) > 0


# -- samplers ---------------------------------------------------------------------------------------------

REMOTE = [
    SpanContext(trace_id, 7, is_remote=True, trace_flags=TraceFlags(flags), trace_state=state)
    for trace_id in (5, 1 << 63)
    for flags in (0, 1, 2, 3)
    for state in (TraceState(), TraceState([("k", "v")]))
]


def family(tracer: trace.Tracer) -> list[SpanContext]:
    """Roots, and what is below remote spans, each three deep; contexts of all, recorded or not."""
    made = []
    above: list[SpanContext | None] = [*REMOTE, *[None] * 6]
    for number, remote in enumerate(above):
        context = Context()
        if remote is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(remote), context)
        spans = []
        for depth in range(3):
            spans.append(
                tracer.start_span(f"{number}/{depth}", context, attributes={"a": 1}, start_time=depth + 1)
            )
            context = trace.set_span_in_context(spans[-1], context)
        made += [span.get_span_context() for span in spans]
        for span in reversed(spans):
            span.end(9)
    return made


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("always_on", ""),
        ("always_off", ""),
        ("traceidratio", "0.5"),
        ("traceidratio", "0"),
        ("traceidratio", "nonsense"),
        ("parentbased_always_on", ""),
        ("parentbased_always_off", ""),
        ("parentbased_traceidratio", "0.5"),
        ("nonsense", ""),
        (None, None),
    ],
)
def test_samplers_named_by_the_environment_take_the_same_spans(
    monkeypatch: pytest.MonkeyPatch, name: str | None, argument: str | None
) -> None:
    if name is not None and argument is not None:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    here, there = both(family)
    assert same(here, there)
    assert Provider(Kept()).children_follow, "a span below a sampled one asks no sampler"
    if argument == "0.5":
        assert 0 < len(here.ended) < len(REMOTE) * 3


class Fickle(Sampler):
    """Takes every other span, tells something of its own, and changes the trace's state."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._decisions = decisions

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        decision = self._decisions[int(name[-1]) % len(self._decisions)]
        return SamplingResult(decision, {**(attributes or {}), "sampled.by": name}, TraceState([("s", name)]))

    def get_description(self) -> str:
        return "Fickle"


@pytest.mark.parametrize(
    "sampler",
    [
        Fickle(list(Decision)),
        Fickle([Decision.RECORD_AND_SAMPLE, Decision.DROP]),
        ParentBased(Fickle([Decision.RECORD_ONLY])),
        ParentBased(ALWAYS_ON, local_parent_sampled=TraceIdRatioBased(0.0)),
        AlwaysRecordSampler(TraceIdRatioBased(0.5)),
        StaticSampler(Decision.RECORD_ONLY),
    ],
)
def test_samplers_of_other_minds_are_asked_for_each_span(sampler: Sampler) -> None:
    here, there = both(family, sampler)
    assert same(here, there)


def test_a_span_below_another_provider_s_is_asked_for() -> None:
    """What is taken there need not be taken here."""
    here = Kept()
    ours = Provider(here, sampler=TraceIdRatioBased(0.0)).get_tracer("x")
    other = Provider(Kept(), sampler=ALWAYS_ON).get_tracer("x").start_span("other")
    span = ours.start_span("x", trace.set_span_in_context(other, Context()))
    assert not span.is_recording()
    assert span.get_span_context().trace_id == other.get_span_context().trace_id


def test_the_resource_of_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=blue")
    here = Kept()
    Provider(here).get_tracer("x").start_span("x").end()
    assert here.ended[0].resource.attributes["team"] == "blue"
