"""How answers reach their clients: in memory for every path, on a real server for what only one can show."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from gateway.app import build_app
from gateway.kernel.errors import ErrorKind, Internal, QueueTimeout, UpstreamUnavailable, WorkerLost
from gateway.protocols import delivery
from gateway.protocols.chat.encode import ChatEncoder
from gateway.protocols.http import EdgeLimits
from gateway.turn.events import (
    ErrorInfo,
    Heartbeat,
    ItemStarted,
    TextDelta,
    TurnCancelled,
    TurnEvent,
    TurnFailed,
)
from gateway.turn.frame import Burst, Frame
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from tests.support.edge import (
    STARTED,
    Driver,
    FakeDeps,
    FakeEngine,
    Reply,
    Script,
    burst,
    chat,
    chat_body,
    saying,
    serving,
    text_events,
)

OPENED = ItemStarted(0, "message", "m")
LOST = ErrorInfo(kind=ErrorKind.WORKER_LOST, message="the worker is gone")
FAST = EdgeLimits(first_byte_hold_s=0.02, keepalive_s=0.03)
KEEPALIVE = b": keep-alive\n\n"


class Gate:
    """A script that says one thing after another, each when the test lets it."""

    def __init__(self, *steps: list[TurnEvent]) -> None:
        self._steps = steps
        self._opened = asyncio.Semaphore(0)

    def open(self) -> None:
        self._opened.release()

    async def __call__(self, turn: Turn) -> AsyncIterator[Burst]:
        for step in self._steps:
            await self._opened.acquire()
            yield burst(*step)


def raising(error: Exception, *first: TurnEvent) -> Script:
    async def script(_: Turn) -> AsyncIterator[Burst]:
        if first:
            yield burst(*first)
        raise error

    return script


async def hanging(_: Turn) -> AsyncIterator[Burst]:
    yield burst(STARTED, OPENED, TextDelta(0, "a"))
    await asyncio.Event().wait()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def driving(deps: FakeDeps, *, stream: bool = True) -> AsyncIterator[Driver]:
    """A request under way; the block may watch and steer it, and its end is awaited."""
    driver = Driver(build_app(deps), "POST", "/v1/chat/completions", body=chat_body(stream))
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(driver.run())
        yield driver


def closed(deps: FakeDeps) -> bool:
    (run,) = deps.engine.runs
    return run.closed.is_set()


# -- whole answers ----------------------------------------------------------------------------------------


async def test_a_whole_answer_is_the_fold_of_the_stream() -> None:
    deps = FakeDeps(FakeEngine(saying(*text_events("A", "B"))))
    reply = await chat(deps)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json["choices"][0]["message"]["content"] == "AB"
    assert reply.headers["x-turn-id"] == deps.engine.turns[0].id
    assert closed(deps)


@pytest.mark.parametrize("stream", [False, True])
async def test_lv_44_a_queue_timeout_is_429_with_retry_after(stream: bool) -> None:
    """Given a slot that stays busy: expect 429, `Retry-After` >= 1, and an OpenAI body whose `error.type` is
    the rate limit's.
    """
    deps = FakeDeps(FakeEngine(raising(QueueTimeout("Too many in-flight requests", retry_after_s=0.4))))
    reply = await chat(deps, stream)
    assert reply.status == 429
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.json["error"]["type"] == "rate_limit_error"
    assert "Too many in-flight" in reply.json["error"]["message"]
    assert closed(deps)


@pytest.mark.parametrize(
    ("events", "status", "code"),
    [
        ([STARTED, TurnFailed(LOST)], 502, "worker_lost"),
        ([STARTED, OPENED, TextDelta(0, "a"), TurnFailed(LOST)], 502, "worker_lost"),
        ([STARTED, TurnCancelled("drain")], 503, "service_unavailable"),
        ([STARTED, TurnCancelled("admin")], 499, "cancelled"),
        ([STARTED, OPENED], 500, "internal_error"),
        ([], 500, "internal_error"),
    ],
)
async def test_a_turn_without_an_answer_is_an_error(events: list[TurnEvent], status: int, code: str) -> None:
    reply = await chat(FakeDeps(FakeEngine(saying(*events))))
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert "x-turn-id" in reply.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_losses_of_parser_and_engine_are_told(stream: bool) -> None:
    deps = FakeDeps(FakeEngine(losses=[Loss("verbosity", "unsupported"), Loss("temperature", "ignored")]))
    reply = await chat(deps, stream, verbosity="low")
    assert reply.headers["x-gateway-losses"] == "verbosity:unsupported, temperature:ignored"


async def test_a_client_that_leaves_stops_a_turn_that_does_not_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    deps = FakeDeps(FakeEngine(hanging))
    async with driving(deps, stream=False) as driver:
        await until(lambda: deps.engine.runs)
        driver.gone.set()
    (run,) = deps.engine.runs
    assert run.cut
    assert closed(deps)
    assert driver.reply.status == 0
    assert "http.client_gone" in caplog.messages


# -- streams ----------------------------------------------------------------------------------------------


async def test_what_was_said_at_once_is_sent_at_once() -> None:
    deps = FakeDeps(FakeEngine(saying(*text_events("A", "B"))))
    reply = await chat(deps, stream=True)
    assert reply.status == 200
    assert len(reply.bodies) == 1
    assert reply.ended
    assert reply.body.count(b"data: ") == 5
    assert closed(deps)


async def test_stream_headers_are_complete() -> None:
    deps = FakeDeps()
    reply = await chat(deps, stream=True)
    request_id = reply.headers.pop("x-request-id")
    assert request_id.startswith("req_")
    assert reply.headers.pop("request-id") == request_id
    assert reply.headers == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "connection": "keep-alive",
        "x-turn-id": deps.engine.turns[0].id,
    }


async def test_bursts_that_wait_behind_a_write_leave_together() -> None:
    events = text_events("A", "B", "C", "D")
    script = Gate(events[:3], *[[event] for event in events[3:]])
    deps = FakeDeps(FakeEngine(script))
    release = asyncio.Event()
    async with driving(deps) as driver:
        writes = 0

        def hold_the_first(message: dict[str, Any]) -> Any:
            nonlocal writes
            writes += message["type"] == "http.response.body"
            return release.wait() if writes == 1 else None

        driver.on_send = hold_the_first
        script.open()
        await until(lambda: writes == 1)
        for _ in events[3:]:
            script.open()
        await until(lambda: deps.engine.runs[0].finished)
        release.set()
    assert len(driver.reply.bodies) == 2
    assert driver.reply.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("bound", ["MAX_WAITING_FRAMES", "MAX_WAITING_BYTES"])
async def test_the_engine_waits_when_too_much_waits_for_the_client(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(delivery, bound, 4)
    produced = 0

    async def endless(_: Turn) -> AsyncIterator[Burst]:
        nonlocal produced
        yield burst(STARTED, OPENED)
        for _ in range(100):
            produced += 1
            yield [Frame((TextDelta(0, "x"),), raw=b"x")]
        yield burst(*text_events("x")[-2:])

    release = asyncio.Event()
    async with driving(FakeDeps(FakeEngine(endless))) as driver:
        driver.on_send = lambda message: None if release.is_set() else release.wait()
        await until(lambda: produced >= 4)
        for _ in range(50):
            await asyncio.sleep(0)
        # Four that are being written and four that wait.
        assert produced <= 8
        release.set()
    assert driver.reply.body.count(b'"content":"x"') == 100


async def test_a_failure_before_content_has_its_real_status() -> None:
    for events in ([STARTED, TurnFailed(LOST)], [STARTED, Heartbeat(), TurnFailed(LOST)]):
        deps = FakeDeps(FakeEngine(saying(*events)))
        reply = await chat(deps, stream=True)
        assert (reply.status, reply.headers["content-type"]) == (502, "application/json")
        assert reply.json["error"]["code"] == "worker_lost"
        assert closed(deps)


@pytest.mark.parametrize("kind", list(ErrorKind))
async def test_every_error_kind_is_told_before_and_after_content(kind: ErrorKind) -> None:
    error = TurnFailed(ErrorInfo(kind=kind, message="why", retry_after_s=2))
    early = await chat(FakeDeps(FakeEngine(saying(STARTED, error))), stream=True)
    assert early.status >= 400
    assert (early.json["error"]["message"], early.headers["retry-after"]) == ("why", "2")
    late = await chat(FakeDeps(FakeEngine(saying(STARTED, OPENED, error))), stream=True)
    assert late.status == 200
    last = late.body.decode().strip().split("\n\n")[-1]
    assert '"message":"why"' in last
    assert b"[DONE]" not in late.body
    assert late.ended


async def test_a_failure_after_content_ends_the_stream() -> None:
    script = saying(STARTED, OPENED, TextDelta(0, "a"), TurnFailed(LOST))
    reply = await chat(FakeDeps(FakeEngine(script)), stream=True)
    assert reply.status == 200
    assert reply.body.rstrip().endswith(b'"code":"worker_lost"}}')


async def test_headers_wait_for_the_first_content_no_longer_than_the_hold() -> None:
    script = Gate([STARTED], [*text_events("a")[1:]])
    deps = FakeDeps(FakeEngine(script), limits=EdgeLimits(first_byte_hold_s=0.05, keepalive_s=60))
    async with driving(deps) as driver:
        script.open()
        await until(lambda: len(driver.reply.bodies) == 1)
        assert driver.reply.status == 200
        assert b'"role":"assistant"' in driver.reply.body
        script.open()
    assert driver.reply.body.endswith(b"data: [DONE]\n\n")


async def test_a_turn_that_has_not_begun_after_the_hold_is_kept_alive_at_once() -> None:
    script = Gate(text_events("a"))
    deps = FakeDeps(FakeEngine(script), limits=EdgeLimits(first_byte_hold_s=0.02, keepalive_s=60))
    async with driving(deps) as driver:
        await until(lambda: driver.reply.bodies)
        assert driver.reply.bodies == [KEEPALIVE]
        script.open()
    assert driver.reply.body.endswith(b"data: [DONE]\n\n")


async def test_silence_is_filled_with_keep_alives() -> None:
    script = Gate(text_events("a")[:3], text_events("a")[3:])
    async with driving(FakeDeps(FakeEngine(script), limits=FAST)) as driver:
        script.open()
        await until(lambda: driver.reply.body.count(KEEPALIVE) >= 3)
        script.open()
    assert driver.reply.body.endswith(b"data: [DONE]\n\n")


async def test_what_is_said_puts_the_next_keep_alive_off() -> None:
    async def chatty(_: Turn) -> AsyncIterator[Burst]:
        yield burst(STARTED, OPENED)
        for _ in range(60):
            await asyncio.sleep(0.01)
            yield burst(TextDelta(0, "a"))
        yield burst(*text_events("a")[-2:])

    limits = EdgeLimits(first_byte_hold_s=0.01, keepalive_s=0.5)
    reply = await chat(FakeDeps(FakeEngine(chatty), limits=limits), stream=True)
    assert KEEPALIVE not in reply.body


@pytest.mark.parametrize("error", [UpstreamUnavailable("nobody there"), WorkerLost("gone")])
async def test_an_error_raised_after_the_hold_is_told_in_the_stream(error: Exception) -> None:
    let_go = asyncio.Event()

    async def late(_: Turn) -> AsyncIterator[Burst]:
        await let_go.wait()
        raise error
        yield []

    async with driving(FakeDeps(FakeEngine(late), limits=FAST)) as driver:
        await until(lambda: driver.reply.status)
        let_go.set()
    assert driver.reply.status == 200
    assert str(error).encode() in driver.reply.body
    assert driver.reply.ended


@pytest.mark.parametrize(
    ("events", "status"), [([], 500), ([STARTED], 200), ([STARTED, OPENED, TextDelta(0, "a")], 200)]
)
async def test_a_run_without_a_terminal_event_is_never_a_silent_end(
    events: list[TurnEvent], status: int
) -> None:
    reply = await chat(FakeDeps(FakeEngine(saying(*events))), stream=True)
    assert reply.status == status
    assert b'"code":"internal_error"' in reply.body
    assert b"[DONE]" not in reply.body
    assert reply.ended


async def test_the_engine_may_tidy_up_after_its_last_event() -> None:
    let_go = asyncio.Event()

    async def tidy(_: Turn) -> AsyncIterator[Burst]:
        yield burst(*text_events("a"))
        await let_go.wait()

    deps = FakeDeps(FakeEngine(tidy))
    async with driving(deps) as driver:
        await until(lambda: driver.reply.ended)
        driver.gone.set()  # as a server does when the answer is out
        for _ in range(20):
            await asyncio.sleep(0)
        assert not deps.engine.runs[0].cut
        let_go.set()
    assert deps.engine.runs[0].finished


async def test_an_engine_that_never_tidies_up_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "SETTLE_S", 0.02)

    async def untidy(_: Turn) -> AsyncIterator[Burst]:
        yield burst(*text_events("a"))
        await asyncio.Event().wait()

    deps = FakeDeps(FakeEngine(untidy))
    assert (await chat(deps, stream=True)).ended
    assert deps.engine.runs[0].cut
    assert closed(deps)
    assert "http.run_unsettled" in caplog.messages


async def test_a_client_that_leaves_stops_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    deps = FakeDeps(FakeEngine(hanging))
    async with driving(deps) as driver:
        await until(lambda: driver.reply.bodies)
        driver.gone.set()
    assert deps.engine.runs[0].cut
    assert closed(deps)
    assert not driver.reply.ended
    assert "http.client_gone" in caplog.messages


async def test_a_client_that_leaves_before_the_first_byte_stops_its_stream() -> None:
    deps = FakeDeps(FakeEngine(Gate([STARTED])))
    async with driving(deps) as driver:
        await until(lambda: deps.engine.runs)
        driver.gone.set()
    assert deps.engine.runs[0].cut
    assert closed(deps)
    assert driver.reply.status == 0


async def test_a_client_that_leaves_during_a_write_stops_its_stream() -> None:
    deps = FakeDeps(FakeEngine(hanging))
    async with driving(deps) as driver:
        driver.on_send = lambda message: asyncio.Event().wait()
        await until(lambda: driver.reply.status)
        driver.gone.set()
    assert closed(deps)


async def test_a_client_that_does_not_read_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    limits = EdgeLimits(first_byte_hold_s=0.01, keepalive_s=0.01, send_deadline_s=0.05)
    deps = FakeDeps(FakeEngine(hanging), limits=limits)
    async with driving(deps) as driver:
        driver.on_send = lambda message: asyncio.Event().wait()
    assert deps.engine.runs[0].cut
    assert closed(deps)
    assert "http.client_stalled" in caplog.messages


async def test_a_server_that_raises_when_the_client_has_gone_is_understood() -> None:
    deps = FakeDeps(FakeEngine(hanging))
    async with driving(deps) as driver:

        def gone(_: dict[str, Any]) -> None:
            raise OSError("client disconnected")

        driver.on_send = gone
    assert closed(deps)


async def test_a_server_that_stops_tells_its_clients() -> None:
    deps = FakeDeps(FakeEngine(hanging))
    driver = Driver(build_app(deps), "POST", "/v1/chat/completions", body=chat_body(stream=True))
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(driver.run())
        await until(lambda: driver.reply.bodies)
        task.cancel()
    assert task.cancelled()
    assert b'"code":"internal_error"' in driver.reply.bodies[-1]
    assert driver.reply.ended
    assert closed(deps)


async def test_a_defect_in_the_encoder_is_told_and_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = ChatEncoder.encode

    def broken(self: ChatEncoder, frames: Any) -> bytes:
        if any(isinstance(event, TextDelta) for frame in frames for event in frame.events):
            raise RuntimeError("a defect")
        return encode(self, frames)

    monkeypatch.setattr(ChatEncoder, "encode", broken)
    deps = FakeDeps(FakeEngine(hanging))
    driver = Driver(build_app(deps), "POST", "/v1/chat/completions", body=chat_body(stream=True))
    with pytest.raises(RuntimeError, match="a defect"):
        await driver.run()
    assert b'"code":"internal_error"' in driver.reply.body
    assert driver.reply.ended
    assert closed(deps)


async def test_a_defect_in_the_engine_is_told_and_not_hidden(caplog: pytest.LogCaptureFixture) -> None:
    script = raising(RuntimeError("a defect"), STARTED, OPENED, TextDelta(0, "a"))
    reply = await chat(FakeDeps(FakeEngine(script)), stream=True)
    assert b'"code":"internal_error"' in reply.body
    assert "aio.background_failed" in caplog.messages


async def test_an_internal_error_of_the_engine_says_what_it_may() -> None:
    reply = await chat(FakeDeps(FakeEngine(raising(Internal("no luck")))), stream=True)
    assert (reply.status, reply.json["error"]["message"]) == (500, "no luck")


# -- on a real server -------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def server(deps: FakeDeps) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(build_app(deps)) as url, httpx2.AsyncClient(base_url=url, timeout=10) as client:
        yield client


async def streamed(client: httpx2.AsyncClient, *, stream: bool = True) -> Reply:
    reply = Reply()
    async with client.stream("POST", "/v1/chat/completions", content=chat_body(stream)) as response:
        reply.status = response.status_code
        reply.headers = dict(response.headers)
        reply.bodies = [chunk async for chunk in response.aiter_raw()]
    return reply


async def test_on_hypercorn_a_stream_ends_and_its_connection_is_kept() -> None:
    async with server(FakeDeps()) as client:
        for _ in range(3):
            reply = await streamed(client)
            assert reply.status == 200
            assert reply.body.endswith(b"data: [DONE]\n\n")
            assert reply.headers["connection"] == "keep-alive"


async def test_on_hypercorn_a_failure_before_content_has_its_status() -> None:
    async with server(FakeDeps(FakeEngine(saying(STARTED, TurnFailed(LOST))))) as client:
        assert (await streamed(client)).status == 502


@pytest.mark.parametrize("stream", [True, False])
async def test_on_hypercorn_a_client_that_leaves_stops_its_turn_within_a_second(stream: bool) -> None:
    deps = FakeDeps(FakeEngine(hanging))
    async with serving(build_app(deps)) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = chat_body(stream)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        if stream:
            await reader.readuntil(b'"content":"a"')
        else:
            await until(lambda: deps.engine.runs and deps.engine.runs[0].begun)
        writer.close()
        async with asyncio.timeout(1):
            await deps.engine.runs[0].closed.wait()
    assert deps.engine.runs[0].cut


async def test_on_hypercorn_silence_is_filled_and_headers_do_not_wait_for_content() -> None:
    script = Gate([STARTED, *text_events("a")[1:]])
    deps = FakeDeps(FakeEngine(script), limits=FAST)
    async with server(deps) as client:
        request = client.stream("POST", "/v1/chat/completions", content=chat_body(stream=True))
        async with request as response:
            assert response.status_code == 200
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if body.count(KEEPALIVE) == 3:
                    script.open()
    assert body.startswith(KEEPALIVE * 3)
    assert body.endswith(b"data: [DONE]\n\n")


async def test_on_hypercorn_over_http2_a_stream_has_no_connection_header_and_leaving_stops_it() -> None:
    h2 = pytest.importorskip("h2.connection")
    events = pytest.importorskip("h2.events")
    deps = FakeDeps(FakeEngine(hanging))
    async with serving(build_app(deps)) as url:
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        connection = h2.H2Connection()
        connection.initiate_connection()
        connection.send_headers(
            1,
            [
                (":method", "POST"),
                (":path", "/v1/chat/completions"),
                (":scheme", "http"),
                (":authority", "x"),
            ],
        )
        connection.send_data(1, chat_body(stream=True), end_stream=True)
        writer.write(connection.data_to_send())
        headers: dict[bytes, bytes] = {}
        data = b""
        async with asyncio.timeout(5):
            while b'"content":"a"' not in data:
                for event in connection.receive_data(await reader.read(65536)):
                    if isinstance(event, events.ResponseReceived):
                        headers = {bytes(k): bytes(v) for k, v in event.headers}
                    if isinstance(event, events.DataReceived):
                        data += event.data
                writer.write(connection.data_to_send())
        assert headers[b":status"] == b"200"
        assert b"connection" not in headers
        connection.reset_stream(1)
        writer.write(connection.data_to_send())
        async with asyncio.timeout(1):
            await deps.engine.runs[0].closed.wait()
        writer.close()
    assert deps.engine.runs[0].cut
