"""Spans of turns and attempts, named and attributed as the GenAI conventions say.

Below the server span of a request (or a WebSocket connection), which telemetry/traced_app.py makes, one
`chat {model}` span for every attempt. Context travels to workers as `traceparent` in the envelope of a
message. A message carries one turn, so a worker's span has the attempt's for its parent, during which it
runs; it is in the same trace and as sampled. For the messaging conventions it links to the span that
submitted it. That must not be the parent too: of two references to one span Jaeger keeps the link.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway.kernel.errors import GatewayError
from gateway.telemetry import content
from gateway.turn.items import Item
from gateway.turn.ports import UNTRACED, AttemptFailed, Stage, Trace
from gateway.turn.usage import Usage

_INTERNAL = trace.SpanKind.INTERNAL
_KINDS = {"POST": trace.SpanKind.CLIENT, "ask": trace.SpanKind.CLIENT, "submit": trace.SpanKind.PRODUCER}

MAX_LOSSES = 32
"""On a span; the header has its own bound."""

_propagator = TraceContextTextMapPropagator()


def traceparent_of(context: trace.SpanContext) -> str:
    """As the W3C has it; the propagator takes ten times as long."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


class StageSpan:
    """A part of a turn or of an attempt, for a `with` block that ends it; see turn.ports.Stage.

    Never the task's current span: generators move between contexts.
    """

    __slots__ = ("span",)

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    @property
    def trace(self) -> Trace:
        """For the envelope of a message; both empty without tracing."""
        context = self.span.get_span_context()
        if not context.is_valid:
            return "", ""
        return traceparent_of(context), context.trace_state.to_header() if context.trace_state else ""

    def tell(self, **attributes: str | int | bool) -> None:
        """Attributes, whose dots are written as two underscores."""
        self.span.set_attributes({name.replace("__", "."): value for name, value in attributes.items()})

    def failed(self, error_type: str) -> None:
        self.span.set_attribute(error_attributes.ERROR_TYPE, error_type)
        self.span.set_status(trace.StatusCode.ERROR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            # Its text stays out: upstreams quote what they refuse.
            self.span.set_attribute("gateway.outcome", "failed")
            self.failed(_error_type(error))
        elif error is not None:
            self.span.set_attribute("gateway.outcome", "cancelled")
        self.span.end()


class TurnSpan(StageSpan):
    """The span of one attempt."""

    __slots__ = ("_tracer",)

    def __init__(self, span: trace.Span, tracer: trace.Tracer) -> None:
        super().__init__(span)
        self._tracer = tracer

    def stage(self, name: str) -> Stage:
        """A span below this one; nothing where this one is not recorded."""
        if not self.span.is_recording():
            return UNTRACED
        context = trace.set_span_in_context(self.span, Context())
        return StageSpan(self._tracer.start_span(name, context=context, kind=_KINDS.get(name, _INTERNAL)))

    @property
    def is_recording(self) -> bool:
        return self.span.is_recording()

    def first_content(self, after_s: float) -> None:
        self.span.set_attribute(gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, after_s)

    def asks(self, items: Sequence[Item]) -> None:
        """Record what is asked; for callers that may, see Tracing.content."""
        if self.span.is_recording():
            self.span.set_attributes(content.asked(items))

    def answers(self, items: Sequence[Item], finish: str) -> None:
        """Record what was answered; likewise."""
        if self.span.is_recording():
            self.span.set_attributes(content.answered(items, finish))

    def finish(
        self,
        *,
        outcome: str,
        finish: str = "",
        error_kind: str = "",
        usage: Usage | None = None,
        losses: Sequence[str] = (),
    ) -> None:
        """Say how the attempt ended; the block ends the span."""
        told: dict[str, AttributeValue] = {"gateway.outcome": outcome}
        if losses:
            told["gateway.losses"] = tuple(losses[:MAX_LOSSES])
        if finish:
            told[gen_ai.GEN_AI_RESPONSE_FINISH_REASONS] = (finish,)
        if usage is not None:
            if usage.input_tokens is not None:
                told[gen_ai.GEN_AI_USAGE_INPUT_TOKENS] = usage.input_tokens
            if usage.output_tokens is not None:
                told[gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS] = usage.output_tokens
        if outcome == "failed":
            told[error_attributes.ERROR_TYPE] = error_kind or "_OTHER"
            self.span.set_status(trace.StatusCode.ERROR)
        self.span.set_attributes(told)


_NO_SPAN = TurnSpan(trace.INVALID_SPAN, trace.NoOpTracer())
"""Of all attempts while nothing is traced."""


def _error_type(error: Exception) -> str:
    """A kind of ours or, of what nobody foresaw, the class."""
    if isinstance(error, AttemptFailed):
        error = error.error
    return str(error.kind) if isinstance(error, GatewayError) else type(error).__name__


def turn_span(
    tracer: trace.Tracer,
    *,
    upstream: str,
    model: str,
    turn_id: str,
    attempt: int = 1,
    stream: bool = False,
    request_id: str = "",
) -> TurnSpan:
    """One attempt. Its parent is the current span."""
    if type(tracer) is trace.NoOpTracer:
        return _NO_SPAN
    span = tracer.start_span(
        f"chat {model}",
        kind=trace.SpanKind.CLIENT,
        attributes={
            gen_ai.GEN_AI_OPERATION_NAME: "chat",
            gen_ai.GEN_AI_PROVIDER_NAME: upstream,
            gen_ai.GEN_AI_REQUEST_MODEL: model,
            gen_ai.GEN_AI_REQUEST_STREAM: stream,
            "gateway.turn.id": turn_id,
            "gateway.attempt": attempt,
            "gateway.request.id": request_id,
        },
    )
    return TurnSpan(span, tracer)


def stage_span(tracer: trace.Tracer, name: str) -> Stage:
    """A part of a turn outside its attempts, below the current span."""
    if type(tracer) is trace.NoOpTracer:
        return UNTRACED
    span = tracer.start_span(name)
    return StageSpan(span) if span.is_recording() else UNTRACED


def exemplar() -> dict[str, str] | None:
    """What names the current span beside a metric; None unless it is sampled, for nobody could look it up."""
    context = trace.get_current_span().get_span_context()
    if not context.trace_flags.sampled:
        return None
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }


def worker_span(
    tracer: trace.Tracer,
    *,
    instance: str,
    turn_id: str,
    attempt: int,
    trace_of_attempt: Trace,
    submitted: str,
) -> TurnSpan:
    """A worker's part of one attempt, below its span; a trace of its own where that is not known.

    submitted: the traceparent of the span that submitted it.
    """
    submit = trace.get_current_span(_context(submitted)).get_span_context()
    span = tracer.start_span(
        f"run {instance}",
        context=_context(*trace_of_attempt),
        kind=trace.SpanKind.CONSUMER,
        attributes={"gateway.turn.id": turn_id, "gateway.attempt": attempt, "gateway.instance": instance},
        links=[trace.Link(submit)] if submit.is_valid else [],
    )
    return TurnSpan(span, tracer)


def _context(traceparent: str, tracestate: str = "") -> Context:
    return _propagator.extract({"traceparent": traceparent, "tracestate": tracestate}, Context())
