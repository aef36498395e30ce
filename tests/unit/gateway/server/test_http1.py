"""Over a real Hypercorn and raw sockets: what goes over the wire, and when a connection is closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import h11
import pytest
from hypercorn.config import Config

from gateway.server import http1, repairs
from tests.support.edge import serving

Message = dict[str, Any]
GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"


class App:
    """Answers as the path says, and remembers what it met."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.disconnected = asyncio.Event()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        for message in ANSWERS.get(scope["path"], []):
            await send(message)
        self.begun.set()
        if scope["path"] in ("/dies", "/dies-late"):
            raise RuntimeError("on purpose")
        if scope["path"] == "/waits":
            await self.go_on.wait()
            await send(body(b"late", more=False))
        if scope["path"] == "/floods":
            watch = asyncio.create_task(self.watch(receive))
            for _ in range(400):
                await send(body(b"x" * 65536))
            await watch

    async def watch(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()


def start(status: int = 200, **headers: str) -> Message:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": named}


def body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


ANSWERS = {
    "/whole": [start(content_length="5"), body(b"hello", more=False)],
    "/pieces": [start(), body(b"one"), body(b""), body(b"two"), body(b"", more=False)],
    "/last": [start(), body(b"one"), body(b"two", more=False)],
    "/nothing": [start(204), body(b"", more=False)],
    "/dies": [start()],
    "/dies-late": [start(), body(b"one")],
    "/waits": [start()],
    "/floods": [start()],
    "/too-much": [start(content_length="1"), body(b"hello", more=False)],
}


@pytest.fixture
async def app() -> AsyncIterator[App]:
    http1.apply()
    yield App()


class Client:
    """One connection, read by h11."""

    def __init__(self, address: object) -> None:
        self._port = int(str(address).rsplit(":", 1)[-1].rstrip("/"))

    async def __aenter__(self) -> "Client":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, request: bytes) -> tuple[int, dict[bytes, bytes], list[bytes]]:
        """Status, headers and the pieces of the body as they were framed."""
        connection = h11.Connection(h11.CLIENT)
        method, path, _ = request.split(b" ", 2)
        connection.send(h11.Request(method=method, target=path, headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
        self.writer.write(request)
        status, headers, pieces = 0, {}, []
        async with asyncio.timeout(10):
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await self.reader.read(65536))
                elif isinstance(event, h11.Response):
                    status, headers = event.status_code, dict(event.headers)
                elif isinstance(event, h11.Data):
                    pieces.append(bytes(event.data))
                else:
                    assert isinstance(event, h11.EndOfMessage)
                    return status, headers, pieces


async def test_answers_are_framed_as_h11_would_and_the_connection_goes_on(app: App) -> None:
    async with serving(app) as address, Client(address) as client:
        for path, status, pieces in (
            (b"/whole", 200, [b"hello"]),
            (b"/pieces", 200, [b"one", b"two"]),
            (b"/nothing", 204, []),
            (b"/last", 200, [b"one", b"two"]),
            (b"/whole", 200, [b"hello"]),
        ):
            got = await client.ask(GET % path)
            assert (got[0], b"".join(got[2])) == (status, b"".join(pieces))
            assert b"date" in got[1]


async def test_a_whole_answer_leaves_in_one_piece(app: App) -> None:
    async with serving(app) as address, Client(address) as client:
        client.writer.write(GET % b"/whole")
        async with asyncio.timeout(10):
            assert (await client.reader.read(65536)).endswith(b"\r\n\r\nhello")


async def test_nobody_sees_a_head_before_there_is_something_of_the_body(app: App) -> None:
    async with serving(app) as address, Client(address) as client:
        client.writer.write(GET % b"/waits")
        async with asyncio.timeout(10):
            await app.begun.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.reader.read(1)
        app.go_on.set()
        async with asyncio.timeout(10):
            assert (await client.reader.readuntil(b"0\r\n\r\n")).endswith(b"4\r\nlate\r\n0\r\n\r\n")


async def test_head_asks_for_no_body_and_gets_none(app: App) -> None:
    async with serving(app) as address, Client(address) as client:
        client.writer.write(b"HEAD /whole HTTP/1.1\r\nhost: x\r\n\r\n" + GET % b"/nothing")
        async with asyncio.timeout(10):
            head = await client.reader.readuntil(b"\r\n\r\n")
            following = await client.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 5" in head.lower()
        assert following.startswith(b"HTTP/1.1 204"), "a body went out that nobody asked for"


@pytest.mark.parametrize("length", [b"1", b"3", b"6", b"100"])
async def test_a_chunked_body_ends_at_its_last_chunk_whatever_length_stands_beside_it(length: bytes) -> None:
    """The same request must mean the same to whoever relays it, and to us."""
    http1.apply()

    async def echoing(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            read, more = b"", True
            while more:
                message = await receive()
                read, more = read + message["body"], message["more_body"]
            await send(start(content_length=str(len(read))))
            await send(body(read, more=False))

    chunks = (b"1\r\na\r\n", b"2\r\nbc\r\n", b"3\r\ndef\r\n0\r\n\r\n")
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %b\r\ntransfer-encoding: chunked\r\n\r\n" % length
    async with serving(echoing) as address, Client(address) as client:
        assert (await client.ask(head + b"".join(chunks)))[2] == [b"abcdef"]


async def test_an_application_that_dies_behind_the_head_answers_500(app: App) -> None:
    async with serving(app) as address, Client(address) as client:
        status, headers, _ = await client.ask(GET % b"/dies")
        assert (status, headers[b"connection"]) == (500, b"close")
        async with asyncio.timeout(10):
            assert await client.reader.read() == b""


@pytest.mark.parametrize("path", [b"/dies-late", b"/too-much"])
async def test_an_answer_that_breaks_off_closes_its_connection_without_an_end(app: App, path: bytes) -> None:
    async with serving(app) as address, Client(address) as client:
        client.writer.write(GET % path)
        async with asyncio.timeout(10):
            assert not (await client.reader.read()).endswith(b"0\r\n\r\n")


async def test_old_clients_get_bodies_without_chunks(app: App) -> None:
    async with serving(app) as address, Client(address) as client:
        client.writer.write(b"GET /pieces HTTP/1.0\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await client.reader.read()
        assert answer.endswith(b"\r\n\r\nonetwo")
        assert b"chunked" not in answer.lower()


async def test_requests_in_one_piece_are_answered_in_order(app: App) -> None:
    async with serving(app) as address, Client(address) as client:
        client.writer.write(GET % b"/whole" + GET % b"/last" + GET % b"/whole")
        async with asyncio.timeout(10):
            first = await client.reader.readuntil(b"hello")
            second = await client.reader.readuntil(b"0\r\n\r\n")
            await client.reader.readuntil(b"hello")
        assert first.startswith(b"HTTP/1.1 200")
        assert second.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_a_client_that_leaves_while_it_is_sent_to_is_noticed(app: App) -> None:
    async with serving(app) as address:
        async with Client(address) as client:
            client.writer.write(GET % b"/floods")
            async with asyncio.timeout(10):
                await client.reader.read(1000)
            client.writer.transport.abort()
        async with asyncio.timeout(10):
            await app.disconnected.wait()


async def test_a_client_that_never_reads_is_sent_no_second_answer() -> None:
    """The first, as large as it is, waits for it until it is given up."""
    http1.apply()
    repairs.apply()
    asked = 0

    async def large(scope: Message, receive: Any, send: Any) -> None:
        nonlocal asked
        if scope["type"] == "http":
            asked += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await send(start())
                    await send(body(b"x" * 16_000_000, more=False))

    async with serving(large) as address, Client(address) as client:
        client.writer.write(GET % b"/" * 3)
        await asyncio.sleep(1)  # twice as long as it took to begin all three
        assert asked == 1


@pytest.fixture
def short_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Config, "keep_alive_timeout", 0.2)


@pytest.mark.usefixtures("short_idle")
@pytest.mark.parametrize("before", [b"", GET % b"/whole"])
async def test_a_connection_that_asks_nothing_is_closed(app: App, before: bytes) -> None:
    async with serving(app) as address, Client(address) as client:
        if before:
            await client.ask(before)
        async with asyncio.timeout(10):
            assert await client.reader.read() == b""


@pytest.mark.usefixtures("short_idle")
async def test_a_request_that_takes_longer_than_that_is_not_idle(app: App) -> None:
    async with serving(app) as address, Client(address) as client:
        client.writer.write(GET % b"/waits")
        async with asyncio.timeout(10):
            await app.begun.wait()
            asyncio.get_running_loop().call_later(0.5, app.go_on.set)
            assert b"late" in await client.reader.readuntil(b"0\r\n\r\n")
            assert await client.reader.read() == b"", "idle again, and so closed"


async def test_a_server_that_stops_closes_idle_connections(app: App) -> None:
    async with serving(app) as address:
        client = await Client(address).__aenter__()
        await client.ask(GET % b"/whole")
        closed = asyncio.create_task(client.reader.read())
    async with asyncio.timeout(10):
        assert await closed == b""
    client.writer.close()


async def test_a_server_that_stops_closes_http2_connections_behind_their_last_answer(app: App) -> None:
    """Not at the end of its patience, by which their tasks are cancelled."""
    stopping = contextlib.AsyncExitStack()
    address = await stopping.enter_async_context(serving(app, graceful_s=30))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rsplit(":", 1)[-1]))
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    http2.initiate_connection()
    headers = [(":method", "GET"), (":path", "/waits"), (":scheme", "http"), (":authority", "x")]
    http2.send_headers(1, headers, end_stream=True)
    writer.write(http2.data_to_send())
    async with asyncio.timeout(10):
        await app.begun.wait()
        asyncio.get_running_loop().call_later(0.1, app.go_on.set)
        await stopping.aclose()
        assert await reader.read()
    writer.close()
