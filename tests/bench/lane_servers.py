"""Servers of the lanes section: a mock upstream, a bare pass-through, and the gateway between both.

A process; prints its port and serves until its standard input ends. The mock speaks HTTP/1.1 over plain
asyncio and costs next to nothing. The pass-through is what one would write who only wants to copy bytes:
Starlette on Hypercorn, aiohttp, chunks as they come. The gateway is a whole replica over a store in memory;
traced, it sends every span to the mock, which takes whatever it is sent; forgetful, it replays nothing.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
from hypercorn.asyncio import serve
from hypercorn.typing import ASGIFramework
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from gateway.container import open_deps
from gateway.kernel import memory
from gateway.kernel.json import JsonObject, dumps
from gateway.serving import hypercorn_config, listen, prepare_server
from gateway.settings import load
from gateway.telemetry.logs import setup_logs
from tests.bench.measure import say

EVENTS = 200
TEXT = " lorem"
KEY = "upstream-key"
SIGNED = b"-signed:"
"""Ends the name of a model that signs what it says."""


def _sse(event: JsonObject) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), dumps(event))


def _response(status: str, output: list[JsonObject]) -> JsonObject:
    usage: JsonObject = {"input_tokens": 9, "output_tokens": EVENTS, "total_tokens": EVENTS + 9}
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "model": "lane",
        "output": list(output),
        "usage": usage,
    }


def responses_stream() -> list[bytes]:
    item: JsonObject = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "in_progress",
        "content": [],
    }
    part: JsonObject = {"type": "output_text", "text": TEXT * EVENTS, "annotations": []}
    done: JsonObject = {**item, "status": "completed", "content": [part]}
    place: JsonObject = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    delta: JsonObject = {"type": "response.output_text.delta", "delta": TEXT, **place}
    return [
        _sse({"type": "response.created", "response": _response("in_progress", [])}),
        _sse({"type": "response.output_item.added", "output_index": 0, "item": item}),
        *([_sse(delta)] * EVENTS),
        _sse({"type": "response.output_item.done", "output_index": 0, "item": done}),
        _sse({"type": "response.completed", "response": _response("completed", [done])}),
    ]


def responses_whole() -> bytes:
    part: JsonObject = {"type": "output_text", "text": TEXT * EVENTS, "annotations": []}
    item: JsonObject = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    return dumps(_response("completed", [item]))


def gemini_stream() -> list[bytes]:
    def chunk(text: str, **more: object) -> bytes:
        candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
        value = {"candidates": [candidate | more], "modelVersion": "lane"}
        return b"data: %b\r\n\r\n" % dumps(cast(JsonObject, value))

    return [*([chunk(TEXT)] * EVENTS), chunk("", finishReason="STOP")]


def gemini_whole(**more: str) -> bytes:
    candidate: JsonObject = {
        "content": {"role": "model", "parts": [{"text": TEXT * EVENTS, **more}]},
        "finishReason": "STOP",
        "index": 0,
    }
    usage: JsonObject = {"promptTokenCount": 9, "candidatesTokenCount": EVENTS, "totalTokenCount": EVENTS + 9}
    return dumps({"modelVersion": "lane", "candidates": [candidate], "usageMetadata": usage})


class Mock(asyncio.Protocol):
    """Answers each request by its path and by what its body asks for, in groups of so many events a write."""

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._streams = {"responses": responses_stream(), "gemini": gemini_stream()}
        self._wholes = {
            "responses": responses_whole(),
            "gemini": gemini_whole(),
            "signed": gemini_whole(thoughtSignature="c2lnbmVk" * 60),
        }
        self._writing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        if len(rest) < length:
            return
        body, self._buffer = rest[:length], rest[length:]
        line = head.split(b"\r\n", 1)[0]
        dialect = "gemini" if b"/models/" in line else "responses"
        streamed = b"streamGenerateContent" in head if dialect == "gemini" else b'"stream":true' in body
        if streamed:
            self._writing = asyncio.get_running_loop().create_task(self._stream(dialect))
        else:
            self._answer(self._wholes["signed" if SIGNED in line else dialect])

    def _answer(self, body: bytes) -> None:
        assert self._transport is not None
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)

    async def _stream(self, dialect: str) -> None:
        assert self._transport is not None
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        events = self._streams[dialect]
        for at in range(0, len(events), self._burst):
            piece = b"".join(events[at : at + self._burst])
            self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0)
        self._transport.write(b"0\r\n\r\n")


def pass_through(upstream: int) -> ASGIApp:
    """Copies bytes both ways and looks at none of them."""
    session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        nonlocal session
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield

    async def copy(request: Request) -> Response:
        assert session is not None
        body = await request.body()
        query = f"?{request.url.query}" if request.url.query else ""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        answer = await session.post(
            f"http://127.0.0.1:{upstream}{request.url.path}{query}", data=body, headers=headers
        )
        if "event-stream" not in answer.headers["content-type"]:
            return Response(await answer.read(), media_type="application/json")

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in answer.content.iter_any():
                yield chunk
            answer.release()

        return StreamingResponse(chunks(), media_type="text/event-stream")

    return Starlette(routes=[Route("/{path:path}", copy, methods=["POST"])], lifespan=lifespan)


def settings_of(upstream: int) -> dict[str, str]:
    base = f"http://127.0.0.1:{upstream}"
    return {
        "CODEX_BASE_URL": f"{base}/v1",
        "CODEX_API_KEYS": KEY,
        "CODEX_MODELS": "lane",
        "ANTIGRAVITY_BASE_URL": base,
        "ANTIGRAVITY_API_KEYS": KEY,
        "ANTIGRAVITY_MODELS": "gemini-lane,gemini-lane-signed",
        "GATEWAY_QUEUE_MAX": "10000",
    }


async def _stdin_ends() -> None:
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def main(kind: str, argument: int) -> None:
    setup_logs("WARNING")
    memory.settle()
    if kind == "mock":
        server = await asyncio.get_running_loop().create_server(lambda: Mock(argument), "127.0.0.1", 0)
        say(port=server.sockets[0].getsockname()[1])
        await _stdin_ends()
        return
    sock = listen("127.0.0.1", 0)
    sock.listen()
    async with contextlib.AsyncExitStack() as stack:
        if kind == "traced":
            os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{argument}"
        if kind in ("gateway", "traced", "forgetful"):
            prepare_server()
            replay = {"REPLAY_ENABLED": "false"} if kind == "forgetful" else {}
            settings, _ = load(settings_of(argument) | replay)
            app: ASGIApp = (await stack.enter_async_context(open_deps(settings))).asgi
        else:
            app = pass_through(argument)
        say(port=sock.getsockname()[1])
        await serve(
            cast(ASGIFramework, app), hypercorn_config(sock), shutdown_trigger=_stdin_ends, mode="asgi"
        )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
