"""A blocking connection and the one it is sent to, against loopback servers that play nodes of a Cluster."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.asyncio.connection import Connection

from gateway.kernel.errors import StoreRefused
from gateway.store.address import Host
from gateway.store.following import Follower
from gateway.store.link import Link
from tests.support.resp_server import Error, RespServer


def link_to(port: int) -> Link:
    return Link(lambda: Connection(host="127.0.0.1", port=port, protocol=2, socket_timeout=None))


@contextlib.asynccontextmanager
async def following(own: RespServer) -> AsyncIterator[tuple[Follower, list[Host]]]:
    """The connection, and the nodes it was sent to."""
    sent: list[Host] = []

    def make(host: Host) -> Link:
        sent.append(host)
        return link_to(host[1])

    follower = Follower(link_to(own.port), make)
    yield follower, sent
    await follower.aclose()


async def test_a_key_on_its_way_is_asked_for_where_it_goes_over_one_connection() -> None:
    async with (
        RespServer(lambda _: 1) as target,
        RespServer(lambda _: 0) as own,
        following(own) as (follower, sent),
    ):
        assert await follower.call("XREAD") == 0
        own.handler = lambda _: Error(f"ASK 12182 127.0.0.1:{target.port}")
        assert [await follower.call("XREAD"), await follower.call_packed(b"*1\r\n$5\r\nXREAD\r\n")] == [
            1,
            1,
        ]
        assert [command[0] for command in target.commands] == [b"ASKING", b"XREAD"] * 2
        assert (sent, target.connections) == ([("127.0.0.1", target.port)], 1)
        own.handler = lambda _: 0
        assert await follower.call("XREAD") == 0


async def test_another_target_gets_a_connection_of_its_own_and_the_first_is_closed() -> None:
    async with (
        RespServer(lambda _: 1) as first,
        RespServer(lambda _: 2) as second,
        RespServer(lambda _: 0) as own,
        following(own) as (follower, sent),
    ):
        for target in (first, second):
            own.handler = lambda _, port=target.port: Error(f"ASK 12182 127.0.0.1:{port}")  # type: ignore[misc]
            await follower.call("XREAD")
        assert [port for _, port in sent] == [first.port, second.port]
        assert await follower.call("XREAD") == 2
        assert first.named(b"XREAD") == [[b"XREAD"]]


async def test_other_refusals_are_the_callers() -> None:
    async with RespServer(lambda _: Error("NOGROUP No such key")) as own, following(own) as (follower, sent):
        with pytest.raises(StoreRefused, match="NOGROUP"):
            await follower.call("XREADGROUP")
        assert sent == []
