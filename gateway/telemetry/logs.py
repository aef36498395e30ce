"""Log records as JSON lines on stderr, or as readable lines where stderr is a terminal.

Our code logs with the standard library: the message is the name of an event, `area.verb`, and its fields are
in `extra`. structlog formats the records, those of Hypercorn, redis and warnings included. What is bound with
structlog.contextvars (a request's id) is in every record of its task, and the trace id while a span is open.
"""

import logging
import sys
from typing import Any, TextIO

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.kernel.json import dumps
from gateway.telemetry.redact import redact_fields

_FIRST = ("ts", "level", "event", "logger")
_NOISY = {
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "h2": logging.WARNING,
    "hpack": logging.WARNING,
    "opentelemetry": logging.WARNING,
    "opentelemetry.trace": logging.ERROR,
    "websockets": logging.WARNING,
}
"""Libraries whose INFO and DEBUG tell nothing about the gateway. That of hpack is every header: keys. And
opentelemetry.trace warns, quoting them, of headers that any client may send.
"""


class _OurHandler(logging.StreamHandler[TextIO]):
    """Marks the handler that setup_logs() may replace."""


def setup_logs(level: str = "INFO", *, stream: TextIO | None = None, readable: bool | None = None) -> None:
    """Send all records of this process to a stream, in one form. Calling it again replaces the former set-up.

    `readable` None means: when the stream is a terminal.
    """
    target = stream if stream is not None else sys.stderr
    handler = _OurHandler(target)
    handler.setFormatter(formatter(readable=target.isatty() if readable is None else readable))
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _OurHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name, floor in _NOISY.items():
        logging.getLogger(name).setLevel(max(floor, root.level))
    logging.captureWarnings(True)


def server_logger() -> logging.Logger:
    """What Hypercorn's `errorlog` is set to, so that its records take the same way as ours."""
    return logging.getLogger("hypercorn.error")


def formatter(*, readable: bool) -> logging.Formatter:
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _add_trace_id,
    ]
    # Plain tracebacks in both forms: the pretty ones show local variables, and those hold keys.
    plain = structlog.dev.plain_traceback
    console = structlog.dev.ConsoleRenderer(timestamp_key="ts", colors=False, exception_formatter=plain)
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _redact,
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=common, processors=[*last, console] if readable else [*last, _order, _render]
    )


def _add_trace_id(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        fields["trace_id"] = trace.format_trace_id(context.trace_id)
    return fields


def _redact(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    fields.pop("message", None)  # left on the record by another handler; it repeats the event
    return redact_fields(fields)


def _order(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    first = {name: fields[name] for name in _FIRST if name in fields}
    return first | {name: value for name, value in fields.items() if name not in first}


def _render(_logger: WrappedLogger, _method: str, fields: Any) -> str:
    return dumps(fields).decode()
