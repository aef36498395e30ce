"""Over a real Hypercorn and real sockets: who is told that a client has gone, and when."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import h2.config
import h2.connection
import pytest

from gateway.protocols.http import ON_DISCONNECT
from gateway.server import disconnects, http1
from tests.support.edge import serving


class App:
    """Waits to be told, while it sends nothing and waits for no message."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.told = asyncio.Event()
        self.times = 0
        self.late = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/late":
            while (await receive())["type"] != "http.disconnect":
                self.begun.set()
            scope[ON_DISCONNECT](self.late.set)
            return
        if scope["path"] == "/nobody":
            scope[ON_DISCONNECT](self.tell)
            scope[ON_DISCONNECT](None)
        else:
            scope[ON_DISCONNECT](self.tell)
        self.begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        self.late.set()

    def tell(self) -> None:
        self.times += 1
        self.told.set()


@pytest.fixture
async def app() -> AsyncIterator[App]:
    disconnects.apply()
    http1.apply()
    yield App()


@contextlib.asynccontextmanager
async def asked(app: App, path: str, *, version: str) -> AsyncIterator[asyncio.StreamWriter]:
    """A client that asks and then says nothing."""
    async with serving(app) as address, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", int(address.rsplit(":", 1)[-1]))
        if version == "2":
            client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            client.initiate_connection()
            headers = [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "x")]
            client.send_headers(1, headers, end_stream=True)
            writer.write(client.data_to_send())
        else:
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await app.begun.wait()
        yield writer
        writer.close()


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_whoever_asked_is_told_once_when_the_client_has_gone_and_the_message_comes_too(
    app: App, version: str
) -> None:
    async with asked(app, "/", version=version) as writer:
        assert not app.told.is_set()
        writer.close()
        await app.told.wait()
        await app.late.wait()
    assert app.times == 1


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_who_asks_when_the_client_has_gone_already_is_told_at_once(app: App, version: str) -> None:
    async with asked(app, "/late", version=version) as writer:
        writer.close()
        await app.late.wait()


async def test_who_does_not_ask_any_more_is_not_told(app: App) -> None:
    async with asked(app, "/nobody", version="1.1") as writer:
        writer.close()
        await app.late.wait()
    assert app.times == 0


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_a_request_that_is_over_leaves_no_garbage(version: str) -> None:
    """Not of the kind that waits for somebody to look at it: that costs 3 % of a turn."""

    class Answers(App):
        async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return
            scope["kept"] = kept = App()
            self.kept = weakref.ref(kept)
            scope[ON_DISCONNECT](kept.tell)
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            scope[ON_DISCONNECT](None)
            self.begun.set()

    disconnects.apply()
    http1.apply()
    app = Answers()
    gc.disable()
    try:
        async with asked(app, "/", version=version), asyncio.timeout(10):
            while app.kept() is not None:
                await asyncio.sleep(0)
    finally:
        gc.enable()
