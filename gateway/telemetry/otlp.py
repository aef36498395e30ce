"""Spans to the bytes of an OTLP request, for the exporter that sends them. Pure.

The OpenTelemetry encoder takes 21 us a span, more than to make one; here a plain one takes 5. A span
with events, links or attributes of rare types goes to the original: requests are lists, so that the bytes of
two, one behind the other, are one. Field numbers are those of opentelemetry-proto 1, trace/v1/trace.proto.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
_SHORT: Final = 0x80 - 4
"""Bytes of a name and a text whose sizes all fit into one byte."""
_COMMON: Final = 24
"""Characters of a text that may come again; ids have more."""
_MAX_INT: Final = 2**63
_times: Final = struct.Struct("<BQBQ").pack
_double: Final = struct.Struct("<Bd").pack
_flags: Final = struct.Struct("<BBI").pack


class SpanRequest:
    """What the exporter takes for a message: it only asks for the bytes."""

    def __init__(self, spans: Sequence[ReadableSpan]) -> None:
        self._spans = spans

    def SerializePartialToString(self) -> bytes:
        return encoded(self._spans)


encode_spans: Final = SpanRequest
"""To stand for the original of that name in the exporter."""


def encoded(spans: Sequence[ReadableSpan]) -> bytes:
    """An ExportTraceServiceRequest."""
    # By identity: to hash a resource is to write all of it.
    sources: dict[tuple[int, int], tuple[bytes, bytes] | None] = {}
    plain: dict[tuple[int, int], list[bytes]] = {}
    rare: list[ReadableSpan] = []
    for span in spans:
        resource, scope = span.resource, span.instrumentation_scope
        source = (id(resource), id(scope))
        if source not in sources:
            sources[source], plain[source] = _source(resource, scope), []
        try:
            written = None if sources[source] is None else _span(span)
        except UnicodeEncodeError:
            written = None
        if written is None:
            rare.append(span)
        else:
            plain[source].append(_field(0x12, written))
    request = b"".join(
        _field(0x0A, told[0] + _field(0x12, told[1] + b"".join(plain[source])))
        for source, told in sources.items()
        if told is not None and plain[source]
    )
    if not rare:
        return request
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as original

    rest: bytes = original(rare).SerializePartialToString()
    return request + rest


def _source(resource: Resource, scope: InstrumentationScope | None) -> tuple[bytes, bytes] | None:
    """None for those that are not plain."""
    try:
        told, scoped = _resource(resource), _scope(scope)
    except UnicodeEncodeError:  # such as an environment that is no UTF-8
        return None
    return None if told is None or scoped is None else (told, scoped)


def _span(span: ReadableSpan) -> bytes | None:
    """None for one that is not plain."""
    context, parent, start, end = span.context, span.parent, span.start_time, span.end_time
    if context is None or start is None or end is None or span.events or span.links or context.trace_state:
        return None
    if span.dropped_attributes or span.dropped_events or span.dropped_links:
        return None
    attributes = _attributes(0x4A, span.attributes)
    if attributes is None:
        return None
    status = span.status
    told = b"" if not status.description else _text(0x12, status.description)
    if status.status_code.value:
        told += b"\x18%c" % status.status_code.value
    remote = _IS_REMOTE if parent is not None and parent.is_remote else 0
    return b"".join(
        (
            b"\x0a\x10",
            context.trace_id.to_bytes(16),
            b"\x12\x08",
            context.span_id.to_bytes(8),
            b"" if parent is None else b"\x22\x08" + parent.span_id.to_bytes(8),
            _text(0x2A, span.name),
            b"\x30%c" % (span.kind.value + 1),
            _times(0x39, start, 0x41, end),
            attributes,
            _field(0x7A, told),
            _flags(0x85, 0x01, _HAS_IS_REMOTE | remote),
        )
    )


def _resource(resource: Resource) -> bytes | None:
    attributes = _attributes(0x0A, resource.attributes)
    if attributes is None:
        return None
    schema = _text(0x1A, resource.schema_url) if resource.schema_url else b""
    return _field(0x0A, attributes) + schema


def _scope(scope: InstrumentationScope | None) -> bytes | None:
    if scope is None:
        return _field(0x0A, b"")
    attributes = _attributes(0x1A, scope.attributes)
    if attributes is None:
        return None
    named = _text(0x0A, scope.name) + (_text(0x12, scope.version) if scope.version else b"")
    schema = _text(0x1A, scope.schema_url) if scope.schema_url else b""
    return _field(0x0A, named + attributes) + schema


def _attributes(tag: int, attributes: Mapping[str, Any] | None) -> bytes | None:
    """As a repeated field of that tag; None when there are values of rare types among them."""
    pieces = []
    for key, value in (attributes or {}).items():
        kind = type(value)
        if (kind is str and len(value) <= _COMMON) or kind is int or kind is bool:
            written = _common(tag, key, value)
        elif kind is str and (size := len(text := value.encode())) + len(name := _key(key)) < _SHORT:
            written = b"%c%c%b\x12%c\x0a%c%b" % (tag, len(name) + size + 4, name, size + 2, size, text)
        else:
            written = _attribute(tag, key, value)
        if written is None:
            return None
        pieces.append(written)
    return b"".join(pieces)


def _attribute(tag: int, key: str, value: object) -> bytes | None:
    written = _value(value)
    return None if written is None else _field(tag, _key(key) + _field(0x12, written))


_common: Final = lru_cache(maxsize=1024, typed=True)(_attribute)
"""Most attributes of a span were in many before."""


@lru_cache(maxsize=512)
def _key(key: str) -> bytes:
    return _text(0x0A, key)


def _value(value: object) -> bytes | None:
    """An AnyValue."""
    match value:
        case str():
            return _text(0x0A, value)
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case int() if 0 <= value < _MAX_INT:
            return b"\x18" + _varint(value)
        case float():
            return _double(0x21, value)
        case tuple():
            written = [_value(one) for one in value]
            if None in written:
                return None
            return _field(0x2A, b"".join(_field(0x0A, one) for one in written if one is not None))
        case _:
            return None


def _text(tag: int, text: str) -> bytes:
    return _field(tag, text.encode())


def _field(tag: int, data: bytes) -> bytes:
    size = len(data)
    return b"%c%c%b" % (tag, size, data) if size < 0x80 else b"%c%b%b" % (tag, _varint(size), data)


def _varint(number: int) -> bytes:
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    pieces.append(number)
    return bytes(pieces)
