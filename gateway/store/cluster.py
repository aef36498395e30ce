"""Which node of a Redis Cluster owns a key, and what to do when it no longer does.

redis-py reads the slot map (in the background: at start, after a redirection, when a node fails). A command
that is redirected goes once to where it was sent, and one whose keys are just being moved is tried again
until they are all on one node; nothing else is sent twice. Called by connect.py only.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.exceptions import AskError, MovedError, RedisClusterException, RedisError, TryAgainError

from gateway.kernel.aio import Tasks, supervise
from gateway.kernel.errors import StoreRefused, StoreUnavailable
from gateway.store.address import Host
from gateway.store.keys import key_slot
from gateway.store.link import Link, Reply, ReplyFuture

log = logging.getLogger(__name__)

_REFRESH_S = 5.0
"""The time a reading of the slot map may take."""
_REFRESH_PAUSE_S = 0.5
"""Between two readings, so that a storm of redirections asks once."""

_HALF_MOVED_S = 3.0
"""How long a command of several keys is tried again while some of them are on either of two nodes."""
_TRY_AGAIN_S = 0.05

Issue = Callable[[Link], ReplyFuture]


class _Sent(NamedTuple):
    """A command on its way."""

    outer: ReplyFuture
    key: bytes
    issue: Issue
    until: float
    """Loop time up to which a node may ask for it to be tried again: it has then done nothing."""


class Cluster:
    """make_link: a link to one node. connection_kwargs: what redis-py needs to ask a node for the map."""

    def __init__(
        self,
        hosts: Iterable[Host],
        connection_kwargs: dict[str, Any],
        make_link: Callable[[Host], Link],
        *,
        connect_wait_s: float,
    ) -> None:
        seeds = [ClusterNode(host, port, "primary", **connection_kwargs) for host, port in hosts]
        self._nodes = NodesManager(seeds, False, connection_kwargs)
        self._make_link = make_link
        self._connect_wait_s = connect_wait_s
        self._links: dict[Host, Link] = {}
        self._stale = asyncio.Event()
        self._stale.set()
        self._mapped = asyncio.Event()
        self._down: str | None = None
        """Why there is no slot map, once it could not be read."""
        self._tasks = Tasks()
        self._tasks.spawn(supervise("cluster map", self._keep_map), name="cluster map")

    @property
    def healthy(self) -> bool:
        return self._mapped.is_set() and all(link.healthy for link in self._links.values())

    @property
    def available(self) -> bool:
        return self._down is None and all(link.available for link in self._links.values())

    @property
    def reconnects(self) -> int:
        return sum(link.reconnects for link in self._links.values())

    @property
    def links(self) -> list[Link]:
        """One a master."""
        return list(self._links.values())

    def refresh(self) -> None:
        """Read the slot map again, soon."""
        self._stale.set()

    def owner(self, key: bytes) -> Host:
        """Raises StoreUnavailable when no node is known to own it."""
        try:
            node = self._nodes.get_node_from_slot(key_slot(key))
        except (KeyError, RedisClusterException):
            self.refresh()
            raise StoreUnavailable(self._down or "no node of the store is known for this key") from None
        return node.host, int(node.port)

    def send(self, key: bytes, issue: Issue) -> ReplyFuture:
        """Issue a command on the link of the node that owns the key."""
        loop = asyncio.get_running_loop()
        outer: ReplyFuture = loop.create_future()
        sent = _Sent(outer, key, issue, loop.time() + _HALF_MOVED_S)
        if self._mapped.is_set() or self._down is not None:
            self._dispatch(sent)
        else:
            self._tasks.spawn(self._dispatch_when_mapped(sent))
        return outer

    async def wait_mapped(self, timeout_s: float) -> None:
        """Raises StoreUnavailable when the slot map cannot be read in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._mapped.wait()
        except TimeoutError:
            raise StoreUnavailable(self._down or "the store does not tell its slot map") from None

    async def aclose(self) -> None:
        await self._tasks.aclose()
        for link in self._links.values():
            await link.aclose()
        await self._nodes.aclose()
        await self._nodes.aclose("startup_nodes")

    async def _dispatch_when_mapped(self, sent: _Sent) -> None:
        try:
            await self.wait_mapped(self._connect_wait_s)
        except StoreUnavailable as error:
            if not sent.outer.done():
                sent.outer.set_exception(error)
            return
        self._dispatch(sent)

    def _dispatch(self, sent: _Sent) -> None:
        if sent.outer.done():
            return
        try:
            host = self.owner(sent.key)
        except StoreUnavailable as error:
            sent.outer.set_exception(error)
            return
        self._attempt(sent, host, redirected=False)

    def _attempt(self, sent: _Sent, host: Host, *, redirected: bool) -> None:
        def done(inner: ReplyFuture) -> None:
            self._settle(sent, inner, host, redirected)

        sent.issue(self._link(host)).add_done_callback(done)

    def _settle(self, sent: _Sent, inner: ReplyFuture, host: Host, redirected: bool) -> None:
        outer = sent.outer
        if inner.cancelled():
            outer.cancel()
            return
        error = inner.exception()
        reply = error.__cause__ if isinstance(error, StoreRefused | StoreUnavailable) else None
        if isinstance(reply, MovedError) or isinstance(error, StoreUnavailable):
            self.refresh()
        if outer.done():
            return
        loop = asyncio.get_running_loop()
        if error is None:
            outer.set_result(inner.result())
        elif isinstance(reply, TryAgainError) and loop.time() < sent.until:
            loop.call_later(_TRY_AGAIN_S, self._dispatch, sent)
        elif isinstance(reply, AskError) and not redirected:
            target = (reply.host or host[0], reply.port)
            if not isinstance(reply, MovedError):
                # Only the next command on that connection is let in; both leave in one write.
                self._link(target).call("ASKING").add_done_callback(_seen)
            self._attempt(sent, target, redirected=True)
        elif isinstance(reply, AskError):
            outer.set_exception(StoreUnavailable("the store keeps moving this key"))
        else:
            outer.set_exception(error)

    def _link(self, host: Host) -> Link:
        link = self._links.get(host)
        if link is None:
            link = self._links[host] = self._make_link(host)
        return link

    async def _keep_map(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                async with asyncio.timeout(_REFRESH_S):
                    await self._nodes.initialize()
            except (RedisClusterException, RedisError, OSError) as error:
                self._stale.set()
                log.warning("cluster.map_failed", extra={"error": f"{type(error).__name__}: {error}"})
                if not self._mapped.is_set():
                    self._down = "the store does not tell its slot map"
            else:
                self._down = None
                self._mapped.set()
                await self._match_links()
            await asyncio.sleep(_REFRESH_PAUSE_S)

    async def _match_links(self) -> None:
        """A link to each master; none to nodes that have left or are replicas now."""
        masters = {(node.host, int(node.port)) for node in self._nodes.get_nodes_by_server_type("primary")}
        for host in masters:
            self._link(host).start()
        for host in self._links.keys() - masters:
            await self._links.pop(host).aclose()


def _seen(future: "asyncio.Future[Reply]") -> None:
    """Its error is that of the command that follows."""
    if not future.cancelled():
        future.exception()
