"""The form of log lines, and that no record of anybody's takes another way."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from structlog.contextvars import bound_contextvars

from gateway.telemetry import logs

log = logging.getLogger("gateway.test")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Configured logging into a buffer, undone afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    buffer = io.StringIO()
    logs.setup_logs("INFO", stream=buffer)
    yield buffer
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_line_with_its_extras(stream: io.StringIO) -> None:
    log.info("turn.finished", extra={"turn_id": "t-1", "ttft_ms": 12, "finish": None})
    (line,) = lines(stream)
    assert list(line)[:4] == ["ts", "level", "event", "logger"]
    assert line["ts"].endswith("Z")
    del line["ts"]
    assert line == {
        "level": "info",
        "event": "turn.finished",
        "logger": "gateway.test",
        "turn_id": "t-1",
        "ttft_ms": 12,
        "finish": None,
    }


def test_what_is_bound_is_in_every_record_of_the_block(stream: io.StringIO) -> None:
    with bound_contextvars(request_id="r-1"):
        log.info("a.b")
    log.info("c.d")
    inside, outside = lines(stream)
    assert inside["request_id"] == "r-1"
    assert "request_id" not in outside


async def test_requests_at_the_same_time_do_not_mix(stream: io.StringIO) -> None:
    async def request(request_id: str) -> None:
        with bound_contextvars(request_id=request_id):
            await anyio.sleep(0)
            log.info("a.b")

    async with anyio.create_task_group() as group:
        group.start_soon(request, "r-1")
        group.start_soon(request, "r-2")
    log.info("c.d")
    assert [line.get("request_id") for line in lines(stream)] == ["r-1", "r-2", None]


def test_the_trace_id_is_there_while_a_span_is_open(stream: io.StringIO) -> None:
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as span:
        log.info("a.b")
    assert lines(stream)[0]["trace_id"] == format(span.get_span_context().trace_id, "032x")


@pytest.mark.parametrize("readable", [False, True])
def test_no_form_shows_secrets_of_fields_or_local_variables(readable: bool) -> None:
    buffer = io.StringIO()
    handler = logging.StreamHandler(buffer)
    handler.setFormatter(logs.formatter(readable=readable))
    local = "sk-local-variable-12345678"
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.LogRecord("gateway.x", logging.ERROR, __file__, 1, "a.b", None, None)
        record.__dict__.update(api_key="k-hidden", detail=f"Bearer {local}")
        record.exc_info = sys.exc_info()
        handler.emit(record)
    text = buffer.getvalue()
    assert "Traceback" in text
    assert "ValueError: no" in text
    assert "hidden" not in text
    assert local not in text


def test_records_of_libraries_and_warnings_take_the_same_way(stream: io.StringIO) -> None:
    logs.server_logger().info("Running on %s", "http://x")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    server, warning = lines(stream)
    assert server["event"] == "Running on http://x"
    assert server["logger"] == "hypercorn.error"
    assert "old thing" in warning["event"]


def test_configuring_twice_does_not_double_the_lines(stream: io.StringIO) -> None:
    logs.setup_logs("WARNING", stream=stream)
    log.info("a.b")
    log.warning("c.d")
    assert [line["event"] for line in lines(stream)] == ["c.d"]


def test_libraries_that_chatter_are_quiet_even_at_debug(stream: io.StringIO) -> None:
    logs.setup_logs("DEBUG", stream=stream)
    logging.getLogger("asyncio").debug("Using selector")
    log.debug("a.b")
    assert [line["event"] for line in lines(stream)] == ["a.b"]


def test_headers_that_clients_send_for_a_trace_are_not_quoted(stream: io.StringIO) -> None:
    for sent in ("secret?=1," * 9, "x" * 9000):
        carrier = {"traceparent": f"00-{1:032x}-{1:016x}-01", "tracestate": sent}
        TraceContextTextMapPropagator().extract(carrier)
        TraceContextTextMapPropagator().extract({"traceparent": sent})
    assert lines(stream) == []
