"""What worker tests share: instances that a test speaks through, and the gateway side of the job protocol."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal

from gateway.jobs.codec import decode_reply, encode
from gateway.jobs.messages import (
    Admin,
    Cancel,
    Command,
    Drain,
    Envelope,
    Finished,
    FrameBatch,
    InstanceRecord,
    Reply,
    Submit,
    ToolReply,
    slot_holder,
)
from gateway.kernel import json
from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.backends import Stores
from gateway.store.turnlog import Fence, TurnRecord, TurnState
from workers.ports import WAITING, LeasedAccount

WORKER = "w-1"


async def eventually(condition: Callable[[], object], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


def push(method: str, request_id: str = "req-1", session_id: str = "s-1", **fields: Any) -> bytes:
    params = {"requestId": request_id, "sessionId": session_id, **fields}
    return json.dumps({"jsonrpc": "2.0", "id": 41, "method": method, "params": params})


def delta(text: str) -> bytes:
    return push("chat/answer", text=text)


def finish(status: int = 200, reason: str = "success", session_id: str = "s-1") -> bytes:
    return push("chat/finish", session_id=session_id, statusCode=status, reason=reason, fullAnswer="")


class FakeAnswer:
    """The pushes of one ask, as the test says them."""

    def __init__(self) -> None:
        self.closed = False
        self.ended = False
        self._items: list[bytes] = []
        self._error: Exception | None = None
        self._more = asyncio.Event()

    def say(self, *bodies: bytes) -> None:
        self._items += bodies
        self._more.set()

    def end(self) -> None:
        self.ended = True
        self._more.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._more.set()

    async def next(self, timeout: float) -> list[bytes]:
        if not self._items and self._error is None and not self.ended:
            self._more.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._more.wait()
        if self._items:
            items, self._items = self._items, []
            return items
        if self._error is not None:
            raise self._error
        return []

    def close(self) -> None:
        self.closed = True


class FakeClient:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.asks: list[tuple[bytes, str]] = []
        self.answers: list[FakeAnswer] = []
        self.stops: list[tuple[str, str]] = []
        self.approvals: list[tuple[str, str, str, bool]] = []
        self.results: list[tuple[str, str, str, json.Json]] = []
        self.stop_hangs = False
        self.ask_error: Exception | None = None

    async def ask(self, params: bytes, request_id: str) -> FakeAnswer:
        self.asks.append((params, request_id))
        if self.ask_error is not None:
            raise self.ask_error
        answer = FakeAnswer()
        self.answers.append(answer)
        return answer

    async def stop(self, request_id: str, session_id: str) -> None:
        self.stops.append((request_id, session_id))
        if self.stop_hangs:
            await asyncio.Event().wait()

    async def approve_tool(
        self, *, request_id: str, session_id: str, tool_call_id: str, approval: bool
    ) -> None:
        self.approvals.append((request_id, session_id, tool_call_id, approval))

    async def send_tool_result(
        self, *, request_id: str, tool_call_id: str, name: str, result: json.Json
    ) -> None:
        self.results.append((request_id, tool_call_id, name, result))


class FakeInstance:
    def __init__(self, name: str = "inst-0", index: int = 0, capacity: int = 4) -> None:
        self.name = name
        self.index = index
        self.capacity = capacity
        self.ready = True
        self.login = "logged_in"
        self.held_by = ""
        """The worker that has its account; then it waits."""
        self.client = FakeClient()

    def record(self) -> InstanceRecord:
        if self.held_by:
            return InstanceRecord(
                name=self.name,
                index=self.index,
                ready=False,
                state=WAITING,
                login="elsewhere",
                capacity=self.capacity,
                held_by=self.held_by,
            )
        return InstanceRecord(
            name=self.name,
            index=self.index,
            ready=self.ready,
            state="ready" if self.ready else "reconnecting",
            login=self.login,
            capacity=self.capacity,
        )


class FakeAccount:
    """An account with one instance."""

    def __init__(self, instance: FakeInstance, account_id: str = "ann") -> None:
        self.id = account_id
        self.names = frozenset({instance.name})
        self.at_home = True
        self.movable = True
        self.running = False
        self.instance = instance
        instance.ready = False

    def grant(self) -> None:
        self.running = self.instance.ready = True
        self.instance.held_by = ""

    def withhold(self, holder: str) -> None:
        self.instance.held_by = holder

    def leave(self) -> None:
        self.instance.ready = False

    async def stop(self) -> None:
        self.running = False


class FakePool:
    leased: Sequence[LeasedAccount] = ()

    def __init__(self, *instances: FakeInstance) -> None:
        self.instances = instances or (FakeInstance(),)
        self.events: list[str] = []
        """started and stopped, in this order."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.events.append("started")
        try:
            yield
        finally:
            self.events.append("stopped")

    async def wait_started(self, within_s: float) -> None:
        """They are up at once."""

    def get(self, name: str) -> FakeInstance | None:
        return next((one for one in self.instances if one.name == name), None)

    def snapshot(self) -> list[InstanceRecord]:
        return [one.record() for one in self.instances]


class Gateway:
    """Submits turns to one worker and reads what it says, over whichever stores the worker has."""

    def __init__(self, stores: Stores, clock: Clock, *, epoch: int, worker: str = WORKER) -> None:
        self.stores = stores
        self.clock = clock
        self.epoch = epoch
        self.worker = worker

    def envelope(self, turn_id: str, attempt: int = 1, epoch: int | None = None) -> Envelope:
        return Envelope(turn_id=turn_id, attempt=attempt, epoch=self.epoch if epoch is None else epoch)

    async def create(
        self, turn_id: str, *, attempt: int = 1, epoch: int | None = None, lease_ms: int = 60_000
    ) -> None:
        await self.stores.turns.create(
            TurnRecord(
                turn_id=turn_id,
                tenant="-",
                attempt=attempt,
                worker=self.worker,
                epoch=self.epoch if epoch is None else epoch,
                instance="inst-0",
                created_at_ms=self.clock.now_ms(),
                deadline_ms=self.clock.now_ms() + 600_000,
            ),
            ttl_s=600,
            lease_ms=lease_ms,
        )
        await self.stores.leases.acquire(self.slots_key, slot_holder(turn_id, attempt), limit=4, ttl_s=10)

    @property
    def slots_key(self) -> bytes:
        return self.stores.keys.slots(self.worker, 0)

    def submit_of(self, **fields: Any) -> Submit:
        given = {
            "instance": "inst-0",
            "params": b'{"requestId":"req-1","questionText":"hi"}',
            "upstream_request_id": "req-1",
            "session_id": "s-0",
            "deadline_ms": self.clock.now_ms() + 600_000,
        }
        return Submit(**(given | fields))

    async def submit(self, turn_id: str, *, attempt: int = 1, lease_ms: int = 60_000, **fields: Any) -> None:
        await self.create(turn_id, attempt=attempt, lease_ms=lease_ms)
        await self.send(self.submit_of(**fields), turn_id, attempt)

    async def send(
        self, command: Command, turn_id: str = "t", attempt: int = 1, epoch: int | None = None
    ) -> None:
        await self.send_raw(encode(self.envelope(turn_id, attempt, epoch), command))

    async def send_raw(self, payload: bytes) -> None:
        await self.stores.streams.append(self.stores.keys.commands(self.worker), payload)

    async def cancel(self, turn_id: str, reason: str = "client_gone", attempt: int = 1) -> None:
        await self.send(Cancel(reason=reason), turn_id, attempt)

    async def drain(self, epoch: int | None = None) -> None:
        await self.send(Drain(), epoch=epoch)

    async def ask_admin(self, action: str, reply_key: bytes, **args: Any) -> None:
        await self.send(Admin(action=action, instance="inst-0", args=args, reply_key=reply_key))

    async def tool_reply(self, turn_id: str, **fields: Any) -> None:
        await self.send(ToolReply(**fields), turn_id)

    # -- reading ------------------------------------------------------------------------------------------

    async def said(self, turn_id: str) -> list[tuple[Envelope, Reply]]:
        entries = await self.stores.streams.range(self.stores.keys.frames(turn_id))
        return [decode_reply(payload) for _, payload in entries]

    async def replies(self, turn_id: str) -> list[Reply]:
        return [reply for _, reply in await self.said(turn_id)]

    async def frames(self, turn_id: str) -> list[bytes]:
        """The frames as a reader has them: numbered without a gap, repeats dropped."""
        found: list[bytes] = []
        for reply in await self.replies(turn_id):
            if isinstance(reply, FrameBatch):
                skip = len(found) + 1 - reply.seq_first
                assert skip >= 0, "a gap"
                found += reply.frames[skip:]
        return found

    async def until(self, turn_id: str, kind: type[Any], *, within_s: float = 5.0) -> Any:
        """The first reply of that kind."""
        async with asyncio.timeout(within_s):
            while True:
                for reply in await self.replies(turn_id):
                    if isinstance(reply, kind):
                        return reply
                await asyncio.sleep(0.002)

    async def finished(self, turn_id: str, *, within_s: float = 5.0) -> Finished:
        found: Finished = await self.until(turn_id, Finished, within_s=within_s)
        ends = [reply for reply in await self.replies(turn_id) if isinstance(reply, Finished)]
        assert len(ends) == 1
        return found

    async def state(self, turn_id: str) -> TurnState:
        record = await self.stores.turns.get(turn_id)
        assert record is not None
        return record.state

    async def fence(self, turn_id: str) -> Fence:
        record = await self.stores.turns.get(turn_id)
        assert record is not None
        return record.fence

    async def slots(self) -> list[str]:
        return await self.stores.leases.holders(self.slots_key)


class Switch:
    """Stands before a store port and lets the test break some of its methods."""

    def __init__(self, port: Any, *methods: str) -> None:
        self._port = port
        self._methods = methods
        self.mode: Literal["on", "off", "deaf"] = "on"
        """off: nothing happens; deaf: it happens, but the reply is lost."""
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._port, name)
        if name not in self._methods:
            return real

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.mode == "off":
                raise StoreUnavailable("switched off")
            result = await real(*args, **kwargs)
            if self.mode == "deaf":
                raise StoreUnavailable("reply lost")
            return result

        return call
