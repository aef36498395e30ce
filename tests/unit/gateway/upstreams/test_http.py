"""The upstream client against real sockets that behave and misbehave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from gateway.kernel.errors import UpstreamEof, UpstreamProtocol, UpstreamTimeout, UpstreamUnavailable
from gateway.upstreams.http import USER_AGENT, HttpLimits, UpstreamAnswer, UpstreamHttp, UpstreamRequest
from tests.support.network import MIB, Packed
from tests.support.ports import free_port

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Server:
    """A raw server: what it was sent, and whether its peer has gone."""

    def __init__(self, *says: bytes, then: str = "wait") -> None:
        self.says = says
        self.then = then
        self.request = b""
        self.connections = 0
        self.gone = asyncio.Event()
        self.port = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                self.request = head + await reader.readexactly(length)
                for piece in self.says:
                    writer.write(piece)
                    await writer.drain()
                if self.then == "close":
                    return
                if self.then == "wait":
                    await reader.read()
                    self.gone.set()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[UpstreamHttp]:
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    async with UpstreamHttp().running() as http:
        yield http
    listener.close()


@contextlib.asynccontextmanager
async def answering(http: UpstreamHttp, asked: UpstreamRequest) -> AsyncIterator[UpstreamAnswer]:
    with contextlib.closing(await http.post(asked)) as answer:
        yield answer


def request(port: int, **limits: float) -> UpstreamRequest:
    return UpstreamRequest(
        upstream="one",
        url=f"http://127.0.0.1:{port}/v1/responses",
        body=b'{"a":1}',
        headers={"Authorization": "Bearer secret", "Content-Type": "application/json"},
        limits=HttpLimits(**limits),
    )


async def test_a_body_comes_byte_for_byte_and_the_connection_is_used_again() -> None:
    server = Server(HEAD, chunk(b"data: a\n\n"), chunk(b"data: b\n\n"), b"0\r\n\r\n", then="again")
    async with serving(server) as http:
        for _ in range(3):
            async with answering(http, request(server.port)) as answer:
                assert answer.status == 200
                assert await answer.read(100) == b"data: a\n\ndata: b\n\n"
    assert server.connections == 1


async def test_it_says_who_it_is_and_nothing_it_was_not_told() -> None:
    server = Server(HEAD, b"0\r\n\r\n", then="again")
    async with serving(server) as http, answering(http, request(server.port)) as answer:
        await answer.read(10)
    lines = server.request.decode().split("\r\n")
    names = {line.split(":")[0].lower() for line in lines[1:] if ":" in line and not line.startswith("{")}
    assert f"User-Agent: {USER_AGENT}" in lines
    expected = {"host", "user-agent", "accept-encoding", "authorization", "content-type", "content-length"}
    assert names == expected
    assert server.request.endswith(b'\r\n\r\n{"a":1}')


async def test_leaving_early_closes_the_connection() -> None:
    server = Server(HEAD, chunk(b"data: a\n\n"))
    async with serving(server) as http:
        async with answering(http, request(server.port)) as answer:
            async for data in answer.chunks():
                assert data == b"data: a\n\n"
                break
        await asyncio.wait_for(server.gone.wait(), 2)


async def test_a_cancelled_reader_closes_the_connection() -> None:
    server = Server(HEAD)
    async with serving(server) as http:

        async def read() -> None:
            async with answering(http, request(server.port)) as answer:
                await answer.read(100)

        task = asyncio.ensure_future(read())
        while not server.request:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.gone.wait(), 2)


async def test_nobody_there_is_unavailable_and_the_address_is_not_told() -> None:
    port = free_port()
    async with UpstreamHttp().running() as http:
        with pytest.raises(UpstreamUnavailable, match="Upstream one") as caught:
            async with answering(http, request(port)):
                pass
    assert str(port) not in caught.value.message


async def test_the_silence_that_is_borne_can_be_cut_short() -> None:
    server = Server(HEAD)
    async with serving(server) as http:
        with pytest.raises(UpstreamTimeout) as caught:
            async with answering(http, request(server.port)) as answer:
                answer.hurry(0.05)
                answer.hurry(60)
                await answer.read(100)
        assert caught.value.phase == "idle"


@pytest.mark.parametrize(
    ("says", "limits", "phase"),
    [((), {"first_byte_s": 0.05, "connect_s": 0.05}, "first_byte"), ((HEAD,), {"idle_s": 0.05}, "idle")],
)
async def test_every_wait_has_its_limit(
    says: tuple[bytes, ...], limits: dict[str, float], phase: str
) -> None:
    server = Server(*says)
    async with serving(server) as http:
        with pytest.raises(UpstreamTimeout) as caught:
            async with answering(http, request(server.port, **limits)) as answer:
                await answer.read(100)
        assert caught.value.phase == phase
        await asyncio.wait_for(server.gone.wait(), 2)


@pytest.mark.parametrize("says", [(), (HEAD,), (HEAD, chunk(b"data: a\n\n"))])
async def test_everything_together_has_a_limit(says: tuple[bytes, ...]) -> None:
    server = Server(*says)
    async with serving(server) as http:
        limited = msgspec.structs.replace(request(server.port), total_s=0.05)
        with pytest.raises(UpstreamTimeout) as caught:
            async with answering(http, limited) as answer:
                await answer.read(100)
        assert caught.value.phase == "total"


class Forgetful:
    """Answers a connection's first request, and closes it upon the second."""

    def __init__(self, *, ever: bool = True) -> None:
        self.ever = ever
        self.heard: list[int] = []
        """Requests, by the number of their connection."""
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for count in range(2):
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(b'{"a":1}'))
                self.heard.append(number)
                if count or not self.ever:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.transport.abort()


async def test_a_kept_connection_that_turns_out_closed_costs_nothing() -> None:
    server = Forgetful()
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    asked = request(listener.sockets[0].getsockname()[1])
    async with UpstreamHttp().running() as http:
        for _ in range(3):
            async with answering(http, asked) as answer:
                assert await answer.read(10) == b"ok"
    listener.close()
    assert server.heard == [1, 1, 2, 3] or server.heard == [1, 1, 2, 3, 3, 4], "each but the first once more"


async def test_a_new_connection_that_is_closed_is_not_asked_again() -> None:
    server = Forgetful(ever=False)
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    async with UpstreamHttp().running() as http:
        with pytest.raises(UpstreamUnavailable):
            async with answering(http, request(listener.sockets[0].getsockname()[1])):
                pass
    listener.close()
    assert server.heard == [1]


@pytest.mark.parametrize("wrong", [{"url": "http://a..b/"}, {"headers": {"x": "a\r\nb"}}])
async def test_what_cannot_be_written_is_an_upstream_that_is_not_there(wrong: dict[str, Any]) -> None:
    async with UpstreamHttp().running() as http:
        with pytest.raises(UpstreamUnavailable):
            async with answering(http, msgspec.structs.replace(request(1), **wrong)):
                pass


async def test_a_body_that_breaks_off_is_told() -> None:
    server = Server(HEAD, chunk(b"data: a\n\n"), then="close")
    async with serving(server) as http:
        with pytest.raises(UpstreamEof, match="broke its answer off"):
            async with answering(http, request(server.port)) as answer:
                await answer.read(100)


async def test_a_body_that_is_too_long_is_refused_and_an_error_is_cut() -> None:
    long = chunk(b"x" * 200_000) + b"0\r\n\r\n"
    server = Server(HEAD, long, then="again")
    async with serving(server) as http:
        with pytest.raises(UpstreamProtocol, match="more than 1000 bytes"):
            async with answering(http, request(server.port)) as answer:
                await answer.read(1000)
        async with answering(http, request(server.port)) as answer:
            assert len(await answer.read_error()) == 65536


@pytest.mark.parametrize(
    "says",
    [
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 4\r\n\r\n\x0b\x01\x80a",
    ],
    ids=["another protocol", "packed as nobody here unpacks it"],
)
async def test_what_is_no_answer_is_told_as_that(says: bytes) -> None:
    server = Server(says, then="close")
    async with serving(server) as http:
        with pytest.raises(UpstreamProtocol, match="Upstream one sent an answer that cannot be read"):
            async with answering(http, request(server.port)):
                pass


async def test_an_answer_is_unpacked_no_faster_than_it_is_read() -> None:
    """A gigabyte of it arrives in one megabyte, and what is not wanted is never unpacked."""
    packed = Packed("gzip", b"a" * (16 * MIB), times=64)
    assert len(packed.body) < 2 * MIB
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed.body)
    server = Server(head + packed.body)
    async with serving(server) as http:
        with contextlib.closing(await http.post(request(server.port))) as answer:
            async with contextlib.aclosing(answer.chunks()) as chunks:
                assert len(await anext(chunks)) <= 2 * MIB
        async with answering(http, request(server.port)) as answer:
            with pytest.raises(UpstreamProtocol, match="more than 20000000 bytes"):
                await answer.read(20_000_000)
        async with answering(http, request(server.port)) as answer:
            assert await answer.read_error() == b"a" * 65536


async def test_redirects_are_not_followed() -> None:
    moved = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    server = Server(moved, then="again")
    async with serving(server) as http, answering(http, request(server.port)) as answer:
        assert answer.status == 302


async def test_without_a_session_there_is_nobody_to_ask() -> None:
    with pytest.raises(UpstreamUnavailable):
        await UpstreamHttp().post(request(1))
