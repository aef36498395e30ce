"""Traces as others than their makers show them: a real Jaeger, or a receiver of OTLP in this process."""

import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol

from google.protobuf.json_format import MessageToDict, MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.network import InThread
from tests.support.processes import get_json


class Seen(NamedTuple):
    """One span."""

    name: str
    service: str
    instance: str
    kind: str
    id: str
    parent: str
    """Id of the span above it; empty for none."""
    linked_to: frozenset[str]
    """Ids of spans."""
    attributes: Mapping[str, Any]
    failed: bool


class Trace:
    def __init__(self, spans: Sequence[Seen]) -> None:
        self.spans = spans

    def named(self, name: str) -> list[Seen]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Seen:
        (span,) = self.named(name)
        return span

    def below(self, parent: Seen | str) -> list[Seen]:
        above = parent if isinstance(parent, str) else parent.id
        return [span for span in self.spans if span.parent == above]


class Traces(Protocol):
    """Who collects them."""

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        ...

    def trace(self, trace_id: str) -> Trace: ...

    def everything(self) -> str:
        """All it can show, as text."""
        ...


# ---- Jaeger


class Jaeger:
    """Its HTTP API, which its user interface reads too."""

    def __init__(self, endpoint: str, query_url: str) -> None:
        self.endpoint = endpoint
        self._query_url = query_url

    def trace(self, trace_id: str) -> Trace:
        found = get_json(f"{self._query_url}/api/traces/{trace_id}") or {}
        return Trace([span for trace in found.get("data") or () for span in _of_jaeger(trace)])

    def found_by(self, service: str, tags: Mapping[str, str]) -> set[str]:
        """The ids that its search shows for tags."""
        query = urllib.parse.urlencode({"service": service, "tags": json.dumps(tags), "limit": 1500})
        found = get_json(f"{self._query_url}/api/traces?{query}&lookback=1h")
        return {trace["traceID"] for trace in found["data"] or ()}

    def everything(self) -> str:
        services = get_json(f"{self._query_url}/api/services")["data"] or []
        found = [
            get_json(
                f"{self._query_url}/api/traces?limit=1500&lookback=1h&service=" + urllib.parse.quote(name)
            )
            for name in services
        ]
        return json.dumps(found, ensure_ascii=False)


def _of_jaeger(trace: Mapping[str, Any]) -> Iterator[Seen]:
    for span in trace["spans"]:
        process = trace["processes"][span["processID"]]
        tags = {tag["key"]: tag["value"] for tag in span["tags"]}
        above = [one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"]
        beside = {one["spanID"] for one in span["references"] if one["refType"] == "FOLLOWS_FROM"}
        yield Seen(
            name=span["operationName"],
            service=process["serviceName"],
            instance={tag["key"]: tag["value"] for tag in process["tags"]}["service.instance.id"],
            kind=tags.get("span.kind", "internal"),
            id=span["spanID"],
            parent=above[0] if above else "",
            linked_to=frozenset(beside),
            attributes=tags,
            failed=tags.get("error") is True and tags.get("otel.status_code") == "ERROR",
        )


# ---- a receiver


class Receiver(InThread):
    """Takes OTLP over HTTP, in a thread of its own, and keeps it."""

    def __init__(self) -> None:
        self._requests: list[ExportTraceServiceRequest] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver._requests.append(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))

    @property
    def endpoint(self) -> str:
        return self.url

    def trace(self, trace_id: str) -> Trace:
        return Trace(
            [span for request in list(self._requests) for span in _of_otlp(request, bytes.fromhex(trace_id))]
        )

    def everything(self) -> str:
        return "\n".join(MessageToJson(request, ensure_ascii=False) for request in list(self._requests))


def _of_otlp(request: ExportTraceServiceRequest, trace_id: bytes) -> Iterator[Seen]:
    for resource in request.resource_spans:
        process = _attributes(resource.resource.attributes)
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            if span.trace_id == trace_id:
                yield _seen(span, process)


def _seen(span: Span, process: Mapping[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        service=process["service.name"],
        instance=process["service.instance.id"],
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        linked_to=frozenset(link.span_id.hex() for link in span.links),
        attributes=_attributes(span.attributes),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
    )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    """As Jaeger shows it: lists are JSON text."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return json.dumps([_value(one) for one in value.array_value.values], separators=(",", ":"))
    return getattr(value, kind) if kind else MessageToDict(value)
