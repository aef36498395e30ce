"""Over a real Hypercorn and a real socket: an HTTP/2 client that never opens its window."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from gateway.server import repairs
from tests.support.edge import serving

CHUNK = b"x" * 4096


class Endless:
    """An application that streams until its client or its time is gone."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            async with asyncio.timeout(1.0):
                while True:
                    await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
                    self.sent += len(CHUNK)
        except TimeoutError:
            pass
        finally:
            self.ended.set()


@pytest.fixture
async def app() -> AsyncIterator[Endless]:
    repairs.apply()
    yield Endless()


async def test_a_client_that_does_not_read_stops_the_sender_and_is_reset(app: Endless) -> None:
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(address))
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        headers = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "x")]
        client.send_headers(1, headers, end_stream=True)
        writer.write(client.data_to_send())
        events: list[h2.events.Event] = []
        async with asyncio.timeout(10):
            while not any(isinstance(event, h2.events.StreamReset) for event in events):
                data = await reader.read(65536)
                assert data, "the connection was closed instead of the stream"
                events += client.receive_data(data)
                writer.write(client.data_to_send())
        window = sum(len(e.data or b"") for e in events if isinstance(e, h2.events.DataReceived))
        assert 0 < app.sent < window + 3 * 2 * 2**14, "sent far more than the window and one buffer"
        assert app.ended.is_set()
        writer.close()


async def test_a_stream_given_up_while_it_is_written_leaves_the_others_of_its_connection() -> None:
    """The windows are wide open, but nobody reads the connection."""
    given_up = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/short":
            await send({"type": "http.response.body", "body": b"ok"})
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while not given_up.is_set():
                    await send({"type": "http.response.body", "body": CHUNK * 16, "more_body": True})
                    await asyncio.sleep(0)
        given_up.set()

    def asking(path: str) -> list[tuple[str, str]]:
        return [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "x")]

    repairs.apply()
    async with serving(app) as address, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(address), limit=4096)
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
        client.increment_flow_control_window(2**30)
        client.send_headers(1, asking("/long"), end_stream=True)
        writer.write(client.data_to_send())
        await given_up.wait()
        client.send_headers(3, asking("/short"), end_stream=True)
        writer.write(client.data_to_send())
        events: list[h2.events.Event] = []
        while not any(isinstance(event, h2.events.StreamEnded) and event.stream_id == 3 for event in events):
            data = await reader.read(65536)
            assert data, "the connection was closed instead of the stream"
            events += client.receive_data(data)
        writer.close()


@pytest.mark.parametrize("settings", ["////", "AAMAAABkAAQ"])
async def test_an_upgrade_with_broken_settings_ends_its_connection_and_no_more(
    app: Endless, settings: str, caplog: pytest.LogCaptureFixture
) -> None:
    request = (
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
        f"http2-settings: {settings}\r\n\r\n"
    )
    async with serving(app) as address:
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(address))
            writer.write(request.encode())
            async with asyncio.timeout(10):
                assert (await reader.read()).startswith(b"HTTP/1.1 101")
            writer.close()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def port_of(address: object) -> int:
    return int(str(address).rsplit(":", 1)[-1].rstrip("/"))


class Greeting:
    """Says hello, slowly when asked to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        if scope["path"] == "/slow":
            await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"hello", "more_body": False})


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_connection_that_its_client_has_closed_is_given_up_at_once() -> None:
    repairs.apply()
    async with serving(Greeting()) as address:
        before = descriptors()
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(address))
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await reader.readuntil(b"hello")
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(5):
            while descriptors() > before:
                await asyncio.sleep(0.01)


async def test_a_client_that_never_reads_does_not_keep_what_was_for_it(
    app: Endless, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application gives up first; the client stays connected."""
    monkeypatch.setattr(repairs, "LINGER_S", 0.2)
    async with serving(app) as address:
        before = descriptors()
        with contextlib.ExitStack() as clients:
            for _ in range(5):
                client = clients.enter_context(socket.socket())
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(("127.0.0.1", port_of(address)))
                client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(10):
                await app.ended.wait()
                while descriptors() > before + 5:  # those of the clients
                    await asyncio.sleep(0.01)


async def breaking_off(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})


async def test_requests_behind_an_answer_that_breaks_off_leave_no_task() -> None:
    repairs.apply()
    async with serving(breaking_off) as address:
        before = len(asyncio.all_tasks())
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(address))
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 3)
            async with asyncio.timeout(5):
                assert (await reader.read()).count(b"HTTP/1.1 200") == 1
            writer.close()
        async with asyncio.timeout(5):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "bad",
    [
        [(b":method", b"GET"), (b":path", "/modéls".encode()), (b":scheme", b"http"), (b":authority", b"x")],
        [(b":method", "é".encode()), (b":path", b"/"), (b":scheme", b"http"), (b":authority", b"x")],
        [(b":method", b"CONNECT"), (b":authority", b"x:1")],
    ],
)
async def test_a_request_that_makes_no_sense_is_reset_alone(bad: list[tuple[bytes, bytes]]) -> None:
    repairs.apply()
    app = Greeting()
    async with serving(app) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(address))
        config = h2.config.H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=False
        )
        client = h2.connection.H2Connection(config)
        client.initiate_connection()
        good = [(b":method", b"GET"), (b":path", b"/slow"), (b":scheme", b"http"), (b":authority", b"x")]
        client.send_headers(1, good, end_stream=True)
        client.send_headers(3, bad, end_stream=True)
        writer.write(client.data_to_send())
        ended: dict[int, str] = {}
        async with asyncio.timeout(5):
            while 1 not in ended:
                data = await reader.read(65536)
                assert data, "the connection was cut"
                for event in client.receive_data(data):
                    if isinstance(event, h2.events.StreamReset | h2.events.StreamEnded):
                        ended[event.stream_id or 0] = type(event).__name__
                        if event.stream_id == 3:
                            app.go_on.set()
                writer.write(client.data_to_send())
        writer.close()
    assert ended == {3: "StreamReset", 1: "StreamEnded"}
