import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.fakes.lingma_server import fake_lingma
from workers.lingma.errors import LingmaDisconnected
from workers.lingma.websocket import WebSocketLink


@contextlib.asynccontextmanager
async def raw_server(answer: bytes | None) -> AsyncIterator[int]:
    """Something that is no WebSocket server."""

    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        async with asyncio.timeout(5):
            await served.wait()


def make_link(port: int, **options: float) -> tuple[WebSocketLink, list[bytes], "asyncio.Future[str]"]:
    received: list[bytes] = []
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    link = WebSocketLink(port, lambda data: received.append(bytes(data)), lost.set_result, **options)
    return link, received, lost


async def test_closed_port_cannot_be_opened(free_tcp_port: int) -> None:
    link, _, lost = make_link(free_tcp_port)
    with pytest.raises(LingmaDisconnected):
        await link.open()
    assert not lost.done()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", b"hello\r\n\r\n", b""]
)
async def test_refused_handshake(answer: bytes) -> None:
    async with raw_server(answer) as port:
        link, _, lost = make_link(port)
        with pytest.raises(LingmaDisconnected):
            await link.open()
        assert not lost.done()


async def test_silent_server_times_out() -> None:
    async with raw_server(None) as port:
        link, _, _ = make_link(port)
        with pytest.raises(LingmaDisconnected):
            await link.open(timeout_s=0.05)
        assert not link.is_open


async def test_goodbye_of_the_other_side_is_a_loss() -> None:
    async with fake_lingma() as fake:
        link, _, lost = make_link(fake.port)
        await link.open()
        await fake.wait_for(lambda: fake.connections)
        async with asyncio.timeout(5):
            await fake.connections[0].close()
            assert await lost == "closed by the subprocess"
        assert not link.is_open
        link.send(b"dropped")


async def test_closing_twice_is_fine() -> None:
    async with fake_lingma() as fake:
        link, _, lost = make_link(fake.port)
        await link.open()
        assert link.is_open
        await link.aclose()
        await link.aclose()
        async with asyncio.timeout(5):
            assert await lost == "closed by us"


async def test_pings_keep_a_quiet_connection_and_find_a_dead_one() -> None:
    async with fake_lingma() as fake:
        link, _, lost = make_link(fake.port, ping_interval_s=0.03)
        await link.open()
        await asyncio.wait({lost}, timeout=0.3)
        assert link.is_open
        transport = fake.connections[0].transport
        transport.pause_reading()
        async with asyncio.timeout(5):
            assert await lost == "no sign of life"
        transport.abort()
