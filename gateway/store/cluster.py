"""Which node of a Redis Cluster owns a key, and what to do when it no longer does.

redis-py reads the slot map (in the background: at start, after a redirection, when a node fails). A command
that is redirected goes once to where it was sent; nothing else is sent twice. Called by connect.py only.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.exceptions import AskError, MovedError, RedisClusterException, RedisError

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

Issue = Callable[[Link], ReplyFuture]


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
        outer: ReplyFuture = asyncio.get_running_loop().create_future()
        if self._mapped.is_set() or self._down is not None:
            self._dispatch(outer, key, issue)
        else:
            self._tasks.spawn(self._dispatch_when_mapped(outer, key, issue))
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

    async def _dispatch_when_mapped(self, outer: ReplyFuture, key: bytes, issue: Issue) -> None:
        try:
            await self.wait_mapped(self._connect_wait_s)
        except StoreUnavailable as error:
            if not outer.done():
                outer.set_exception(error)
            return
        self._dispatch(outer, key, issue)

    def _dispatch(self, outer: ReplyFuture, key: bytes, issue: Issue) -> None:
        if outer.done():
            return
        try:
            host = self.owner(key)
        except StoreUnavailable as error:
            outer.set_exception(error)
            return
        self._attempt(outer, host, issue, redirected=False)

    def _attempt(self, outer: ReplyFuture, host: Host, issue: Issue, *, redirected: bool) -> None:
        def done(inner: ReplyFuture) -> None:
            self._settle(outer, inner, host, issue, redirected)

        issue(self._link(host)).add_done_callback(done)

    def _settle(
        self, outer: ReplyFuture, inner: ReplyFuture, host: Host, issue: Issue, redirected: bool
    ) -> None:
        if inner.cancelled():
            outer.cancel()
            return
        error = inner.exception()
        reply = error.__cause__ if isinstance(error, StoreRefused) else None
        if isinstance(reply, MovedError) or isinstance(error, StoreUnavailable):
            self.refresh()
        if outer.done():
            return
        if error is None:
            outer.set_result(inner.result())
        elif isinstance(reply, AskError) and not redirected:
            target = (reply.host or host[0], reply.port)
            if not isinstance(reply, MovedError):
                # Only the next command on that connection is let in; both leave in one write.
                self._link(target).call("ASKING").add_done_callback(_seen)
            self._attempt(outer, target, issue, redirected=True)
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
