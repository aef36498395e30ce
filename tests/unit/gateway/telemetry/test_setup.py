"""Whether tracing is on, by the standard variables."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.telemetry.setup import start_tracing, traced_by


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
        {"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "console"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_no_exporter_means_no_tracing(environ: dict[str, str]) -> None:
    tracing = start_tracing(environ, service="s", instance="i", version="0")
    assert not tracing.enabled
    assert not tracing.tracer.start_span("x").is_recording()
    tracing.close()


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
    ],
)
def test_an_endpoint_or_the_exporters_name_switches_tracing_on(environ: dict[str, str]) -> None:
    tracing = start_tracing(environ, service="lingma-gateway", instance="r-1", version="1.2")
    assert tracing.provider is not None
    attributes = tracing.provider.resource.attributes
    assert attributes["service.name"] == "lingma-gateway"
    assert attributes["service.instance.id"] == "r-1"
    assert attributes["service.version"] == "1.2"
    tracing.close()


def test_spans_hold_what_is_said_only_when_asked_for() -> None:
    environ = {"OTEL_TRACES_EXPORTER": "otlp"}
    for extra, expected in (
        ({}, False),
        ({"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true"}, True),
    ):
        tracing = start_tracing({**environ, **extra}, service="s", instance="i", version="0")
        tracing.close()
        assert tracing.content is expected


def test_the_service_name_of_the_environment_wins() -> None:
    environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SERVICE_NAME": "mine"}
    tracing = start_tracing(environ, service="s", instance="i", version="0")
    assert tracing.provider is not None
    assert tracing.provider.resource.attributes["service.name"] == "mine"
    tracing.close()


def test_nothing_global_is_touched() -> None:
    exporter = InMemorySpanExporter()
    tracing = traced_by(SimpleSpanProcessor(exporter))
    with tracing.tracer.start_as_current_span("ours"):
        trace.get_tracer("somebody else").start_span("theirs").end()
    assert [span.name for span in exporter.get_finished_spans()] == ["ours"]
