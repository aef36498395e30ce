"""A WebSocket client as Codex is one: it sends what is new, and goes on from the response before."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.kernel.json import dumps, loads
from tests.support.responses_schema import TERMINAL, StreamRead, validate_stream

LIMIT = "websocket_connection_limit_reached"
ANSWER_S = 30.0


class Answer(NamedTuple):
    """The frames up to a terminal event or an error, as they came."""

    frames: list[str]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [loads(frame) for frame in self.frames]  # type: ignore[misc]

    @property
    def last(self) -> dict[str, Any]:
        return self.events[-1]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def response(self) -> dict[str, Any]:
        assert self.last["type"] in TERMINAL, self.last
        return self.last["response"]  # type: ignore[no-any-return]

    @property
    def items(self) -> list[dict[str, Any]]:
        return [event["item"] for event in self.events if event["type"] == "response.output_item.done"]

    @property
    def text(self) -> str:
        parts = [part for item in self.items for part in item.get("content") or ()]
        return "".join(part.get("text", "") for part in parts)

    @property
    def error(self) -> tuple[int, str | None, str | None]:
        """Status, code and field."""
        assert self.last["type"] == "error", self.last
        error = self.last["error"]
        return self.last["status"], error["code"], error["param"]

    def valid(self) -> StreamRead:
        """Held to the schema as the stream over HTTP is."""
        return validate_stream(self.sse)

    @property
    def sse(self) -> bytes:
        events = (f"event: {event['type']}\ndata: {frame}\n\n" for event, frame in self._pairs())
        return "".join(events).encode() + b"data: [DONE]\n\n"

    def _pairs(self) -> list[tuple[dict[str, Any], str]]:
        return list(zip(self.events, self.frames, strict=True))


class Talk:
    """One connection."""

    def __init__(self, socket: ClientConnection, model: str) -> None:
        self.socket = socket
        self.model = model
        self.previous: str | None = None

    async def send(self, **frame: Any) -> None:
        await self.socket.send(dumps(frame).decode())

    async def create(self, given: Any, **fields: Any) -> None:
        body = {"type": "response.create", "model": self.model, "input": given}
        await self.send(**(body | fields))

    async def answer(self) -> Answer:
        frames: list[str] = []
        async with asyncio.timeout(ANSWER_S):
            while True:
                frame = await self.socket.recv()
                assert isinstance(frame, str), "frames are text"
                frames.append(frame)
                if loads(frame)["type"] in {*TERMINAL, "error"}:  # type: ignore[call-overload,index]
                    return Answer(frames)

    async def ask(self, given: Any, **fields: Any) -> Answer:
        await self.create(given, **fields)
        return await self.answer()

    async def turn(self, *items: Any, **fields: Any) -> Answer:
        """What is new, after the response before; words stand for a message of the user's."""
        given = [user(item) if isinstance(item, str) else item for item in items]
        if self.previous is not None:
            fields.setdefault("previous_response_id", self.previous)
        answer = await self.ask(given, **fields)
        if answer.last["type"] == "response.completed":
            self.previous = answer.response["id"]
        return answer

    async def closed(self) -> tuple[int, str]:
        """Code and reason; nothing else may come before."""
        try:
            async with asyncio.timeout(ANSWER_S):
                frame = await self.socket.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "closed without a word"
            return closed.rcvd.code, closed.rcvd.reason
        raise AssertionError(f"still open: {frame!r}")


def user(words: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": words}]}


@contextlib.asynccontextmanager
async def talking(
    url: str, model: str = "m", *, path: str = "/v1/responses", key: str = "any", **headers: str
) -> AsyncIterator[Talk]:
    """`headers` by name, underscores for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    address = f"ws{url.removeprefix('http')}{path}"
    named |= {"authorization": f"Bearer {key}"}
    async with connect(address, additional_headers=named, max_size=None, close_timeout=1) as socket:
        yield Talk(socket, model)


async def refusal(url: str, *, path: str = "/v1/responses", **headers: str) -> tuple[int, Any, Any]:
    """Status, body and headers of a handshake that must fail."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        async with connect(f"ws{url.removeprefix('http')}{path}", additional_headers=named):
            raise AssertionError("the handshake was not refused")
    except InvalidStatus as refused:
        response = refused.response
        return response.status_code, loads(response.body or b"null"), response.headers
