"""One client connection: framing on the way in and out, ids of pushes, acknowledgements.

In `ids=on` acknowledgements are awaited in the background only, missing ones are logged; `strict` holds the
caller until its push is acknowledged or given up.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from workers.simulator.framing import FrameReader, UnknownHeader, encode, is_text, pieces
from workers.simulator.journal import Journal
from workers.simulator.options import Knobs

FIRST_PUSH_ID = 71

Push = tuple[str, dict[str, Any]]


class ClientGone(ConnectionError):
    """The client closed while something was to be sent."""


Answer = asyncio.Future[dict[str, Any] | None]


@dataclass(slots=True)
class _Unacknowledged:
    method: str
    deadline: float
    answer: Answer | None
    """Resolved with the response, or with None when none came in time."""


class Connection:
    """A WebSocket client. Sending raises ClientGone once it is closed."""

    def __init__(
        self, number: int, socket: ServerConnection, knobs: Callable[[], Knobs], journal: Journal
    ) -> None:
        self.number = number
        self.initialized = False
        self._socket = socket
        self._knobs = knobs
        self._journal = journal
        self._reader = FrameReader()
        self._push_id = FIRST_PUSH_ID - 1
        self._duplicate_id = 0
        self._unacknowledged: dict[int, _Unacknowledged] = {}
        self._asked: dict[int, Answer] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._fragments = asyncio.Lock()
        self._sending: set[asyncio.Task[None]] = set()
        # Not for secrets: the same cuts for every connection of that number.
        self._dice = random.Random(number)  # noqa: S311

    def messages(self, data: str | bytes) -> Iterator[dict[str, Any]]:
        """The messages completed by one WebSocket message; acknowledgements are already taken out."""
        self._reader.feed(data.encode() if isinstance(data, str) else data)
        try:
            for body in self._reader.bodies():
                message = self._parse(body)
                if message is None:
                    continue
                if "method" in message:
                    yield message
                else:
                    self._acknowledge(message)
        except UnknownHeader:
            self._journal.line("Unknown message header", level="ERROR")

    def _parse(self, body: bytes) -> dict[str, Any] | None:
        try:
            message = orjson.loads(body)
        except ValueError:
            self._journal.line("message body is not JSON", level="ERROR")
            return {"method": "", "id": None}
        return message if isinstance(message, dict) else None

    async def reply(self, rpc_id: object, result: object) -> None:
        await self._send(encode({"jsonrpc": "2.0", "id": rpc_id, "result": result}))

    async def reply_error(self, rpc_id: object, code: int, message: str) -> None:
        await self._send(
            encode({"jsonrpc": "2.0", "id": rpc_id, "error": {"code": code, "message": message}})
        )

    async def push(self, knobs: Knobs, pushes: Sequence[Push], *, hold: bool = True) -> None:
        """Send pushes, several in one WebSocket message; under strict one by one, each held for its ack."""
        if knobs.ids == "strict" and hold:
            for method, params in pushes:
                answer: Answer = asyncio.get_running_loop().create_future()
                await self._send(encode(self._push(knobs, method, params, answer)))
                await answer
            return
        await self._send(b"".join(encode(self._push(knobs, method, params)) for method, params in pushes))

    async def ask_back(self, knobs: Knobs, method: str, params: dict[str, Any]) -> Answer:
        """Send a request whose response matters and may take its time; without ids none ever comes."""
        answer: Answer = asyncio.get_running_loop().create_future()
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if knobs.ids != "off":
            message["id"] = self._take_id(knobs)
            self._asked[message["id"]] = answer
        await self._send(encode(message))
        return answer

    async def raw(self, message: dict[str, Any]) -> None:
        """Send a message exactly as a script spells it; nobody waits for its ack."""
        await self._send(encode({"jsonrpc": "2.0", **message}))

    def _push(
        self, knobs: Knobs, method: str, params: dict[str, Any], answer: Answer | None = None
    ) -> dict[str, Any]:
        if knobs.ids == "off":
            return {"jsonrpc": "2.0", "method": method, "params": params}
        push_id = self._take_id(knobs)
        loop = asyncio.get_running_loop()
        timeout_s = knobs.ack_timeout_ms / 1000
        self._unacknowledged[push_id] = _Unacknowledged(method, loop.time() + timeout_s, answer)
        if self._timer is None:
            self._timer = loop.call_later(timeout_s, self._give_up)
        return {"jsonrpc": "2.0", "id": push_id, "method": method, "params": params}

    def _take_id(self, knobs: Knobs) -> int:
        if knobs.ids == "dup-id":
            self._duplicate_id += 1
            return self._duplicate_id
        self._push_id += 1
        return self._push_id

    def _acknowledge(self, message: dict[str, Any]) -> None:
        push_id = message.get("id")
        if isinstance(push_id, int):
            waiting = self._unacknowledged.pop(push_id, None)
            answer = self._asked.pop(push_id, None) if waiting is None else waiting.answer
            if answer is not None and not answer.done():
                answer.set_result(message)
            if answer is not None or waiting is not None:
                return
        self._journal.line(f"|Inbound| response {push_id!r} to no open request")

    def _give_up(self) -> None:
        """Log what was not acknowledged in time; one timer serves all pushes, oldest first."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for push_id, waiting in list(self._unacknowledged.items()):
            left = waiting.deadline - loop.time()
            if left > 0:
                self._timer = loop.call_later(left, self._give_up)
                return
            del self._unacknowledged[push_id]
            if waiting.answer is not None and not waiting.answer.done():
                waiting.answer.set_result(None)
            why = "no response from client, timeout reached"
            self._journal.line(f"|Outbound| request {push_id} {waiting.method} failed: {why}", level="ERROR")

    async def _send(self, frame: bytes) -> None:
        knobs = self._knobs()
        try:
            if knobs.fragment == "none":
                await self._socket.send(frame, text=self._as_text(knobs))
            else:
                # Shielded: an ask that is stopped half-way through a frame would spoil the stream.
                sending = asyncio.create_task(self._send_pieces(frame, knobs))
                self._sending.add(sending)
                sending.add_done_callback(self._sending.discard)
                await asyncio.shield(sending)
        except ConnectionClosed as error:
            raise ClientGone(f"client {self.number}") from error

    async def _send_pieces(self, frame: bytes, knobs: Knobs) -> None:
        async with self._fragments:
            for piece in pieces(frame, knobs.fragment, self._dice):
                await self._socket.send(piece, text=self._as_text(knobs) and is_text(piece))

    def _as_text(self, knobs: Knobs) -> bool:
        return knobs.ws_type == "text" or (knobs.ws_type == "random" and self._dice.random() < 0.5)

    async def close(self, code: int = 1011, reason: str = "") -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._socket.close(code, reason)

    def forget(self) -> None:
        """The socket is closed: nobody will acknowledge anything any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answers = [waiting.answer for waiting in self._unacknowledged.values()]
        for answer in (*answers, *self._asked.values()):
            if answer is not None and not answer.done():
                answer.set_result(None)
        self._unacknowledged.clear()
        self._asked.clear()
