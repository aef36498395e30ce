"""Who gets which push. One Subscription per ask: registered before the ask is sent, fed by the connection.

Routing is by request id; a push without one belongs to the ask that named its tool call before, or whose
session it names. What belongs to nobody is dropped. Bodies pass as they came. Called by client.py.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from gateway.kernel.errors import InvalidRequest, UpstreamError
from workers import pushes
from workers.lingma.errors import ReaderTooSlow
from workers.lingma.rpc import Incoming

log = logging.getLogger(__name__)

SESSION_METHODS = frozenset({"session/title/update"})


class Subscription:
    """The pushes of one ask, in order, until chat/finish or an error. One reader."""

    __slots__ = (
        "_bodies", "_bytes", "_error", "_limit_bytes", "_registry", "_waiter", "ended", "on_end",
        "request_id", "session_id", "tool_ids",
    )  # fmt: skip

    def __init__(self, registry: "Subscriptions", request_id: str, limit_bytes: int) -> None:
        self.request_id = request_id
        self.session_id = ""
        """The session that answers, as soon as a push has named it."""
        self.tool_ids: set[str] = set()
        self.ended = False
        """Nothing more will come; what has come may still wait."""
        self.on_end: Callable[[], None] | None = None
        self._registry = registry
        self._limit_bytes = limit_bytes
        self._bodies: list[bytes] = []
        self._bytes = 0
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def next(self, timeout: float) -> list[bytes]:
        """All bodies that wait; [] when none comes within timeout seconds, or ever again.

        Raises what ended the ask, once everything before it was taken: LingmaDisconnected, AskRefused,
        ReaderTooSlow. Safe to cancel.
        """
        if not self._bodies and not self.ended and timeout > 0:
            await self._wait(timeout)
        if self._bodies:
            bodies, self._bodies, self._bytes = self._bodies, [], 0
            return bodies
        if self._error is not None:
            raise self._error
        return []

    def close(self) -> None:
        """Take no more; later pushes are dropped. Idempotent."""
        self._bodies.clear()
        self.end()

    def put(self, body: bytes) -> None:
        # A body of any size is taken by a reader that keeps up.
        if self._bodies and self._bytes + len(body) > self._limit_bytes:
            log.warning("lingma.reader_too_slow", extra={"waiting_bytes": self._bytes})
            self.end(ReaderTooSlow("the answer came faster than it could be passed on"))
            return
        self._bodies.append(body)
        self._bytes += len(body)
        self._wake()

    def end(self, error: UpstreamError | None = None) -> None:
        """The first end counts."""
        if self.ended:
            return
        self.ended = True
        self._error = error
        self._registry.remove(self)
        if self.on_end is not None:
            self.on_end()
        self._wake()

    async def _wait(self, timeout: float) -> None:
        # A plain future and timer: asyncio.timeout costs as much as all the rest of a burst.
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Subscriptions:
    """The open asks of one instance."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._by_request: dict[str, Subscription] = {}
        self._by_session: dict[str, Subscription] = {}
        self._by_tool: dict[str, Subscription] = {}

    def __len__(self) -> int:
        return len(self._by_request)

    def open(self, request_id: str) -> Subscription:
        """Raises InvalidRequest for an id that is in use: its pushes could not be told apart."""
        if not request_id or request_id in self._by_request:
            raise InvalidRequest("the request id is empty or in use")
        subscription = Subscription(self, request_id, self._limit_bytes)
        self._by_request[request_id] = subscription
        return subscription

    def remove(self, subscription: Subscription) -> None:
        self._by_request.pop(subscription.request_id, None)
        if self._by_session.get(subscription.session_id) is subscription:
            del self._by_session[subscription.session_id]
        for tool_id in subscription.tool_ids:
            if self._by_tool.get(tool_id) is subscription:
                del self._by_tool[tool_id]

    def end_all(self, error: UpstreamError) -> None:
        for subscription in list(self._by_request.values()):
            subscription.end(error)

    def route(self, message: Incoming, body: bytes) -> None:
        """Hand a push to its ask. chat/finish is handed over and ends it."""
        params = message.params
        subscription = self._by_request.get(params.requestId) if params is not None else None
        if params is not None and subscription is not None:
            if params.sessionId and params.sessionId != subscription.session_id:
                self._learn_session(subscription, params.sessionId)
            if message.method in pushes.TOOL_METHODS:
                self._learn_tool(subscription, body)
        elif params is not None and not params.requestId:
            subscription = self._without_request_id(message, body)
        if subscription is None:
            level = logging.WARNING if message.method == pushes.ERROR else logging.DEBUG
            log.log(level, "lingma.push_dropped", extra={"method": message.method})
            return
        subscription.put(body)
        if message.method == pushes.FINISH:
            subscription.end()

    def learn_session(self, subscription: Subscription, params: bytes) -> None:
        """Take the session from the ask itself: a title may come before any push names both ids."""
        try:
            asked = _ask_decoder.decode(params)
        except msgspec.DecodeError:
            return
        if asked.sessionId:
            self._learn_session(subscription, asked.sessionId)

    def _learn_session(self, subscription: Subscription, session_id: str) -> None:
        if self._by_session.get(subscription.session_id) is subscription:
            del self._by_session[subscription.session_id]
        subscription.session_id = session_id
        self._by_session[session_id] = subscription

    def _learn_tool(self, subscription: Subscription, body: bytes) -> None:
        tool = pushes.tool_ask(pushes.read(body))
        if tool is not None and tool.tool_id:
            subscription.tool_ids.add(tool.tool_id)
            self._by_tool[tool.tool_id] = subscription

    def _without_request_id(self, message: Incoming, body: bytes) -> Subscription | None:
        assert message.params is not None
        if message.method in SESSION_METHODS:
            return self._by_session.get(message.params.sessionId)
        if message.method in pushes.TOOL_METHODS:
            tool = pushes.tool_ask(pushes.read(body))
            if tool is not None and not tool.tool_id:
                log.warning("lingma.tool_without_id", extra={"method": message.method})
            return self._by_tool.get(tool.tool_id) if tool is not None else None
        return None


class _Ask(msgspec.Struct):
    sessionId: str = ""


_ask_decoder = msgspec.json.Decoder(_Ask)
