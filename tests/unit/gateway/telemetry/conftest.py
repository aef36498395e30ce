"""Tracing whose spans are kept."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway.telemetry.setup import Tracing, traced_by


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
