"""The load generator: a process of its own that posts requests and counts what streams back.

It understands as little as it can: HTTP/1.1 over plain asyncio protocols, answers counted by a byte pattern.
`Load` is the bench's half; run as a module it is the process. One command a line:

    {"port", "path", "body", "delta", "end", "streams", "turns", "over_s"}  answers when all are connected
    {"go": true}                                               answers when all turns have ended
    {"hold": true}                                             answers when all streams have begun to speak
    {"release": true}                                          hangs up on the held streams
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tests.bench.dialects import Dialect
from tests.bench.measure import Child, NotMeasured, say

END_BYTES = 1024
"""The end of a stream stands in its last so many bytes."""
LAST_CHUNK = b"0\r\n\r\n"
LIMIT_S = 120.0


@dataclass(slots=True)
class Tally:
    turns: int = 0
    deltas: int = 0
    size: int = 0
    first_ms: list[float] = field(default_factory=list)
    """From the request to the first content, one for each turn."""
    failed: str = ""

    def said(self) -> dict[str, Any]:
        return {"turns": self.turns, "deltas": self.deltas, "size": self.size, "first_ms": self.first_ms}


class Stream(asyncio.Protocol):
    """One connection that runs turns one after the other."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._spoke = False
        self._tail = b""
        self._last = b""
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self) -> None:
        assert self._transport is not None
        self._spoke = False
        self._tail = self._last = b""
        self._sent_at = time.perf_counter()
        self._transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        tally, delta = self._run.tally, self._run.delta
        text = self._tail + data
        found = text.count(delta)
        tally.deltas += found
        tally.size += len(data)
        if found and not self._spoke:
            self._spoke = True
            tally.first_ms.append((time.perf_counter() - self._sent_at) * 1000)
            self._run.spoke()
        if self._run.whole:
            self._last = (self._last + data)[-END_BYTES:]
            if self._last.endswith(self._run.end):
                tally.turns += 1
                self._run.ended(self)
                return
        elif text.endswith(LAST_CHUNK):
            self._last = (self._last + text)[-END_BYTES:]
            if self._run.end not in self._last:
                self._run.fail(f"a stream ended without its end: {text[-300:]!r}")
                return
            tally.turns += 1
            self._run.ended(self)
            return
        self._tail = text[-(len(delta) - 1) :]
        self._last = (self._last + data)[-END_BYTES:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._run.fail(f"a connection was lost: {exc} {self._tail!r}")

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()


class Run:
    """All streams of one command."""

    def __init__(self, command: dict[str, Any]) -> None:
        body = command["body"].encode()
        head = (
            f"POST {command['path']} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        self.request = head.encode() + body
        self.delta = command["delta"].encode()
        self.end = command["end"].encode()
        self.whole = command.get("whole", False)
        """Answers are not streamed, and end with `end`."""
        self.tally = Tally()
        self._port = command["port"]
        self._left = command.get("turns", 0)
        self._over_s = command.get("over_s", 0.0)
        self._streams: list[Stream] = []
        self._wanted = command["streams"]
        self._running = 0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._all_spoke: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._wanted):
            _, stream = await loop.create_connection(lambda: Stream(self), "127.0.0.1", self._port)
            self._streams.append(stream)

    async def turns(self) -> None:
        await self._begin()
        async with asyncio.timeout(LIMIT_S):
            await self._done

    async def hold(self) -> None:
        self._left = self._wanted
        await self._begin()
        async with asyncio.timeout(LIMIT_S):
            await self._all_spoke

    async def _begin(self) -> None:
        """All at once, or evenly spread over a while."""
        for number, stream in enumerate(self._streams):
            if self._over_s and number:
                await asyncio.sleep(self._over_s / len(self._streams))
            self._next(stream)

    def _next(self, stream: Stream) -> None:
        if self._left > 0:
            self._left -= 1
            self._running += 1
            stream.ask()

    def spoke(self) -> None:
        if len(self.tally.first_ms) == self._wanted and not self._all_spoke.done():
            self._all_spoke.set_result(None)

    def ended(self, stream: Stream) -> None:
        self._running -= 1
        self._next(stream)
        if self._running == 0 and self._left == 0 and not self._done.done():
            self._done.set_result(None)

    def fail(self, why: str) -> None:
        self.tally.failed = self.tally.failed or why
        for future in (self._done, self._all_spoke):
            if not future.done():
                future.set_exception(NotMeasured(self.tally.failed))
                future.exception()

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


async def serve_commands() -> None:
    loop = asyncio.get_running_loop()
    run: Run | None = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            if "port" in command:
                run = Run(command)
                await run.connect()
                say(connected=command["streams"])
                continue
            assert run is not None
            if "release" in command:
                run.close()
                say()
                continue
            began = time.perf_counter()
            if "hold" in command:
                await run.hold()
            else:
                await run.turns()
                run.close()
            say(wall_s=time.perf_counter() - began, **run.tally.said())
        except (NotMeasured, OSError) as error:
            if run is not None:
                run.close()
            say(error=f"the load generator: {error or type(error).__name__}")


class Load(Child):
    """The process, as the bench sees it."""

    def __init__(self, core: int | None = 0) -> None:
        super().__init__("load", core=core)

    def connect(self, port: int, dialect: Dialect, burst: int, *, streams: int, **more: Any) -> None:
        """Open the connections of the next run, in which events wait in groups of that size."""
        marks = {"delta": dialect.delta, "end": dialect.end}
        path, body = dialect.path(burst), dialect.request(burst)
        self.ask(port=port, path=path, body=body, streams=streams, **marks, **more)

    def go(self, *, turns: int, deltas: int) -> dict[str, Any]:
        """Run what is connected. Raises NotMeasured when the streams did not say just that much."""
        answer: dict[str, Any] = self.ask(go=True)
        if (answer["turns"], answer["deltas"]) != (turns, deltas):
            raise NotMeasured(f"{turns} turns with {deltas} deltas were asked for, got {answer}")
        return answer


if __name__ == "__main__":
    asyncio.run(serve_commands())
