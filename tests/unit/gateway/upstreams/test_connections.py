"""What is written of a request, and what becomes of its connection afterwards."""

import asyncio
import contextlib
import gc
import ssl
import weakref
from collections.abc import AsyncIterator, Callable, Mapping

import aiohttp
import pytest

from gateway.upstreams.connections import MAX_BEGINNINGS, MAX_JOINED, Connections, PooledConnection, Target

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def head(url: str, headers: Mapping[str, str] = {}, *, proxy: str | None = None, size: int = 7) -> str:
    return Target(url, proxy, asyncio.get_running_loop()).head(headers, size).decode()


async def test_a_request_names_its_host_its_length_and_nothing_it_was_not_told() -> None:
    said = await head("https://up.example:8443/v1/responses?alt=sse", {"Authorization": "Bearer k"})
    assert said == (
        "POST /v1/responses?alt=sse HTTP/1.1\r\nHost: up.example:8443\r\n"
        "Authorization: Bearer k\r\nContent-Length: 7\r\n\r\n"
    )


async def test_what_is_kept_written_is_bounded_and_goes_with_its_target() -> None:
    target = Target("http://up.example/x", None, asyncio.get_running_loop())
    for size in (1, 2):
        for number in range(3 * MAX_BEGINNINGS):
            said = target.head({"x-key": f"k{number}"}, size)
            assert b"x-key: k%d\r\n" % number in said
            assert said.endswith(b"Content-Length: %d\r\n\r\n" % size)
    kept = weakref.ref(target)
    gc.disable()
    try:
        del target
        assert kept() is None, "it holds keys: it does not wait for the garbage to be looked at"
    finally:
        gc.enable()


async def test_an_operator_may_name_another_host() -> None:
    said = await head("http://127.0.0.1:1/x", {"host": "up.example"}, size=0)
    assert said == "POST /x HTTP/1.1\r\nhost: up.example\r\nContent-Length: 0\r\n\r\n"


async def test_a_name_and_password_in_an_address_become_a_header() -> None:
    assert "Authorization: Basic YTpi\r\n" in await head("http://a:b@up.example/x")


async def test_a_proxy_that_relays_is_told_the_whole_address_and_one_that_tunnels_is_not() -> None:
    relayed = await head("http://up.example/x", proxy="http://proxy.example:3128")
    tunnelled = await head("https://up.example/x", proxy="http://proxy.example:3128")
    assert relayed.startswith("POST http://up.example/x HTTP/1.1\r\n")
    assert tunnelled.startswith("POST /x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "headers", [{"a": "b\r\nc: d"}, {"a": "b\nc: d"}, {"a\r\nb": "c"}, {"a": "b\0"}, {"a\n": "b"}]
)
async def test_a_header_is_one_line(headers: Mapping[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        await head("http://up.example/x", headers)


@pytest.mark.parametrize("url", ["ftp://up.example/x", "/x", "", "http://"])
async def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(aiohttp.InvalidURL):
        await head(url)


class Upstream:
    """Says one thing for every request that it is sent, and counts who connects."""

    def __init__(self, says: bytes) -> None:
        self.says = says
        self.connections = 0
        self.gone = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(4)
                writer.write(self.says)
        self.gone += 1
        writer.close()


@contextlib.asynccontextmanager
async def asking(upstream: Upstream) -> AsyncIterator[tuple[Connections, str]]:
    listener = await asyncio.start_server(upstream, "127.0.0.1", 0)
    async with listener, contextlib.aclosing(Connections(ssl.create_default_context())) as connections:
        yield connections, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/x"


async def taken(connections: Connections, url: str, *, fresh: bool = False) -> PooledConnection:
    return await connections.take(url, None, within_s=5, fresh=fresh)


async def test_a_connection_is_given_back_behind_the_end_of_its_answer_though_nobody_reads_it() -> None:
    upstream = Upstream(OK)
    async with asking(upstream) as (connections, url):
        first = await taken(connections, url)
        reply = await first.post({}, b"body")
        assert not first.reused
        while not reply.content.is_eof():
            await asyncio.sleep(0)
        reply.close()
        second = await taken(connections, url)
        assert second.reused
        reply = await second.post({}, b"body")
        assert await reply.content.read() == b"ok"
        reply.close()
        assert upstream.connections == 1


@pytest.mark.parametrize("size", [0, MAX_JOINED, MAX_JOINED + 1, 4 * 1024 * 1024])
async def test_bodies_of_every_size_arrive_whole(size: int) -> None:
    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived = await reader.readexactly(size)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n%d" % arrived.count(b"x"))
        writer.close()

    listener = await asyncio.start_server(upstream, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, contextlib.aclosing(Connections(ssl.create_default_context())) as connections:
        reply = await (await taken(connections, f"http://127.0.0.1:{port}/x")).post({}, b"x" * size)
        assert await reply.content.read() == b"%d" % size
        reply.close()


async def test_a_fresh_connection_is_for_one_request() -> None:
    upstream = Upstream(OK)
    async with asking(upstream) as (connections, url):
        for _ in range(2):
            connection = await taken(connections, url, fresh=True)
            assert not connection.reused
            reply = await connection.post({}, b"body")
            assert await reply.content.read() == b"ok"
            reply.close()
        assert upstream.connections == 2


class Late(Upstream):
    """Says all but the end of a chunked body; the end comes when it may, or never."""

    def __init__(self) -> None:
        super().__init__(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")
        self.says_the_end: Callable[[], None] | None = None

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.says_the_end = lambda: writer.write(b"0\r\n\r\n")
        await super().__call__(reader, writer)


async def asked_and_closed(connections: Connections, url: str, *, ended: bool) -> bool:
    """Whether the connection had been used before."""
    connection = await taken(connections, url)
    reply = await connection.post({}, b"body")
    assert await reply.content.readany() == b"ok"
    reply.close(ended=ended)
    return connection.reused


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_an_answer_whose_end_comes_late_gives_its_connection_back_by_itself() -> None:
    upstream = Late()
    async with asking(upstream) as (connections, url):
        assert not await asked_and_closed(connections, url, ended=True)
        assert upstream.says_the_end is not None
        upstream.says_the_end()
        async with asyncio.timeout(5):
            while not await asked_and_closed(connections, url, ended=False):
                pass
        await until(lambda: upstream.gone == upstream.connections)


async def test_an_end_that_never_comes_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.upstreams.connections.END_S", 0.05)
    upstream = Late()
    async with asking(upstream) as (connections, url):
        await asked_and_closed(connections, url, ended=True)
        assert not await asked_and_closed(connections, url, ended=True), "it is given to nobody meanwhile"
        await until(lambda: upstream.gone == 2)


async def test_who_stops_waits_for_no_end() -> None:
    upstream = Late()
    async with asking(upstream) as (connections, url):
        await asked_and_closed(connections, url, ended=True)
    await until(lambda: upstream.gone == 1)


async def test_an_answer_that_nobody_reads_to_its_last_word_ends_at_once() -> None:
    upstream = Late()
    async with asking(upstream) as (connections, url):
        await asked_and_closed(connections, url, ended=False)
        await until(lambda: upstream.gone == 1)


async def test_what_is_said_before_an_answer_is_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with asking(Upstream(b"HTTP/1.1 100 Continue\r\n\r\n" + early + OK)) as (connections, url):
        reply = await (await taken(connections, url)).post({}, b"body")
        assert (reply.status, await reply.content.read()) == (200, b"ok")
        reply.close()


async def test_a_connection_that_became_something_else_is_closed() -> None:
    upstream = Upstream(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
    async with asking(upstream) as (connections, url):
        reply = await (await taken(connections, url)).post({}, b"body")
        assert reply.status == 101
        reply.close()
        (await (await taken(connections, url)).post({}, b"body")).close()
        assert upstream.connections == 2


async def test_whoever_waits_for_an_answer_can_be_given_an_error_and_the_connection_goes() -> None:
    upstream = Upstream(b"")
    async with asking(upstream) as (connections, url):
        connection = await taken(connections, url)
        asyncio.get_running_loop().call_soon(connection.give_up, InterruptedError())
        with pytest.raises(InterruptedError):
            await connection.post({}, b"body")
        async with asyncio.timeout(5):
            while not upstream.gone:
                await asyncio.sleep(0)


async def test_an_upstream_that_speaks_while_nobody_asks_is_not_asked_again_there() -> None:
    """It would be the answer to somebody else's question, and every later one with it."""
    go_on, connected = asyncio.Event(), 0

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await reader.readuntil(b"body")
        writer.write(OK)
        await go_on.wait()
        with contextlib.suppress(ConnectionError):
            writer.write(OK.replace(b"ok", b"no"))
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(upstream, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/x"
    async with listener, contextlib.aclosing(Connections(ssl.create_default_context())) as connections:
        for fresh in (False, True, False):  # by the time the second is answered, the first has said more
            connection = await taken(connections, url, fresh=fresh)
            assert not connection.reused
            reply = await connection.post({}, b"body")
            assert await reply.content.read() == b"ok"
            reply.close()
            go_on.set()
        assert connected == 3


async def test_what_cannot_be_written_gives_its_connection_up() -> None:
    upstream = Upstream(OK)
    async with asking(upstream) as (connections, url):
        connection = await taken(connections, url)
        with pytest.raises(ValueError, match="line break"):
            await connection.post({"a": "b\r\n"}, b"body")
        (await (await taken(connections, url)).post({}, b"body")).close()
        assert upstream.connections == 2


async def test_nobody_there_is_an_error_of_the_connector() -> None:
    async with asking(Upstream(OK)) as (connections, _):
        with pytest.raises(aiohttp.ClientConnectorError):
            await taken(connections, "http://127.0.0.1:1/x")
