"""Against loopback servers that play the nodes of a Cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.kernel.errors import StoreRefused, StoreUnavailable
from gateway.store import cluster as module
from gateway.store.connect import Redis, connect
from gateway.store.keys import key_slot
from gateway.store.scripts import Script
from gateway.store.streams_redis import RedisStreams
from tests.support.ports import free_port
from tests.support.resp_server import Error, RespServer

LOW, HIGH = b"bar", b"foo"
"""Keys of the first and of the second node: slots 5061 and 12182."""


class Nodes:
    """Two nodes, the first half of the slots on the first."""

    def __init__(self) -> None:
        self.replies: dict[tuple[int, bytes], Any] = {}
        """(node, command) -> reply; by default the node's number."""
        self.split = 8192
        self.servers = [
            RespServer(lambda args: self._reply(0, args)),
            RespServer(lambda args: self._reply(1, args)),
        ]

    def _reply(self, node: int, args: list[bytes]) -> Any:
        if args[:2] == [b"CLUSTER", b"SLOTS"]:
            return self.slots()
        reply = self.replies.get((node, args[0]), node)
        return reply(args) if callable(reply) else reply

    def slots(self) -> list[Any]:
        first, second, *_ = (server.port for server in self.servers)
        ranges = []
        if self.split > 0:
            ranges.append([0, self.split - 1, [b"127.0.0.1", first, b"id0"]])
        if self.split < 16384:
            ranges.append([self.split, 16383, [b"127.0.0.1", second, b"id1"]])
        return ranges

    def moved_to(self, node: int, word: str = "MOVED") -> Error:
        return Error(f"{word} {key_slot(HIGH)} 127.0.0.1:{self.servers[node].port}")

    def asked(self, node: int, name: bytes) -> int:
        return len(self.servers[node].named(name))

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.servers[0].port},127.0.0.1:{self.servers[1].port}"


@contextlib.asynccontextmanager
async def cluster(**options: Any) -> AsyncIterator[tuple[Nodes, Redis]]:
    nodes = Nodes()
    async with nodes.servers[0], nodes.servers[1], connect(nodes.url, **options) as redis:
        yield nodes, redis


async def eventually(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def test_the_keys_are_on_different_nodes() -> None:
    assert key_slot(LOW) < 8192 <= key_slot(HIGH)


async def test_a_command_goes_to_the_node_that_owns_its_key() -> None:
    async with cluster() as (nodes, redis):
        assert await redis.call(LOW, "GET", LOW) == 0
        assert await redis.call(HIGH, "GET", HIGH) == 1
        assert await redis.run(Script("x", "return 1"), [HIGH], []) == 1
        assert (nodes.asked(0, b"GET"), nodes.asked(1, b"GET"), nodes.asked(1, b"EVAL")) == (1, 1, 1)


async def test_a_cluster_has_sixteen_buckets_and_pings_every_master() -> None:
    async with cluster() as (nodes, redis):
        assert (redis.kind, redis.buckets, redis.one_slot) == ("cluster", 16, False)
        await redis.ping()
        assert (nodes.asked(0, b"PING"), nodes.asked(1, b"PING")) == (1, 1)
        assert (redis.healthy, redis.available) == (True, True)


async def test_calls_before_the_map_is_read_wait_for_it_and_keep_their_order() -> None:
    async with cluster() as (nodes, redis):
        futures = [redis.call(LOW, "SET", LOW, str(i)) for i in range(5)]
        await asyncio.gather(*futures)
        assert [command[2] for command in nodes.servers[0].named(b"SET")] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_moved_key_is_followed_and_the_map_read_again() -> None:
    async with cluster() as (nodes, redis):
        await redis.ping()
        nodes.replies[1, b"GET"] = nodes.moved_to(0)
        nodes.split = 16384
        assert await redis.call(HIGH, "GET", HIGH) == 0
        assert (nodes.asked(1, b"GET"), nodes.asked(0, b"GET")) == (1, 1)
        await eventually(
            lambda: len(nodes.servers[0].named(b"CLUSTER") + nodes.servers[1].named(b"CLUSTER")) >= 2
        )
        assert await redis.call(HIGH, "GET", HIGH) == 0
        assert nodes.asked(1, b"GET") == 1


async def test_a_key_that_moves_in_circles_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HALF_MOVED_S", 0.0)
    async with cluster() as (nodes, redis):
        await redis.ping()
        nodes.replies[1, b"GET"] = nodes.moved_to(0)
        nodes.replies[0, b"GET"] = nodes.moved_to(1)
        with pytest.raises(StoreUnavailable, match="moving"):
            await redis.call(HIGH, "GET", HIGH)
        assert (nodes.asked(1, b"GET"), nodes.asked(0, b"GET")) == (2, 2)


async def test_nodes_that_disagree_for_a_moment_are_asked_again() -> None:
    async with cluster() as (nodes, redis):
        await redis.ping()
        nodes.replies[1, b"GET"] = nodes.moved_to(0)
        nodes.replies[0, b"GET"] = lambda _: 4 if nodes.asked(0, b"GET") > 3 else nodes.moved_to(1)
        assert await redis.call(HIGH, "GET", HIGH) == 4


async def test_a_key_on_its_way_is_asked_for_once_at_its_new_node() -> None:
    async with cluster() as (nodes, redis):
        await redis.ping()
        nodes.replies[1, b"SET"] = nodes.moved_to(0, "ASK")
        assert await redis.call(HIGH, "SET", HIGH, "v") == 0
        names = [command[0] for command in nodes.servers[0].commands if command[0] != b"CLUSTER"]
        assert names == [b"PING", b"ASKING", b"SET"]
        assert await redis.call(HIGH, "GET", HIGH) == 1


async def test_a_key_on_its_way_from_its_owner_whom_the_map_does_not_know_yet_is_found() -> None:
    async with cluster() as (nodes, redis):
        await redis.ping()
        asked = iter([nodes.moved_to(1, "ASK")])
        nodes.replies[0, b"GET"] = lambda _: next(asked)
        back = iter([nodes.moved_to(0), 7])
        nodes.replies[1, b"GET"] = lambda _: next(back)
        assert await redis.call(HIGH, "GET", HIGH) == 7


async def test_a_script_that_a_new_node_does_not_know_is_asked_for_again_in_full() -> None:
    """It was sent there before, in vain: what lets a command in counts for one command."""
    script = Script("x", "return 1")

    def knows_nothing(args: list[bytes]) -> Any:
        return Error("NOSCRIPT No matching script") if args[0] == b"EVALSHA" else 5

    async with cluster() as (nodes, redis):
        await redis.ping()
        nodes.replies[1, b"EVAL"] = nodes.replies[1, b"EVALSHA"] = nodes.moved_to(0, "ASK")
        nodes.replies[0, b"EVALSHA"] = knows_nothing
        await redis.run(script, [HIGH], [])
        await redis.run(script, [HIGH], [])
        names = [
            command[0] for command in nodes.servers[0].commands if command[0] not in (b"CLUSTER", b"PING")
        ]
        assert names == [b"ASKING", b"EVAL", b"ASKING", b"EVALSHA", b"ASKING", b"EVAL"]


@pytest.mark.parametrize("left_behind", [0, 1])
async def test_a_script_of_keys_that_are_nowhere_runs_where_they_will_be(left_behind: int) -> None:
    """Only when none of them is left where the slot comes from; else it waits until they are together."""
    keys = [HIGH, b"{foo}2"]
    together = False

    def exists(args: list[bytes]) -> Any:
        return 1 if left_behind and args[1] == HIGH else nodes.moved_to(0, "ASK")

    def run(args: list[bytes]) -> Any:
        nonlocal together
        if args[2] == b"1":
            return [*args[3:]]
        together = nodes.asked(1, b"EXISTS") >= 4
        return 9 if together else Error("TRYAGAIN Multiple keys request during rehashing of slot")

    async with cluster() as (nodes, redis):
        await redis.ping()
        nodes.replies[1, b"EVAL"] = nodes.replies[1, b"EVALSHA"] = nodes.moved_to(0, "ASK")
        nodes.replies[0, b"EVAL"] = nodes.replies[0, b"EVALSHA"] = run
        nodes.replies[1, b"EXISTS"] = exists
        reply = await redis.run(Script("x", "return 1"), keys, ["a"])
        assert reply == (9 if left_behind else [*keys, b"a"])
        assert together is bool(left_behind)


async def test_keys_that_may_be_missing_are_not_named() -> None:
    async with cluster() as (nodes, redis):
        await redis.ping()
        nodes.replies[1, b"EVAL"] = lambda args: args[2:]
        reply = await redis.run(Script("x", "return 1"), [HIGH, b"{foo}2", b"{foo}3"], ["a"], spare=1)
        assert reply == [b"2", HIGH, b"{foo}2", b"{foo}3", b"a"]


async def test_a_node_that_owns_nothing_yet_keeps_its_link() -> None:
    """It is on no map until its first slot is its own."""
    async with cluster() as (nodes, redis), RespServer(lambda _: 3) as new:
        await redis.ping()
        nodes.servers.append(new)
        nodes.replies[1, b"SET"] = nodes.moved_to(2, "ASK")
        assert await redis.call(HIGH, "SET", HIGH, "v") == 3
        assert redis._cluster is not None
        redis._cluster.refresh()
        before = len(nodes.servers[0].named(b"CLUSTER") + nodes.servers[1].named(b"CLUSTER"))
        await eventually(
            lambda: len(nodes.servers[0].named(b"CLUSTER") + nodes.servers[1].named(b"CLUSTER")) > before
        )
        assert await redis.call(HIGH, "SET", HIGH, "v") == 3
        assert new.connections == 1


async def test_other_errors_are_the_callers() -> None:
    async with cluster() as (nodes, redis):
        nodes.replies[1, b"GET"] = Error("WRONGTYPE no string")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await redis.call(HIGH, "GET", HIGH)
        nodes.replies[1, b"GET"] = Error("CLUSTERDOWN The cluster is down")
        with pytest.raises(StoreUnavailable, match="CLUSTERDOWN"):
            await redis.call(HIGH, "GET", HIGH)


async def test_a_node_that_fails_makes_the_map_be_read_again() -> None:
    async with cluster() as (nodes, redis):
        assert await redis.call(HIGH, "GET", HIGH) == 1
        await nodes.servers[1].close()
        nodes.split = 16384

        async def found() -> None:
            while True:
                with contextlib.suppress(StoreUnavailable):
                    assert await redis.call(HIGH, "GET", HIGH) == 0
                    return
                await asyncio.sleep(0.01)

        await asyncio.wait_for(found(), 5)
        await eventually(lambda: redis.healthy)


async def test_a_slot_nobody_owns_is_unavailable() -> None:
    async with cluster() as (nodes, redis):
        nodes.split = 8192
        nodes.slots = lambda: [[0, 8191, [b"127.0.0.1", nodes.servers[0].port, b"id0"]]]  # type: ignore[method-assign]
        assert await redis.call(LOW, "GET", LOW) == 0
        with pytest.raises(StoreUnavailable):
            await redis.call(HIGH, "GET", HIGH)


async def test_a_cluster_that_is_not_there_is_unavailable_within_the_wait() -> None:
    async with connect(f"redis+cluster://127.0.0.1:{free_port()}", connect_wait_s=0.2) as redis:
        async with asyncio.timeout(2):
            with pytest.raises(StoreUnavailable):
                await redis.call(LOW, "GET", LOW)
            with pytest.raises(StoreUnavailable):
                await redis.ping()
        assert not redis.healthy
        await eventually(lambda: not redis.available)


async def test_a_server_that_is_no_cluster_is_unavailable() -> None:
    async with (
        RespServer(lambda args: Error("ERR This instance has cluster support disabled")) as server,
        connect(f"redis+cluster://127.0.0.1:{server.port}", connect_wait_s=0.2) as redis,
    ):
        with pytest.raises(StoreUnavailable, match="slot map"):
            await redis.call(LOW, "GET", LOW)


async def test_a_dedicated_connection_moves_with_its_key() -> None:
    async with cluster() as (nodes, redis):
        await redis.ping()
        reader = redis.dedicated(HIGH)
        assert await reader.call("XREAD") == 1
        nodes.replies[1, b"XREAD"] = nodes.moved_to(0)
        nodes.split = 16384
        with pytest.raises(StoreUnavailable, match="moved"):
            await reader.call("XREAD")

        async def found() -> None:
            while True:
                with contextlib.suppress(StoreUnavailable):
                    assert await reader.call("XREAD") == 0
                    return
                await asyncio.sleep(0.01)

        await asyncio.wait_for(found(), 5)
        await reader.aclose()


async def test_streams_that_cannot_be_read_together_are_read_one_by_one() -> None:
    def xread(args: list[bytes]) -> Any:
        keys = args[args.index(b"STREAMS") + 1 :]
        if len(keys) > 2:
            return Error("TRYAGAIN Multiple keys request during rehashing of slot")
        return [[keys[0], [[b"1-1", [b"m", b"x"]]]]] if keys[0] == b"{foo}2" else None

    async with cluster() as (nodes, redis):
        await redis.ping()
        nodes.replies[1, b"XREAD"] = xread
        reader = RedisStreams(redis).reader(HIGH)
        found = await reader.read({HIGH: b"0", b"{foo}2": b"0"}, block_ms=2000, count=5)
        assert found == [(b"{foo}2", [(b"1-1", b"x")])]
        assert await reader.read({HIGH: b"0", b"{foo}3": b"0"}, block_ms=60, count=5) == []
        await reader.aclose()


async def test_closing_leaves_no_connection() -> None:
    nodes = Nodes()
    async with nodes.servers[0], nodes.servers[1]:
        async with connect(nodes.url) as redis:
            await redis.ping()
        await eventually(lambda: not any(server.open for server in nodes.servers))


async def test_a_command_whose_keys_are_just_being_moved_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = 0

    def moving(_: list[bytes]) -> Any:
        nonlocal tries
        tries += 1
        return Error("TRYAGAIN Multiple keys request during rehashing of slot") if tries < 3 else 7

    async with cluster() as (nodes, redis):
        nodes.replies[1, b"SET"] = moving
        assert await redis.call(HIGH, "SET", HIGH, "x") == 7
        assert tries == 3
        monkeypatch.setattr(module, "_HALF_MOVED_S", 0.0)
        tries = -100
        with pytest.raises(StoreUnavailable, match="TRYAGAIN"):
            await redis.call(HIGH, "SET", HIGH, "x")
