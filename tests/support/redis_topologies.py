"""Redis that is more than one server: a master with a replica and a sentinel, and a Cluster of three nodes.

Both are told to notice failures fast. A `Topology` also answers what the tests ask of a store: how many turns
are admitted and how many slots are taken, whichever server knows.
"""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.house import LEASES
from tests.support.ports import LAST, free_port
from tests.support.processes import wait_for
from tests.support.redis_server import RedisServer

SERVICE = "main"
DOWN_AFTER_MS = 500
NODE_TIMEOUT_MS = 1000
SLOTS = 16384
_BUS = 10_000

_SENTINEL = """\
port {port}
bind 127.0.0.1
dir {directory}
sentinel monitor {service} 127.0.0.1 {master} 1
sentinel down-after-milliseconds {service} {down_after}
sentinel failover-timeout {service} 5000
sentinel parallel-syncs {service} 1
"""


class Topology:
    """What is common: an address, and figures over all servers that hold keys."""

    url: str

    def masters(self) -> Sequence[RedisServer]:
        raise NotImplementedError

    def leases(self) -> int:
        """Turns that are admitted now."""
        return sum(_live(server, LEASES) for server in self.masters())

    def slots_used(self) -> int:
        """Live members of every slot set."""
        return sum(_live(server, "lg:v1:worker:*:slots:*") for server in self.masters())

    def idle(self) -> bool:
        return self.leases() == 0 and self.slots_used() == 0


def _live(server: RedisServer, pattern: str) -> int:
    now_s, micros = server.command("TIME")
    now_ms = int(now_s) * 1000 + int(micros) // 1000
    return sum(int(server.command("ZCOUNT", key, now_ms, "+inf")) for key in server.command("KEYS", pattern))


# -- sentinels --------------------------------------------------------------------------------------------


class Sentinel(RedisServer):
    """One alone: it decides by itself."""

    def __init__(self, master: RedisServer) -> None:
        super().__init__()
        self._master = master

    def _command(self, binary: str) -> list[str]:
        path = self._dir / "sentinel.conf"  # which it rewrites
        if not path.exists():
            text = _SENTINEL.format(
                port=self.port,
                directory=self._dir,
                service=SERVICE,
                master=self._master.port,
                down_after=DOWN_AFTER_MS,
            )
            path.write_text(text)
        return [binary, str(path), "--sentinel"]

    def master_port(self) -> int:
        """Of the server that it says is the master."""
        return int(_fields(self, "SENTINEL", "MASTER", SERVICE)[b"port"])

    def knows_the_replica(self) -> bool:
        found = _raw(self, "SENTINEL", "REPLICAS", SERVICE)
        replicas = [dict(zip(one[::2], one[1::2], strict=True)) for one in found]
        return [one[b"master-link-status"] for one in replicas] == [b"ok"]


def _raw(server: RedisServer, *arguments: str) -> Any:
    """The reply as it came: redis-py makes something else of many."""
    with server.client() as client:
        client.response_callbacks.clear()
        return client.execute_command(*arguments)  # type: ignore[no-untyped-call]


def _fields(server: RedisServer, *arguments: str) -> dict[bytes, bytes]:
    reply = _raw(server, *arguments)
    return dict(zip(reply[::2], reply[1::2], strict=True))


class Watched(Topology):
    """A master and its replica, watched by a sentinel."""

    def __init__(self, master: RedisServer, replica: RedisServer, sentinel: Sentinel) -> None:
        self.master = master
        self.replica = replica
        self.sentinel = sentinel
        self.url = f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}"

    def masters(self) -> Sequence[RedisServer]:
        port = self.sentinel.master_port()
        return [server for server in (self.master, self.replica) if server.port == port]

    def failed_over(self) -> bool:
        return self.sentinel.master_port() == self.replica.port and _raw(self.replica, "ROLE")[0] == b"master"


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """Yields when the replica has everything and the sentinel knows it."""
    quick = ("--repl-diskless-sync-delay", "0")
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(RedisServer(*quick))
        replica = stack.enter_context(RedisServer(*quick, "--replicaof", f"127.0.0.1 {master.port}"))
        wait_for(lambda: _raw(replica, "ROLE")[3] == b"connected", "the replica to follow")
        sentinel = stack.enter_context(Sentinel(master))
        wait_for(sentinel.knows_the_replica, "the sentinel to know the replica")
        yield Watched(master, replica, sentinel)


# -- a Cluster --------------------------------------------------------------------------------------------


class Node(RedisServer):
    """On a port whose neighbour 10,000 above is free, too: there the nodes speak to each other."""

    def __init__(self) -> None:
        super().__init__("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
        while not _free(self.port + _BUS):
            self.port = free_port()


def _free(port: int) -> bool:
    """For a listener, and below the ports that outgoing connections are given."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return port <= LAST
    return False


class Nodes(Topology):
    """A Cluster of masters, each with one part of the slots."""

    def __init__(self, nodes: Sequence[RedisServer]) -> None:
        self.nodes = nodes
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        self._ids = [bytes(_raw(node, "CLUSTER MYID")).decode() for node in nodes]

    def masters(self) -> Sequence[RedisServer]:
        return self.nodes

    def join(self) -> None:
        share = SLOTS // len(self.nodes) + 1
        for number, node in enumerate(self.nodes):
            slots = range(number * share, min(SLOTS, (number + 1) * share))
            node.command("CLUSTER ADDSLOTS", *slots)
            node.command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.nodes[0].command("CLUSTER MEET", "127.0.0.1", node.port)
        wait_for(self._complete, "every node to know all slots")

    def _complete(self) -> bool:
        infos = [bytes(_raw(node, "CLUSTER INFO")) for node in self.nodes]
        return all(b"cluster_state:ok" in info and b"cluster_size:3" in info for info in infos)

    def owner_of(self, slot: int) -> int:
        """The number of the node that serves it, in the eyes of the first."""
        return next(number for number, node in enumerate(self.nodes) if self._served(slot, 0) == [node.port])

    def agree_on(self, slot: int, owner: int) -> bool:
        """All nodes know who serves it."""
        return all(self._served(slot, by) == [self.nodes[owner].port] for by in range(len(self.nodes)))

    def _served(self, slot: int, by: int) -> list[int]:
        """The ports of those that serve it, as a node sees it."""
        ranges = _raw(self.nodes[by], "CLUSTER SLOTS")
        return [port for first, last, (_, port, *_), *_ in ranges if first <= slot <= last]

    def begin_to_move(self, slot: int, source: int, target: int) -> None:
        self.nodes[target].command("CLUSTER SETSLOT", slot, "IMPORTING", self._ids[source])
        self.nodes[source].command("CLUSTER SETSLOT", slot, "MIGRATING", self._ids[target])

    def move_keys(self, slot: int, source: int, target: int) -> int:
        """How many there were."""
        moved = 0
        here, there = self.nodes[source], self.nodes[target]
        while keys := _raw(here, "CLUSTER GETKEYSINSLOT", str(slot), "10"):
            here.command("MIGRATE", "127.0.0.1", there.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        return moved

    def end_move(self, slot: int, target: int) -> None:
        """The new owner first, as redis-cli does."""
        others = [node for number, node in enumerate(self.nodes) if number != target]
        for node in (self.nodes[target], *others):
            node.command("CLUSTER SETSLOT", slot, "NODE", self._ids[target])

    def move(self, slot: int, target: int) -> int:
        """A slot with all its keys, at once; how many keys there were."""
        source = self.owner_of(slot)
        self.begin_to_move(slot, source, target)
        moved = self.move_keys(slot, source, target)
        self.end_move(slot, target)
        return moved


@contextlib.contextmanager
def cluster() -> Iterator[Nodes]:
    """Of three nodes; yields when all of them serve."""
    with contextlib.ExitStack() as stack:
        nodes = Nodes([stack.enter_context(Node()) for _ in range(3)])
        nodes.join()
        yield nodes
