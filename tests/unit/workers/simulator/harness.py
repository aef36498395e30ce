"""A running simulator and a client that speaks to it, for the tests beside this file.

The client frames and parses by itself: it shares no code with what it tests.
"""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PATIENCE_S = 15.0
ROOT = Path(__file__).resolve().parents[4]

Message = dict[str, Any]


def frame(message: object) -> bytes:
    body = json.dumps(message, ensure_ascii=False).encode()
    return b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body


def wait_until(condition: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
    """Poll, for conditions that only a file or a process shows."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


class Simulator:
    """One simulator process and its work directory."""

    def __init__(
        self, work_dir: Path, *args: str, env: dict[str, str] | None = None, stderr: Any = None
    ) -> None:
        self.work_dir = work_dir
        work_dir.mkdir(parents=True, exist_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("LINGMA_SIM_")}
        command = [sys.executable, "-m", "workers.simulator", "start", "--workDir", str(work_dir)]
        self.process = subprocess.Popen(
            [*command, "--socketPort", "0", "--httpPort", "0", *args],
            cwd=ROOT,
            env={**clean, "LINGMA_SIM_LOGGED_IN": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL if stderr is None else stderr,
        )

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def info(self) -> tuple[int, int] | None:
        """Port and pid of `.info`, or None."""
        with contextlib.suppress(OSError, ValueError):
            port, pid = (self.work_dir / ".info").read_text().split()[:2]
            return int(port), int(pid)
        return None

    def wait_ready(self) -> int:
        wait_until(lambda: (self.info() or (0, 0))[1] == self.process.pid, "fresh .info")
        found = self.info()
        assert found is not None
        return found[0]

    @property
    def http_port(self) -> int:
        match = re.search(r"WebSocket: \d+, HTTP: (\d+)", self.log())
        assert match is not None
        return int(match[1])

    def turn(self, **knobs: object) -> None:
        """Set the knobs of sim.json, all others back to their defaults; logged in unless told otherwise."""
        fresh = self.work_dir / "sim.json.new"
        fresh.write_text(json.dumps({"login": "in", **knobs}))
        fresh.replace(self.work_dir / "sim.json")

    def log(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.work_dir / "logs" / "lingma.log").read_text()
        return ""

    def wait_log(self, line: str) -> None:
        wait_until(lambda: line in self.log(), f"log line {line!r}")

    def records(self, request_id: str) -> list[Message]:
        """Lines of sim-asks.jsonl that name a request."""
        lines = (self.work_dir / "sim-asks.jsonl").read_text().splitlines()
        return [
            entry for line in lines if (entry := json.loads(line))["params"].get("requestId") == request_id
        ]


@contextlib.contextmanager
def simulator(work_dir: Path, *args: str, **options: Any) -> Iterator[Simulator]:
    """A process of its own, ready."""
    sim = Simulator(work_dir, *args, **options)
    try:
        sim.wait_ready()
        yield sim
    finally:
        sim.close()


class Client:
    """One WebSocket client; acknowledges pushes at once unless told otherwise."""

    def __init__(self, socket: ClientConnection, *, acks: bool) -> None:
        self.socket = socket
        self.acks = acks
        self.pushes: list[Message] = []
        self.arrived: list[float] = []
        self.kinds: list[type] = []
        self.closed = False
        self._buffer = b""
        self._replies: dict[object, Message] = {}
        self._news = asyncio.Event()
        self._last_id = 0

    async def read(self) -> None:
        try:
            await self._read_all()
        finally:
            self.closed = True
            self._news.set()

    async def _read_all(self) -> None:
        async for data in self.socket:
            self.kinds.append(type(data))
            self._buffer += data.encode() if isinstance(data, str) else data
            while (match := re.match(rb"Content-Length: (\d+)\r\n\r\n", self._buffer)) is not None:
                end = match.end() + int(match[1])
                if len(self._buffer) < end:
                    break
                message = json.loads(self._buffer[match.end() : end])
                self._buffer = self._buffer[end:]
                await self._take(message)
            self._news.set()

    async def _take(self, message: Message) -> None:
        if "method" not in message:
            self._replies[message["id"]] = message
            return
        self.pushes.append(message)
        self.arrived.append(time.monotonic())
        if self.acks and "id" in message and message["method"] != "tool/invoke":
            await self.send({"jsonrpc": "2.0", "id": message["id"], "result": None})

    async def send(self, message: object) -> None:
        await self.socket.send(frame(message), text=True)

    async def until(self, condition: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not within {within_s} s: {what}; got {self.pushes[-3:]}") from None

    async def call(self, method: str, params: object = None) -> Message:
        """A request and its response, result or error."""
        self._last_id += 1
        rpc_id = self._last_id
        await self.send({"jsonrpc": "2.0", "id": rpc_id, "method": method, "params": params or {}})
        await self.until(lambda: rpc_id in self._replies, f"reply to {method}")
        return self._replies.pop(rpc_id)

    async def result(self, method: str, params: object = None) -> Any:
        return (await self.call(method, params))["result"]

    async def notify(self, method: str, params: object = None) -> None:
        await self.send({"jsonrpc": "2.0", "method": method, "params": params or {}})

    def of(self, request_id: str, method: str | None = None) -> list[Message]:
        """Pushes of one ask."""
        return [
            push
            for push in self.pushes
            if push["params"].get("requestId") == request_id and method in (None, push["method"])
        ]

    def text(self, request_id: str) -> str:
        return "".join(push["params"]["text"] for push in self.of(request_id, "chat/answer"))

    async def ask(self, question: str, **params: object) -> str:
        """Send chat/ask without waiting for its reply; the result is the request id."""
        request_id = str(params.pop("requestId", uuid.uuid4().hex))
        ask = {"requestId": request_id, "sessionId": uuid.uuid4().hex, "isReply": False, **params}
        self._last_id += 1
        message = {"method": "chat/ask", "params": {**ask, "questionText": question}}
        await self.send({"jsonrpc": "2.0", "id": self._last_id, **message})
        return request_id

    async def finish(self, request_id: str, within_s: float = PATIENCE_S) -> Message:
        """The parameters of the chat/finish of an ask, once it is there."""
        await self.until(lambda: self.of(request_id, "chat/finish"), f"finish of {request_id}", within_s)
        params: Message = self.of(request_id, "chat/finish")[0]["params"]
        return params

    async def answer(self, question: str, **params: object) -> str:
        """Ask and wait: the streamed text."""
        request_id = await self.ask(question, **params)
        finish = await self.finish(request_id)
        assert finish["statusCode"] == 200
        return self.text(request_id)


@contextlib.asynccontextmanager
async def client(sim: Simulator, *, initialize: bool = True, acks: bool = True) -> AsyncIterator[Client]:
    port = sim.wait_ready()
    async with connect(
        f"ws://127.0.0.1:{port}/", max_size=None, compression=None, ping_interval=None, close_timeout=0.5
    ) as socket:
        speaker = Client(socket, acks=acks)
        reading = asyncio.create_task(speaker.read())
        try:
            if initialize:
                await speaker.call("initialize")
            yield speaker
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
