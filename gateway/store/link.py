"""One Redis connection that pipelines by itself: what is issued in one turn of the event loop leaves in one
write, replies are matched in order. Not a pool and not a router (connect.py is), and it retries nothing.

redis-py makes the connection (TLS, AUTH, SELECT, Sentinel), reads and writes it; packing is hiredis. RESP2 is
spoken: every command used here answers in the same shape on 6.2 and on every later server, and servers that
only resemble Redis know it. On loopback a command costs 3.9 us CPU in batches of 100 and 5.8 us with 32 tasks
calling; redis-py's own client takes 11 and 40.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, MovedError, NoScriptError, RedisError, ResponseError

from gateway.kernel.aio import Tasks, shielded, supervise
from gateway.kernel.errors import StoreUnavailable
from gateway.store.calls import Arg, Call, Reply, ReplyFuture, seen
from gateway.store.refusals import refusal, word_of
from gateway.store.scripts import Script

log = logging.getLogger(__name__)

RESP_VERSION = 2
MAX_PENDING = 50_000
MAX_PENDING_BYTES = 64 * 1024 * 1024
_BACKOFF_S = 0.05
_MAX_BACKOFF_S = 1.0
_MIN_STAY_S = 1.0
_MAX_STAY_S = 8.0
"""How long a connection to a server that takes no writes is kept before the next look for another."""
_CLOSE_S = 1.0
_CLOSED = "the connection to the store is closed"


class _Lost(Exception):
    """This connection is of no more use."""


class Link:
    """Connects at the first call (or start()), and again whenever the connection is lost.

    make_connection: gives a redis-py connection that is not connected yet; called for each attempt.
    """

    def __init__(
        self,
        make_connection: Callable[[], AbstractConnection],
        *,
        name: str = "redis",
        command_timeout_s: float = 5.0,
        connect_timeout_s: float = 5.0,
        connect_wait_s: float = 1.0,
        max_pending: int = MAX_PENDING,
        max_pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self._make_connection = make_connection
        self._name = name
        self._command_timeout_s = command_timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._connect_wait_s = connect_wait_s
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._tasks = Tasks()
        self._started = False
        self._connected = asyncio.Event()
        self._down: str | None = None
        """Why calls fail at once: an attempt to connect failed or takes too long, or this link is closed."""
        self.lost_at: float | None = None
        """Loop time at which the connection was lost; None while there is one, and before the first."""
        self._closed = False
        self._unsent: list[Call] = []
        self._sent: deque[Call] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._drop = asyncio.Event()
        self._known_scripts: set[str] = set()
        self._connects = 0
        self._stay_s = _MIN_STAY_S
        self._stay_until = float("-inf")
        self.on_connect: list[Callable[[], None]] = []
        """Called after each connect, when the calls that waited for it are queued."""
        self.on_moved: Callable[[], None] | None = None
        """For a link that follows a key of a Cluster: called when it has moved; it then connects anew."""

    # ---- calling

    def call(self, *args: Arg, timeout_s: float | None = None, asking: bool = False) -> ReplyFuture:
        """Send a command; the future gives its reply. asking: to the node that its key is being moved to.

        Fails with StoreUnavailable when there is no connection (after connect_wait_s when one is being made),
        when it is lost before the reply, or when no reply comes for timeout_s (default command_timeout_s; a
        blocking command needs its own). Error replies are StoreRefused, or StoreUnavailable when they tell of
        the server's state (refusals.py).
        """
        future: ReplyFuture = asyncio.get_running_loop().create_future()
        self._issue(args, future, timeout_s, None, asking)
        return future

    def call_packed(
        self, packed: bytes, *, timeout_s: float | None = None, asking: bool = False
    ) -> ReplyFuture:
        """call() for a command that its caller has packed, as streams_redis.py does with its long ones."""
        future: ReplyFuture = asyncio.get_running_loop().create_future()
        self._issue(packed, future, timeout_s, None, asking)
        return future

    def script(
        self,
        script: Script,
        keys: Sequence[Arg],
        args: Sequence[Arg],
        *,
        timeout_s: float | None = None,
        asking: bool = False,
    ) -> ReplyFuture:
        """Run a script: sent in full the first time on a connection, by its hash from then on."""
        future: ReplyFuture = asyncio.get_running_loop().create_future()
        rest = (len(keys), *keys, *args)
        in_full: Sequence[Arg] = ("EVAL", script.text, *rest)
        if script.sha1 in self._known_scripts:
            self._issue(("EVALSHA", script.sha1, *rest), future, timeout_s, in_full, asking)
        else:
            self._known_scripts.add(script.sha1)
            self._issue(in_full, future, timeout_s, None, asking)
        return future

    def _issue(
        self,
        args: Sequence[Arg] | bytes,
        future: ReplyFuture,
        timeout_s: float | None,
        fallback: Sequence[Arg] | None,
        asking: bool,
    ) -> None:
        if asking:  # it lets the next command in, and none after it; its error is that of the next one
            let_in: ReplyFuture = future.get_loop().create_future()
            let_in.add_done_callback(seen)
            self._issue(("ASKING",), let_in, timeout_s, None, asking=False)
        if self._down is not None:
            future.set_exception(StoreUnavailable(self._down))
            return
        # The stub of pack_command wants exactly one argument.
        packed = args if isinstance(args, bytes) else hiredis.pack_command(tuple(args))  # type: ignore[arg-type]
        total = self._bytes + len(packed)
        if len(self._unsent) + len(self._sent) >= self._max_pending or (
            self._bytes and total > self._max_pending_bytes
        ):
            future.set_exception(StoreUnavailable("too many store commands are waiting for a reply"))
            return
        loop = future.get_loop()
        deadline = loop.time() + (self._command_timeout_s if timeout_s is None else timeout_s)
        self._bytes = total
        self._unsent.append(Call(packed, future, deadline, fallback, asking))
        if self._connected.is_set():
            self._wake.set()
        elif len(self._unsent) == 1:
            loop.call_later(self._connect_wait_s, self._stop_waiting, self._connects)
            self.start()

    def _stop_waiting(self, connects: int) -> None:
        """The first call that waits for this connect has waited long enough: all fail, later ones at once."""
        if not self.healthy and connects == self._connects and self._down is None:
            self._go_down("the store does not accept a connection")

    # ---- state

    @property
    def healthy(self) -> bool:
        return self._connected.is_set()

    @property
    def available(self) -> bool:
        """Whether calls are sent, or wait for a connection that is being made; not refused at once."""
        return self._down is None

    @property
    def reconnects(self) -> int:
        """Connections made beyond the first."""
        return max(0, self._connects - 1)

    @property
    def pending(self) -> int:
        """Commands without a reply."""
        return len(self._unsent) + len(self._sent)

    def start(self) -> None:
        """Connect in the background, before any call."""
        if not self._started and not self._closed:
            self._started = True
            self._tasks.spawn(supervise(f"link {self._name}", self._run), name=f"link {self._name}")

    async def wait_connected(self, timeout_s: float) -> None:
        """Raises StoreUnavailable when there is no connection by then."""
        self.start()
        try:
            async with asyncio.timeout(timeout_s):
                await self._connected.wait()
        except TimeoutError:
            raise StoreUnavailable(self._down or "the store does not accept a connection") from None

    def drop(self) -> None:
        """Close this connection, failing what is pending, and make another."""
        self._drop.set()

    async def aclose(self) -> None:
        """Send what is queued, close, and fail what has no reply."""
        self._closed = True
        await self._tasks.aclose(within_s=2 * _CLOSE_S)
        self._go_down(_CLOSED)

    def _go_up(self) -> None:
        self._down = self.lost_at = None
        self._connects += 1
        self._drop.clear()
        self._wake.set()
        self._connected.set()
        log.info("link.connected", extra={"link": self._name, "reconnects": self.reconnects})
        for hook in self.on_connect:
            hook()

    def _go_down(self, why: str) -> None:
        """Fail everything, and what is called from now on until there is a connection."""
        self._down = why
        self._fail_all(why)

    def _fail_all(self, why: str) -> None:
        if self._connected.is_set():
            self.lost_at = asyncio.get_running_loop().time()
        self._connected.clear()
        self._known_scripts.clear()
        calls = [*self._sent, *self._unsent]
        self._sent.clear()
        self._unsent.clear()
        self._bytes = 0
        for call in calls:
            call.fail(why)

    # ---- the connection

    async def _run(self) -> None:
        failures = 0
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await self._attempt(self._make_connection())
            except (RedisError, OSError, StoreUnavailable) as error:
                if self._down is None:
                    log.warning("link.connect_failed", extra={"link": self._name, "error": _say(error)})
                self._go_down(_why(error))
            if self._down is None and asyncio.get_running_loop().time() - started > _MAX_BACKOFF_S:
                failures = 0
            failures += 1
            if self._down is None and failures == 1:
                continue  # one loss is no reason to wait
            self._go_down(self._down or "the store closes its connections")
            pause = min(_BACKOFF_S * 2 ** min(failures, 10), _MAX_BACKOFF_S)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret

    async def _attempt(self, connection: AbstractConnection) -> None:
        """Connect, and use the connection until it is lost. Raises when it cannot be made."""
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
            await self._serve(connection)
        finally:
            await shielded(_hang_up(connection), within_s=_CLOSE_S)

    async def _serve(self, connection: AbstractConnection) -> None:
        """Until the connection is lost; everything pending has failed when this returns."""
        why = ""
        try:
            self._go_up()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(connection))
                group.create_task(self._read(connection))
                group.create_task(self._watch())
        except* (RedisError, OSError, _Lost) as errors:
            why = "; ".join(map(_say, errors.exceptions))
        finally:
            self._fail_all(_CLOSED if self._closed else "the connection to the store was lost")
        level = logging.INFO if self._drop.is_set() else logging.WARNING
        log.log(level, "link.lost", extra={"link": self._name, "error": why})

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            if not self._unsent:
                self._wake.clear()
                await self._wake.wait()
            batch = []
            for call in self._unsent:
                if call.future.done():  # given up before it left
                    self._bytes -= call.size
                else:
                    batch.append(call)
            self._unsent.clear()
            if not batch:
                continue
            if not connection.is_connected:  # redis-py would make a new one, which nobody reads
                raise _Lost("closed")
            self._sent.extend(batch)
            packed = [call.packed for call in batch]
            for call in batch:
                call.packed = b""  # large values need not wait for their replies
            await connection.send_packed_command(packed, check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        sent = self._sent
        while True:
            error: ResponseError | None = None
            reply: Reply = None
            try:
                reply = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
            except ResponseError as refusal:
                error = refusal
            if not sent:
                raise _Lost("a reply to no command")
            call = sent.popleft()
            self._bytes -= call.size
            if call.future.done():
                continue
            if error is None:
                call.future.set_result(reply)
            else:
                self._refused(call, error)

    def _refused(self, call: Call, error: ResponseError) -> None:
        if isinstance(error, NoScriptError) and call.fallback is not None:
            left_s = call.deadline - asyncio.get_running_loop().time()
            self._issue(call.fallback, call.future, left_s, None, call.asking)
            return
        if isinstance(error, MovedError) and self.on_moved is not None:
            self.on_moved()
            call.fail("the store has moved this key")
            self.drop()
            return
        call.future.set_exception(refusal(error))
        if word_of(error) == "READONLY":
            self._look_elsewhere()

    def _look_elsewhere(self) -> None:
        """A master no longer: the next connection may find the new one. Where there is none, now and then."""
        now = asyncio.get_running_loop().time()
        if now < self._stay_until:
            return
        calm = now - self._stay_until > _MAX_STAY_S
        self._stay_s = _MIN_STAY_S if calm else min(2 * self._stay_s, _MAX_STAY_S)
        self._stay_until = now + self._stay_s
        self.drop()

    async def _watch(self) -> None:
        """Lose the connection when asked to, or when the oldest command waits too long for its reply.

        The head must be late in two looks: after a stall of this process the replies may be here, unread.
        """
        late: Call | None = None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(1.0, self._command_timeout_s / 10)):
                    await self._drop.wait()
                raise _Lost("dropped")
            head = self._sent[0] if self._sent else None
            if head is None or head.deadline > asyncio.get_running_loop().time():
                late = None
            elif head is late:
                raise _Lost("no reply in time")
            else:
                late = head


def _why(error: Exception) -> str:
    """Nothing can be called, in our words."""
    if isinstance(error, AuthenticationError):
        return "the store refuses the credentials"
    return refusal(error).message if isinstance(error, ResponseError) else "the store cannot be reached"


def _say(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


async def _hang_up(connection: AbstractConnection) -> None:
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect()
