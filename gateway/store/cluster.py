"""Which node of a Redis Cluster owns a key, and what to do when it no longer does.

redis-py reads the slot map (in the background: at start, after a redirection, when a node fails). A command
that is redirected goes to where it was sent, and one whose keys are just being moved is tried again until
they are all on one node; nothing else is sent twice. A script whose keys are on neither node runs at the one
that the slot is being moved to: there they will be. Called by connect.py only.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.exceptions import AskError, MovedError, RedisClusterException, RedisError, TryAgainError

from gateway.kernel.aio import Tasks, supervise
from gateway.kernel.errors import StoreRefused, StoreUnavailable
from gateway.store.address import Host
from gateway.store.calls import ReplyFuture
from gateway.store.keys import key_slot
from gateway.store.link import Link

log = logging.getLogger(__name__)

_REFRESH_S = 5.0
"""The time a reading of the slot map may take."""
_REFRESH_PAUSE_S = 0.5
"""Between two readings, so that a storm of redirections asks once."""
_REFRESH_PAUSE_MAX_S = 2.0
"""The same while it cannot be read."""

_HALF_MOVED_S = 3.0
"""How long a command is tried again while its keys are on either of two nodes, or nodes disagree."""
_TRY_AGAIN_S = 0.05
_TRY_AGAIN_MAX_S = 0.4
_MAX_HOPS = 3
"""Redirections of one command: to the owner, from there on to where its key is being moved, and one more."""
_KEEP_ASKED_S = 60.0
"""How long there is a link to a node that owns no slot yet, after the last command that was sent there."""

Issue = Callable[[Link, bool], ReplyFuture]
"""Send a command over a link; True when the node does not own its key yet."""


class _Sent(NamedTuple):
    """A command on its way."""

    outer: ReplyFuture
    keys: Sequence[bytes]
    issue: Issue
    alone: Issue | None
    """The same for a node that must not be told of more keys than the first."""
    until: float
    """Loop time up to which a node may ask for it to be tried again: it has then done nothing."""
    pause_s: float = _TRY_AGAIN_S
    hops: int = 0


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
        self._asked_at: dict[Host, float] = {}
        """Loop time at which a command was last sent to a node that does not own its key yet."""
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

    def send(self, keys: Sequence[bytes], issue: Issue, alone: Issue | None = None) -> ReplyFuture:
        """Issue a command on the link of the node that owns its keys, which are in one slot."""
        loop = asyncio.get_running_loop()
        outer: ReplyFuture = loop.create_future()
        sent = _Sent(outer, keys, issue, alone, loop.time() + _HALF_MOVED_S)
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
            host = self.owner(sent.keys[0])
        except StoreUnavailable as error:
            sent.outer.set_exception(error)
            return
        self._attempt(sent, host)

    def _attempt(self, sent: _Sent, host: Host, *, asking: bool = False) -> None:
        def done(inner: ReplyFuture) -> None:
            self._settle(sent, inner, host)

        if asking:
            self._asked_at[host] = asyncio.get_running_loop().time()
        sent.issue(self._link(host), asking).add_done_callback(done)

    def _settle(self, sent: _Sent, inner: ReplyFuture, host: Host) -> None:
        outer = sent.outer
        if inner.cancelled():
            outer.cancel()
            return
        error = inner.exception()
        reply = error.__cause__ if isinstance(error, StoreRefused | StoreUnavailable) else None
        split, redirected = isinstance(reply, TryAgainError), isinstance(reply, AskError)
        if isinstance(reply, MovedError) or (isinstance(error, StoreUnavailable) and not split):
            self.refresh()
        if outer.done():
            return
        if error is None:
            outer.set_result(inner.result())
        elif isinstance(reply, AskError) and sent.hops < _MAX_HOPS:
            target = (reply.host or host[0], reply.port)
            hopped = sent._replace(hops=sent.hops + 1)
            self._attempt(hopped, target, asking=not isinstance(reply, MovedError))
        elif (split or redirected) and asyncio.get_running_loop().time() < sent.until:
            self._tasks.spawn(self._try_again(sent, split=split))
        elif redirected:
            outer.set_exception(StoreUnavailable("the store keeps moving this key"))
        else:
            outer.set_exception(error)

    async def _try_again(self, sent: _Sent, *, split: bool) -> None:
        """split: a node lacks some of the keys, which may be because they do not exist. Else nodes send each
        other's way: at the end of a move they do not learn of it at the same time.
        """
        target = await self._target_of_all(sent.keys) if split and sent.alone is not None else None
        if sent.alone is not None and target is not None:
            self._attempt(sent._replace(issue=sent.alone), target, asking=True)
            return
        await asyncio.sleep(sent.pause_s)
        self._dispatch(sent._replace(hops=0, pause_s=min(2 * sent.pause_s, _TRY_AGAIN_MAX_S)))

    async def _target_of_all(self, keys: Sequence[bytes]) -> Host | None:
        """The node that the slot is being moved to, when none of the keys is left where it comes from: what
        has gone from there, or never was, does not come back.
        """
        targets: set[Host | None] = set()
        try:
            source = self.owner(keys[0])
            link = self._link(source)
            replies = await asyncio.gather(
                *(link.call("EXISTS", key) for key in keys), return_exceptions=True
            )
        except StoreUnavailable:
            return None
        for reply in replies:
            cause = reply.__cause__ if isinstance(reply, StoreRefused) else None
            if isinstance(cause, AskError) and not isinstance(cause, MovedError):
                targets.add((cause.host or source[0], cause.port))
            else:
                targets.add(None)
        return targets.pop() if len(targets) == 1 else None

    def _link(self, host: Host) -> Link:
        link = self._links.get(host)
        if link is None:
            link = self._links[host] = self._make_link(host)
        return link

    async def _keep_map(self) -> None:
        """Read it whenever it may be stale; what keeps it from being read is told once."""
        pause, told = _REFRESH_PAUSE_S, ""
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                async with asyncio.timeout(_REFRESH_S):
                    await self._nodes.initialize()
            except (RedisClusterException, RedisError, OSError) as error:
                self._stale.set()
                why = f"{type(error).__name__}: {error}"
                if told != why:
                    told = why
                    log.warning("cluster.map_failed", extra={"error": why})
                if not self._mapped.is_set():
                    self._down = "the store does not tell its slot map"
                pause = min(2 * pause, _REFRESH_PAUSE_MAX_S)
            else:
                pause, told = _REFRESH_PAUSE_S, ""
                self._down = None
                self._mapped.set()
                await self._match_links()
            await asyncio.sleep(pause)

    async def _match_links(self) -> None:
        """A link to each master; none to nodes that have left or are replicas now. A node that is only
        about to own slots is not on the map yet.
        """
        masters = {(node.host, int(node.port)) for node in self._nodes.get_nodes_by_server_type("primary")}
        for host in masters:
            self._link(host).start()
        since = asyncio.get_running_loop().time() - _KEEP_ASKED_S
        self._asked_at = {host: at for host, at in self._asked_at.items() if at > since}
        for host in self._links.keys() - masters - self._asked_at.keys():
            await self._links.pop(host).aclose()
