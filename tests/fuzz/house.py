"""A whole replica in this process: the product's own composition over a store in memory, a worker that
answers from cassettes, and an ASGI driver without sockets.
"""

import asyncio
import contextlib
import logging
import zlib
from collections.abc import AsyncIterator
from typing import Any

from gateway.container import Replica, open_deps
from gateway.jobs.codec import decode_command
from gateway.jobs.messages import Admin
from gateway.kernel.aio import background
from gateway.kernel.clock import SystemClock
from gateway.kernel.json import dumps
from gateway.settings import load
from gateway.store.backends import open_memory
from gateway.store.kv import KVSetOptions
from gateway.store.turnlog import Write
from tests.fakes.scripted_worker import Job, ScriptedWorker
from tests.fuzz.requests import Request
from tests.matrix.cassettes import read
from tests.support.edge import Reply

KEY = "sk-fuzz"
MAX_BODY_BYTES = 256 * 1024
CAPACITY = 64
BEAT_S = 2.0
DEADLINE_S = 60.0
"""For a single request; most take a few milliseconds."""

ANSWERS = (
    "plain_text",
    "one_character_a_delta",
    "unicode",
    "empty_deltas",
    "full_answer_only",
    "thinking",
    "thinking_between_answers",
    "native_tool_card",
    "tool_call_in_text",
    "steps_and_unknown_pushes",
    "overwrite_that_extends",
)
"""Cassettes that end well: whatever is not 200 is then the request's doing."""


class House:
    """The replica, what it logged as an error, and its worker."""

    def __init__(self, replica: Replica, worker: "CassetteWorker", errors: "Errors") -> None:
        self.replica = replica
        self.worker = worker
        self.errors = errors
        self._tasks = len(asyncio.all_tasks())

    async def send(self, request: Request) -> Reply:
        """Raises TimeoutError when there is no answer in time."""
        async with asyncio.timeout(DEADLINE_S):
            return await _Exchange(request).run(self.replica.asgi)

    async def at_rest(self) -> bool:
        """Whether nothing of any request is left: no slot taken, no task running."""
        used = await self.worker.slots_used()
        return used == 0 and len(asyncio.all_tasks()) <= self._tasks


class CassetteWorker(ScriptedWorker):
    """Answers every ask from a cassette, the same one for the same question."""

    async def beating(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(BEAT_S)

    def _take(self, payload: bytes, group: asyncio.TaskGroup) -> None:
        _, command = decode_command(payload)
        if isinstance(command, Admin):
            group.create_task(self._tell(command.reply_key))
        else:
            super()._take(payload, group)

    async def _tell(self, reply_key: bytes) -> None:
        """Whatever an operator asks."""
        await self.stores.kv.kv_set(reply_key, dumps({"ok": True, "result": {}}), KVSetOptions(ex=60))

    async def slots_used(self) -> int:
        return sum(await self.stores.leases.counts([self.stores.keys.slots(self.name, 0)]))


async def _answer(job: Job) -> None:
    if await job.accept() is not Write.OK:
        return
    # Each job is looked at once; thousands of them are not kept.
    job.worker.jobs.remove(job)
    # A long ask lies beside the command; any answer does for those.
    asked = "" if job.submit.in_blob else str(job.ask["questionText"])
    cassette = read(ANSWERS[zlib.crc32(asked.encode()) % len(ANSWERS)])
    session = job.submit.session_id.encode()
    recorded = _session_of(cassette.frames[-1])
    await job.send(*(frame.replace(recorded, session) for frame in cassette.frames))
    await job.finish()


def _session_of(finish: bytes) -> bytes:
    return finish.partition(b'"sessionId":"')[2].partition(b'"')[0]


class Errors(logging.Handler):
    """What nobody wants to see in a log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(logging.Formatter("%(name)s %(message)s").format(record))

    def take(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen


@contextlib.asynccontextmanager
async def open_house() -> AsyncIterator[House]:
    settings, _ = load(
        {
            "API_KEYS": KEY,
            "REDIS_URL": "memory://",
            "MAX_BODY_BYTES": str(MAX_BODY_BYTES),
            "LOG_LEVEL": "ERROR",
        }
    )
    errors = Errors()
    logging.getLogger().addHandler(errors)
    try:
        async with open_memory(SystemClock()) as stores:
            worker = CassetteWorker(stores, capacity=CAPACITY)
            worker.default_script = _answer
            await worker.beat()
            async with (
                background(worker.run(), worker.beating()),
                open_deps(settings, stores=stores, bare_names=True) as replica,
            ):
                house = House(replica, worker, errors)
                yield house
    finally:
        logging.getLogger().removeHandler(errors)


class _Exchange:
    """One request as a server would hand it in."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._reply = Reply()
        self._unread = list(request.chunks)
        self._gone = asyncio.Event()

    async def run(self, app: Any) -> Reply:
        await app(self._request.scope(), self._receive, self._send)
        assert self._reply.ended, "the application returned without ending its answer"
        return self._reply

    async def _receive(self) -> dict[str, Any]:
        if self._unread:
            chunk = self._unread.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._unread)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        reply = self._reply
        if message["type"] == "http.response.start":
            assert reply.status == 0, "a second start"
            reply.status = message["status"]
            reply.headers = {k.decode("ascii"): v.decode("ascii") for k, v in message["headers"]}
            return
        assert reply.status, "a body before the start"
        assert not reply.ended, "a body after the end"
        reply.bodies.append(message["body"])
        reply.ended = not message.get("more_body", False)
