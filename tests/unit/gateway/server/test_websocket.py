"""Over a real Hypercorn: raw sockets, a library's client, and HTTP/2 spelled out."""

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypercorn.config import Config
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, TextMessage

from gateway.protocols.websocket import TEXTS, TOO_LARGE
from gateway.server import http1, repairs, websocket
from tests.support.clients import until
from tests.support.edge import serving

HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class App:
    """Does as the path says, and remembers what it met."""

    def __init__(self) -> None:
        self.met: list[dict[str, Any]] = []
        self.extensions: Any = {}
        self.ended = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        try:
            await self.serve(scope, receive, send)
        finally:
            self.ended.set()

    async def serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.extensions = scope["extensions"]
        if scope["path"] == "/refuses":
            headers = [(b"content-length", b"4")]
            await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
            await send({"type": "websocket.http.response.body", "body": b"no!\n", "more_body": False})
            return
        await send({"type": "websocket.accept"})
        match scope["path"]:
            case "/bursts":
                await send({"type": "websocket.send", TEXTS: ["one", "zwei €", "three"]})
                await send({"type": "websocket.send", "text": "alone"})
            case "/floods":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        while True:
                            await send({"type": "websocket.send", "text": secrets.token_hex(30_000)})
                return
            case "/ends":
                return
            case "/closes":
                await send({"type": "websocket.close", "code": 1012, "reason": "why"})
                await send({"type": "websocket.send", TEXTS: ["too late"]})
        while (message := await receive())["type"] != "websocket.disconnect":
            self.met.append(message)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [message for message in self.met if message["type"] == "websocket.receive"]


@pytest.fixture
async def app() -> AsyncIterator[App]:
    repairs.apply()
    http1.apply()
    websocket.apply()
    yield App()


def ws(url: str, path: str) -> str:
    return f"ws{url.removeprefix('http')}{path}"


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


# -- messages ---------------------------------------------------------------------------------------------


async def test_a_message_above_the_limit_is_thrown_away_and_told(app: App) -> None:
    limit = Config().websocket_max_message_size
    async with serving(app) as url, connect(ws(url, "/"), compression=None) as client:
        await client.send("x" * limit)
        await client.send("x" * (limit + 1))
        await client.send(["y" * limit, "y", "y"])
        await client.send(b"z")
        await until(lambda: len(app.messages) == 4, "all messages", within_s=60)
        first, second, third, last = app.messages
        assert (len(first["text"]), TOO_LARGE in first) == (limit, False)
        for large in (second, third):
            assert (large["text"], large["bytes"], large[TOO_LARGE]) == (None, b"", True)
        assert last["bytes"] == b"z"


async def test_messages_handed_over_together_leave_in_one_write(app: App) -> None:
    async with serving(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(HANDSHAKE % b"/bursts")
        await reader.readuntil(b"\r\n\r\n")
        client = Connection(ConnectionType.CLIENT)
        first = await reader.read(65536)
        client.receive_data(first)
        assert [event.data for event in texts_of(client)][:3] == ["one", "zwei €", "three"]
        writer.close()
    assert TEXTS in app.extensions


def texts_of(client: Connection) -> list[TextMessage]:
    return [event for event in client.events() if isinstance(event, TextMessage)]


async def test_nothing_is_said_behind_a_close(app: App) -> None:
    async with serving(app) as url, connect(ws(url, "/closes")) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "why")
    await app.ended.wait()


async def test_an_application_that_ends_is_a_defect_told_as_one(app: App) -> None:
    async with serving(app) as url, connect(ws(url, "/ends")) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011


async def test_what_a_client_sends_to_nobody_is_thrown_away(app: App) -> None:
    """More than the server keeps for an application: nobody may wait for room in there."""
    async with serving(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(HANDSHAKE % b"/ends" + frame(b"a") * 5000)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            async with asyncio.timeout(5):
                while await reader.read(65536):
                    pass
        writer.close()
        before = len(asyncio.all_tasks())
        await app.ended.wait()
        await until(lambda: connection_tasks() == [], "the connection to be over")
        assert len(asyncio.all_tasks()) <= before


def connection_tasks() -> list[str]:
    running = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return [name for name in running if "TCPServer" in name or "_read_data" in name]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70000])
def test_a_message_is_framed_as_the_library_frames_it(size: int) -> None:
    text = ("é" + "x" * size)[:size]
    library = Connection(ConnectionType.SERVER)
    assert websocket.text_frame(text.encode()) == library.send(TextMessage(data=text))


# -- frames that make no sense ----------------------------------------------------------------------------


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True, rsv: int = 0) -> bytes:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if len(payload) < 126:
        return head + bytes([0x80 | len(payload)]) + mask + masked
    return head + bytes([0x80 | 126]) + struct.pack("!H", len(payload)) + mask + masked


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\xff\xfe"), 1007),
        (frame(b"x", opcode=3), 1002),
        (frame(b"x", rsv=4), 1002),
        (frame(b"x", opcode=0), 1002),
        (frame(b"x", fin=False) + frame(b"y"), 1002),
        (frame(b"x" * 126, opcode=9), 1002),
        (b"\x81\x01x", 1002),
        (frame(b"\x00", opcode=8), 1002),
        (frame(b"\x03\xe7", opcode=8), 1002),
    ],
    ids=["utf-8", "opcode", "reserved", "continues", "begins-twice", "long-ping", "unmasked", "c1", "c2"],
)
async def test_frames_that_make_no_sense_get_the_code_for_that(app: App, data: bytes, code: int) -> None:
    async with serving(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(HANDSHAKE % b"/" + data)
        async with asyncio.timeout(10):
            await reader.readuntil(b"\r\n\r\n")
            rest = await reader.read()
        client = Connection(ConnectionType.CLIENT)
        client.receive_data(rest)
        closes = [event for event in client.events() if isinstance(event, CloseConnection)]
        assert [close.code for close in closes] == [code]
        await app.ended.wait()
        writer.close()


async def test_what_comes_behind_the_end_harms_nobody(app: App, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(HANDSHAKE % b"/" + frame(b"\x03\xe8", opcode=8))
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                writer.write(frame(b"late"))
                await writer.drain()
        await app.ended.wait()
        writer.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# -- the handshake, and the end of a client ---------------------------------------------------------------


async def test_a_refusal_leaves_in_one_write_and_closes(app: App) -> None:
    async with serving(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(HANDSHAKE % b"/refuses")
        first = await reader.read(65536)
        assert first.startswith(b"HTTP/1.1 401 ")
        assert first.endswith(b"\r\n\r\nno!\n")
        assert b"connection: close\r\n" in first
        assert await reader.read() == b""
        writer.close()


async def test_a_client_that_does_not_read_holds_nobody(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application gives it up in the middle of a write; no goodbye waits behind that."""
    monkeypatch.setattr(repairs, "LINGER_S", 0.2)
    async with serving(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url), limit=1024)
        writer.write(HANDSHAKE % b"/floods")
        await app.ended.wait()
        await until(lambda: connection_tasks() == [], "the connection to be over", within_s=5)
        writer.close()
        assert reader is not None


async def test_what_a_client_sent_before_it_left_is_not_answered(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """Each answer on a connection that is lost would be a line in the log."""
    async with serving(app) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(url))
        writer.write(HANDSHAKE % b"/")
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.write(b"\x89\x80\0\0\0\0" * 1000)
        writer.transport.abort()
        async with asyncio.timeout(10):
            await app.ended.wait()
    assert caplog.messages == []


async def test_pings_end_with_their_connection(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Config, "websocket_ping_interval", 60.0)
    async with serving(app) as url:
        async with connect(ws(url, "/")) as client:
            await client.send("x")
            await until(lambda: app.messages, "the message")
        await until(lambda: connection_tasks() == [], "the connection to be over", within_s=5)


# -- HTTP/2 -----------------------------------------------------------------------------------------------


class Http2:
    """One WebSocket as a stream of HTTP/2 (RFC 8441)."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._ws = Connection(ConnectionType.CLIENT)
        self.status = ""
        self.ended = False
        self.body = b""
        self.events: list[Event] = []

    async def open(self, path: str) -> None:
        self._http.initiate_connection()
        await self.turn()
        while not self._http.remote_settings.enable_connect_protocol:
            await self.turn(read=True)
        headers = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http")]
        headers += [(":path", path), (":authority", "x"), ("sec-websocket-version", "13")]
        self._http.send_headers(1, headers)
        await self.turn()
        while not self.status:
            await self.turn(read=True)

    async def send(self, event: Event) -> None:
        self._http.send_data(1, self._ws.send(event))
        await self.turn()

    async def turn(self, *, read: bool = False) -> None:
        self._writer.write(self._http.data_to_send())
        await self._writer.drain()
        if not read:
            return
        async with asyncio.timeout(10):
            data = await self._reader.read(65536)
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.status = dict(event.headers or ())[b":status"].decode()
            elif isinstance(event, h2.events.DataReceived):
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, 1)
                self.body += event.data or b""
                if self.status == "200":
                    self._ws.receive_data(event.data)
            elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                self.ended = True
        self._writer.write(self._http.data_to_send())
        self.events += self._ws.events()


@contextlib.asynccontextmanager
async def over_http2(app: App, path: str) -> AsyncIterator[Http2]:
    async with serving(app) as url:
        client = Http2(*await asyncio.open_connection("127.0.0.1", port_of(url)))
        await client.open(path)
        yield client
        client._writer.close()


async def test_http2_carries_messages_both_ways(app: App) -> None:
    async with over_http2(app, "/bursts") as client:
        assert client.status == "200"
        while len(client.events) < 4:
            await client.turn(read=True)
        assert [event.data for event in client.events if isinstance(event, TextMessage)] == [
            "one",
            "zwei €",
            "three",
            "alone",
        ]
        await client.send(TextMessage(data="hello"))
        await until(lambda: app.messages, "the message")
        assert app.messages[0]["text"] == "hello"
        await client.send(CloseConnection(code=1000))
        await app.ended.wait()


async def test_http2_is_said_goodbye_to(app: App) -> None:
    async with over_http2(app, "/closes") as client:
        while not client.events:
            await client.turn(read=True)
        assert [event.code for event in client.events if isinstance(event, CloseConnection)] == [1012]


async def test_http2_is_refused_with_head_and_body(app: App) -> None:
    async with over_http2(app, "/refuses") as client:
        while not client.ended:
            await client.turn(read=True)
        assert (client.status, client.body) == ("401", b"no!\n")


async def test_http2_holds_nobody_whose_client_does_not_read(app: App) -> None:
    async with over_http2(app, "/floods") as client:
        await app.ended.wait()
        while not client.ended:
            await client.turn(read=True)
