"""Tracing from the standard OpenTelemetry variables; nothing at all when they name no exporter.

Read by the SDK and the exporter themselves: OTEL_EXPORTER_OTLP_ENDPOINT (and the other OTEL_EXPORTER_OTLP_*),
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*. Read here: OTEL_SDK_DISABLED,
OTEL_TRACES_EXPORTER (`otlp`, `console` or `none`; unset means otlp as soon as an endpoint is named), and
whether spans may hold what was said, see telemetry/content.py.

No provider is made global: a process may hold several (tests do), and what needs a tracer is given one.
"""

import sys
from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

from gateway.telemetry import otlp
from gateway.telemetry.content import is_wanted
from gateway.telemetry.tracer import Provider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing(NamedTuple):
    """The tracer of this process, and its provider when there is anything to export to."""

    tracer: trace.Tracer
    provider: Provider | None
    content: bool = False
    """Spans may hold what was asked and answered."""

    @property
    def enabled(self) -> bool:
        return self.provider is not None

    def close(self) -> None:
        """Export what is waiting; bounded by the exporter's own timeout."""
        if self.provider is not None:
            self.provider.shutdown()


def start_tracing(environ: Mapping[str, str], *, service: str, instance: str, version: str) -> Tracing:
    """Set up tracing for this process. `service` is the default of OTEL_SERVICE_NAME."""
    processor = _processor(environ)
    if processor is None:
        return Tracing(trace.NoOpTracer(), None)
    resource = Resource.create(
        {"service.name": environ.get("OTEL_SERVICE_NAME") or service}
        | {"service.instance.id": instance, "service.version": version}
    )
    return traced_by(processor, resource, content=is_wanted(environ))


def traced_by(
    processor: SpanProcessor, resource: Resource | None = None, *, content: bool = False
) -> Tracing:
    """Tracing that hands its spans to a processor."""
    provider = Provider(processor, resource)
    return Tracing(provider.get_tracer("lingma-gateway"), provider, content)


def _processor(environ: Mapping[str, str]) -> SpanProcessor | None:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    wanted = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not wanted and any(environ.get(name) for name in _ENDPOINTS):
        wanted = "otlp"
    if wanted == "otlp":
        # 80 ms to import: only those who trace pay for it.
        from opentelemetry.exporter.otlp.proto.http import trace_exporter

        trace_exporter.encode_spans = otlp.encode_spans  # type: ignore[attr-defined,assignment]
        return BatchSpanProcessor(trace_exporter.OTLPSpanExporter())
    if wanted == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr))
    return None
