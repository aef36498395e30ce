"""Spans that cost little to make: the tracing API of OpenTelemetry over the parts of its SDK.

Whatever decides is the SDK's: sampler, ids, resource, limits, and the processor that gets a span when it has
ended. Only the recording is ours. The SDK's locks every span and every set of attributes and copies values
through three layers, which costs more than the rest together (docs/adr/0016-spans-of-our-own.md). What is
rare (events, links, odd values) goes through its containers, and tests hold the spans of both together.

Not for threads: whoever makes a span sets and ends it on the same one. What is set on a span that has ended
is ignored. Made by telemetry/setup.py; everybody else uses the API.
"""

import contextlib
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, StaticSampler, TraceIdRatioBased
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.attributes import exception_attributes
from opentelemetry.util.types import AnyValue, Attributes

_PLAIN: Final = frozenset({str, bool, int, float})
"""Types of values that are kept as they are."""
_UNSET: Final = trace.Status(trace.StatusCode.UNSET)
_DROPPED: Final[Any] = object()
"""In the place of a value that the SDK refuses."""
_SAMPLED: Final = trace.TraceFlags.SAMPLED
_INTERNAL: Final = trace.SpanKind.INTERNAL


class Provider(trace.TracerProvider):
    """Of tracers whose spans all go to one processor; samples and limits as the standard variables say."""

    def __init__(
        self, processor: sdk.SpanProcessor, resource: Resource | None = None, sampler: Sampler | None = None
    ) -> None:
        # It reads the environment.
        parts = sdk.TracerProvider(sampler, resource, shutdown_on_exit=False)
        self.processor = processor
        self.resource = parts.resource
        self.sampler = parts.sampler
        self.ids = parts.id_generator
        self.limits = limits = sdk.SpanLimits()
        self.plain = _PLAIN if limits.max_span_attribute_length is None else _PLAIN - {str}
        self.children_follow = _children_follow(parts.sampler)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> "Tracer":
        version = instrumenting_library_version or ""
        return Tracer(self, InstrumentationScope(instrumenting_module_name, version, schema_url, attributes))

    def force_flush(self) -> bool:
        return self.processor.force_flush()

    def shutdown(self) -> None:
        """Export what is waiting."""
        self.processor.shutdown()


def _children_follow(sampler: Sampler) -> bool:
    """Whether what is below a span that was taken here is surely taken, with its parent's trace state.

    So it is with all samplers that OTEL_TRACES_SAMPLER names; others are asked each time.
    """
    if type(sampler).should_sample is ParentBased.should_sample:
        described: str = sampler.get_description()
        return ",localParentSampled:AlwaysOnSampler," in described
    # What they say depends on nothing, or on the trace's id.
    return type(sampler) in (StaticSampler, TraceIdRatioBased)


class Tracer(trace.Tracer):
    def __init__(self, provider: Provider, scope: InstrumentationScope) -> None:
        self.provider = provider
        self.scope = scope

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: trace.SpanKind = _INTERNAL,
        attributes: Attributes = None,
        links: Sequence[trace.Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        provider = self.provider
        above = trace.get_current_span(context)
        if (
            type(above) is Span
            and above.tracer.provider is provider
            and provider.children_follow
            and above.own.trace_flags & _SAMPLED
        ):
            parent = above.own
            own = trace.SpanContext(
                parent.trace_id,
                provider.ids.generate_span_id(),
                False,
                parent.trace_flags,
                parent.trace_state,
            )
            span = Span(self, name, own, parent, kind, start_time)
        else:
            asked = self._sampled(above.get_span_context(), name, context, kind, attributes, links or ())
            own, parent_or_none, taken, attributes = asked
            if not taken:
                return trace.NonRecordingSpan(own)
            span = Span(self, name, own, parent_or_none, kind, start_time)
        if not record_exception or not set_status_on_exception:
            span.on_exception = (record_exception, set_status_on_exception)
        if attributes:
            span.set_attributes(attributes)
        if links:
            for link in links:
                span.add_link(link.context, link.attributes)
        provider.processor.on_start(span, context)  # type: ignore[arg-type]
        return span

    def _sampled(
        self,
        parent: trace.SpanContext,
        name: str,
        context: Context | None,
        kind: trace.SpanKind,
        attributes: Attributes,
        links: Sequence[trace.Link],
    ) -> tuple[trace.SpanContext, trace.SpanContext | None, bool, Attributes]:
        """Its own context, the parent's if there is one, whether to record it, and with which attributes."""
        provider = self.provider
        if parent.is_valid:
            trace_id, is_random = parent.trace_id, parent.trace_flags.random_trace_id
        else:
            trace_id, is_random = provider.ids.generate_trace_id(), provider.ids.is_trace_id_random()
        result = provider.sampler.should_sample(context, trace_id, name, kind, attributes, links)
        is_taken = result.decision is Decision.RECORD_AND_SAMPLE
        flags = _SAMPLED if is_taken else trace.TraceFlags.DEFAULT
        if is_random:
            flags |= trace.TraceFlags.RANDOM_TRACE_ID
        own = trace.SpanContext(
            trace_id, provider.ids.generate_span_id(), False, trace.TraceFlags(flags), result.trace_state
        )
        above = parent if parent.is_valid else None
        return own, above, result.decision is not Decision.DROP, result.attributes

    @contextlib.contextmanager
    def start_as_current_span(  # type: ignore[override]
        self,
        name: str,
        context: Context | None = None,
        kind: trace.SpanKind = _INTERNAL,
        attributes: Attributes = None,
        links: Sequence[trace.Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[trace.Span]:
        on_exception = (record_exception, set_status_on_exception)
        span = self.start_span(name, context, kind, attributes, links, start_time, *on_exception)
        with trace.use_span(span, end_on_exit, *on_exception):
            yield span


class Span(trace.Span, sdk.ReadableSpan):
    """One that is recorded. When it has ended it is itself what the processor gets, and changes no more."""

    on_exception = (True, True)
    """Whether to record one as an event, and as the status, that leaves a `with` block of the span itself."""

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        own: trace.SpanContext,
        parent: trace.SpanContext | None,
        kind: trace.SpanKind,
        start_time: int | None,
    ) -> None:
        provider = tracer.provider
        sdk.ReadableSpan.__init__(
            self,
            name,
            own,
            parent,
            provider.resource,
            kind=kind,
            status=_UNSET,
            start_time=time.time_ns() if start_time is None else start_time,
            instrumentation_scope=tracer.scope,
        )
        self.tracer = tracer
        self.own = own
        self._attributes: dict[str, AnyValue] = {}
        self._plain = provider.plain
        self._most = provider.limits.max_span_attributes
        self._dropped = 0

    # -- for who makes it ---------------------------------------------------------------------------------

    def get_span_context(self) -> trace.SpanContext:
        return self.own

    def is_recording(self) -> bool:
        return self._end_time is None

    def set_attribute(self, key: str, value: AnyValue) -> None:
        if self._end_time is not None:
            return
        if type(value) not in self._plain or not key:
            value = self._cleaned(key, value)
            if value is _DROPPED:
                return
        kept = self._attributes
        if key in kept:
            del kept[key]  # the last set is the last dropped
        elif len(kept) == self._most and not self._make_room():
            return
        kept[key] = value

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        keep = self.set_attribute
        for key, value in attributes.items():
            keep(key, value)

    def update_name(self, name: str) -> None:
        if self._end_time is None:
            self._name = name

    def set_status(self, status: trace.Status | trace.StatusCode, description: str | None = None) -> None:
        code = status if isinstance(status, trace.StatusCode) else status.status_code
        settled = self._end_time is not None or self._status.status_code is trace.StatusCode.OK
        if not settled and code is not trace.StatusCode.UNSET:
            self._status = status if isinstance(status, trace.Status) else trace.Status(status, description)

    def end(self, end_time: int | None = None) -> None:
        if self._end_time is None:
            self._end_time = time.time_ns() if end_time is None else end_time
            self.tracer.provider.processor.on_end(self)

    # -- what is rare -------------------------------------------------------------------------------------

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if self._end_time is not None:
            return
        limits = self.tracer.provider.limits
        if not isinstance(self._events, BoundedList):
            self._events = BoundedList(limits.max_events)
        kept = BoundedAttributes(
            limits.max_event_attributes, attributes, max_value_len=limits.max_attribute_length
        )
        self._events.append(sdk.Event(name, kept, timestamp))

    def add_link(self, context: trace.SpanContext, attributes: Attributes = None) -> None:
        if self._end_time is not None or not (context.is_valid or attributes or context.trace_state):
            return
        limits = self.tracer.provider.limits
        if not isinstance(self._links, BoundedList):
            self._links = BoundedList(limits.max_links)
        kept = BoundedAttributes(
            limits.max_link_attributes, attributes, max_value_len=limits.max_attribute_length
        )
        self._links.append(trace.Link(context, kept))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        kind = type(exception)
        module = "" if kind.__module__ in (None, "builtins") else f"{kind.__module__}."
        told: dict[str, AnyValue] = {
            exception_attributes.EXCEPTION_TYPE: module + kind.__qualname__,
            exception_attributes.EXCEPTION_MESSAGE: str(exception),
            exception_attributes.EXCEPTION_STACKTRACE: "".join(traceback.format_exception(exception)),
            exception_attributes.EXCEPTION_ESCAPED: str(escaped),
        }
        self.add_event("exception", told | dict(attributes or {}), timestamp)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        as_event, as_status = self.on_exception
        if exception is not None and as_event:
            self.record_exception(exception, escaped=True)
        if exception is not None and as_status:
            self.set_status(trace.StatusCode.ERROR, f"{type(exception).__name__}: {exception}")
        self.end()

    @property
    def dropped_attributes(self) -> int:
        return self._dropped

    def _cleaned(self, key: str, value: AnyValue) -> AnyValue:
        """As the SDK keeps what is no plain text or number, or may be too long."""
        if key and type(value) is tuple and all(type(one) in self._plain for one in value):
            return value
        longest = self.tracer.provider.limits.max_span_attribute_length
        cleaned = BoundedAttributes(None, {key: value}, max_value_len=longest)
        self._dropped += cleaned.dropped
        return cleaned.get(key, _DROPPED)

    def _make_room(self) -> bool:
        """Drop the oldest attribute; False when there is no room for any."""
        self._dropped += 1
        if not self._most:
            return False
        del self._attributes[next(iter(self._attributes))]
        return True
