"""All connections of one process to one Redis deployment: one server, one behind sentinels, or a Cluster.

Commands that do not wait share one connection a node (link.py); each blocking reader has its own. Callers
name the key a command is about, and the node that owns it gets the command. Called by the *_redis.py modules
and the composition roots.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, Self

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from gateway.kernel.errors import StoreError
from gateway.store.address import Host, Kind, StoreAddress, parse_redis_url
from gateway.store.calls import Arg, ReplyFuture, gather
from gateway.store.cluster import Cluster
from gateway.store.following import Follower
from gateway.store.keys import CLUSTER_BUCKETS
from gateway.store.link import RESP_VERSION, Link
from gateway.store.scripts import Script, with_hidden_keys

__all__ = ["Redis", "ServerInfo", "StoreAddress", "connect", "parse_redis_url"]

FLOOR = (6, 2)
_SOCKET_CONNECT_S = 3.0
_ASK_S = 2.0
"""For a sentinel, or a node asked for the slot map: one that hangs must leave time for the others."""


class ServerInfo(NamedTuple):
    version: str
    maxmemory_policy: str
    """Anything but `noeviction` may drop live turns."""

    @property
    def old(self) -> bool:
        return tuple(int(part) for part in self.version.split(".")[:2]) < FLOOR


class Redis:
    def __init__(
        self,
        address: StoreAddress,
        *,
        client_name: str = "lingma-gateway",
        command_timeout_s: float = 5.0,
        connect_wait_s: float = 1.0,
    ) -> None:
        self._address = address
        self._client_name = client_name
        self._command_timeout_s = command_timeout_s
        self._connect_wait_s = connect_wait_s
        self._sentinel: Sentinel | None = None
        self._pool: SentinelConnectionPool | None = None
        self._cluster: Cluster | None = None
        self._link: Link | None = None
        self.on_connect: list[Callable[[], None]] = []
        """Called whenever a shared connection has been made."""
        if address.kind == "cluster":
            self._cluster = Cluster(
                address.hosts,
                self._connection_kwargs(asked=True),
                self._node_link,
                connect_wait_s=connect_wait_s,
            )
            return
        if address.kind == "sentinel":
            self._sentinel = self._make_sentinel()
            self._pool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
                address.service, self._sentinel, ssl=address.tls, **self._connection_kwargs()
            )
        self._link = self._make_link(b"")
        self._link.on_connect.append(self._connected)
        self._link.start()

    @classmethod
    async def open(cls, url: str | StoreAddress, **options: Any) -> Self:
        """Begin to connect. A Redis that is down is no error here: see wait_connected().

        Raises ValueError for an address that names no Redis. The options are those of the constructor.
        """
        address = parse_redis_url(url) if isinstance(url, str) else url
        if address.kind == "memory":
            raise ValueError("memory:// is not a Redis: it is for one process only")
        return cls(address, **options)

    # ---- calling

    def call(self, key: bytes, *args: Arg, timeout_s: float | None = None) -> ReplyFuture:
        """Send a command to the node that owns `key`. See Link.call()."""
        if self._link is not None:
            return self._link.call(*args, timeout_s=timeout_s)
        assert self._cluster is not None
        return self._cluster.send(
            [key], lambda link, asking: link.call(*args, timeout_s=timeout_s, asking=asking)
        )

    def run(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[Arg],
        *,
        spare: int = 0,
        timeout_s: float | None = None,
    ) -> ReplyFuture:
        """Run a script on the node that owns its keys; all of them must be in one slot.

        spare: how many of the last keys the script can do without when their node is another for the moment.
        """
        if self._link is not None:
            return self._link.script(script, keys, args, timeout_s=timeout_s)
        assert self._cluster is not None
        named = len(keys) - spare

        def issue(link: Link, asking: bool, *, named: int = named) -> ReplyFuture:
            hidden = keys[named:]
            told = with_hidden_keys(script, len(hidden)) if hidden else script
            return link.script(told, keys[:named], [*hidden, *args], timeout_s=timeout_s, asking=asking)

        alone = functools.partial(issue, named=1) if named > 1 else None
        return self._cluster.send(keys[:named], issue, alone)

    def dedicated(self, key: bytes) -> Follower:
        """A connection of its own to the node that owns `key`, for commands that block. The caller closes it.

        On a Cluster it moves with the key: the call that finds it gone fails with StoreUnavailable.
        """
        return Follower(self._make_link(key), lambda host: self._asked_link(key, host))

    # ---- state

    @property
    def address(self) -> StoreAddress:
        return self._address

    @property
    def user(self) -> str:
        """Whose rights count there."""
        return self._address.username or "default"

    @property
    def kind(self) -> Kind:
        return self._address.kind

    @property
    def buckets(self) -> int:
        """Into how many slots turns are spread, for Keys."""
        return CLUSTER_BUCKETS if self._cluster else 1

    @property
    def one_slot(self) -> bool:
        """Whether one command may name any keys together."""
        return self._cluster is None

    @property
    def _side(self) -> Link | Cluster:
        return self._link or self._cluster  # type: ignore[return-value]  # one of them is there

    @property
    def healthy(self) -> bool:
        """Whether every shared connection is up."""
        return self._side.healthy

    @property
    def available(self) -> bool:
        """Whether calls are not refused at once: healthy, or on the way to it for the first time."""
        return self._side.available

    @property
    def lost_at(self) -> float | None:
        """Loop time of the oldest loss of a shared connection that has not been made again."""
        return min((at for link in self.links if (at := link.lost_at) is not None), default=None)

    @property
    def reconnects(self) -> int:
        return self._side.reconnects

    @property
    def links(self) -> list[Link]:
        """The shared connections, one a node."""
        return [self._link] if self._link is not None else self._cluster.links if self._cluster else []

    async def wait_connected(self, timeout_s: float) -> None:
        """Raises StoreUnavailable when it is not by then."""
        if self._cluster is not None:
            await self._cluster.wait_mapped(timeout_s)
        for link in self.links:
            await link.wait_connected(timeout_s)

    async def ping(self) -> float:
        """Seconds until every node had answered. Raises StoreUnavailable."""
        started = asyncio.get_running_loop().time()
        await self.wait_connected(self._connect_wait_s)
        await gather(link.call("PING") for link in self.links)
        return asyncio.get_running_loop().time() - started

    async def server_info(self) -> ServerInfo:
        """Raises StoreError when the server is older than FLOOR, StoreUnavailable when it does not answer."""
        await self.wait_connected(self._connect_wait_s)
        text: bytes = await self.links[0].call("INFO")
        fields = dict(
            line.split(":", 1) for line in text.decode(errors="replace").splitlines() if ":" in line
        )
        info = ServerInfo(fields.get("redis_version", "0"), fields.get("maxmemory_policy", ""))
        if info.old:
            floor = ".".join(map(str, FLOOR))
            raise StoreError(f"this needs Redis {floor} or newer, and the server says it is {info.version}")
        return info

    async def aclose(self) -> None:
        """Close the shared connections; those from dedicated() belong to their callers."""
        if self._link is not None:
            await self._link.aclose()
        if self._cluster is not None:
            await self._cluster.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()

    # ---- making connections

    def _make_link(self, key: bytes) -> Link:
        link = Link(
            lambda: self._make_connection(key),
            name=self._address.redacted(),
            command_timeout_s=self._command_timeout_s,
            connect_timeout_s=_SOCKET_CONNECT_S + _ASK_S * (len(self._address.hosts) or 1),
            connect_wait_s=self._connect_wait_s,
        )
        if self._cluster is not None:
            link.on_moved = self._cluster.refresh
        return link

    def _node_link(self, host: Host) -> Link:
        link = Link(
            lambda: self._connect_to(host),
            name=f"{host[0]}:{host[1]}",
            command_timeout_s=self._command_timeout_s,
            connect_wait_s=self._connect_wait_s,
        )
        link.on_connect.append(self._connected)
        return link

    def _asked_link(self, key: bytes, host: Host) -> Link:
        """To the node that the slot of the key is being moved to; without a name it is known by that of the
        other.
        """
        assert self._cluster is not None
        link = self._node_link((host[0] or self._cluster.owner(key)[0], host[1]))
        link.on_connect.clear()  # it is none of the shared ones
        link.on_moved = self._cluster.refresh
        return link

    def _connected(self) -> None:
        for hook in self.on_connect:
            hook()

    def _make_connection(self, key: bytes) -> AbstractConnection:
        if self._pool is not None:
            connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            return connection
        if self._cluster is not None:
            return self._connect_to(self._cluster.owner(key))
        if self._address.path:
            return UnixDomainSocketConnection(path=self._address.path, **self._connection_kwargs())
        return self._connect_to(self._address.hosts[0])

    def _connect_to(self, host: Host) -> AbstractConnection:
        kind = SSLConnection if self._address.tls else Connection
        return kind(host=host[0], port=host[1], **self._connection_kwargs())

    def _connection_kwargs(self, *, asked: bool = False) -> dict[str, Any]:
        """For redis-py. A link has its own watchdog and its own way to connect again."""
        address = self._address
        kwargs: dict[str, Any] = {
            "protocol": RESP_VERSION,
            "username": address.username,
            "password": address.password,
            "client_name": self._client_name,
            "socket_timeout": _ASK_S if asked else None,
            "socket_connect_timeout": _SOCKET_CONNECT_S,
            "retry": Retry(NoBackoff(), 0),
            **address.options,
        }
        if address.kind != "cluster":
            kwargs["db"] = address.db
        elif asked and address.tls:
            kwargs["connection_class"] = SSLConnection
        return kwargs

    def _make_sentinel(self) -> Sentinel:
        address = self._address
        return Sentinel(  # type: ignore[no-untyped-call]
            address.hosts,
            sentinel_kwargs={
                "protocol": RESP_VERSION,
                "username": address.sentinel_username,
                "password": address.sentinel_password,
                "socket_timeout": _ASK_S,
                "socket_connect_timeout": _ASK_S,
                "retry": Retry(NoBackoff(), 0),
                "ssl": address.tls,
                **address.options,
            },
        )


@contextlib.asynccontextmanager
async def connect(url: str | StoreAddress, **options: Any) -> AsyncIterator[Redis]:
    """Redis.open() for the length of a block."""
    redis = await Redis.open(url, **options)
    try:
        yield redis
    finally:
        await redis.aclose()
