import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from redis.asyncio.connection import Connection

from gateway.kernel.errors import StoreRefused, StoreUnavailable
from gateway.store.calls import ReplyFuture, gather
from gateway.store.link import Link
from gateway.store.scripts import Script
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.resp_server import Error, Hang, HangUp, RespServer

ECHO = Script("echo", "return ARGV[1]")


class Recorded(Connection):
    """Notes what leaves in each write."""

    writes: list[int]

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if isinstance(command, list) and not check_health:
            self.writes.append(len(command))
        await super().send_packed_command(command, check_health)


def connection(port: int, **options: Any) -> Connection:
    return Connection(
        host="127.0.0.1", port=port, protocol=2, socket_timeout=None, driver_info=None, **options
    )


@contextlib.asynccontextmanager
async def link_to(port: int, **options: Any) -> AsyncIterator[Link]:
    link = Link(lambda: connection(port), **options)
    try:
        yield link
    finally:
        await link.aclose()


async def eventually(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.002)


async def answers(link: Link, *, within_s: float = 5.0) -> None:
    """Until the link answers, as callers do that try again."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                await link.call("PING")
            except StoreUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


# ---- pipelining


async def test_what_one_turn_of_the_loop_issues_leaves_in_one_write(
    redis_server: RedisServer, redis_url: str
) -> None:
    writes: list[int] = []

    def make() -> Connection:
        made = Recorded(host="127.0.0.1", port=redis_server.port, protocol=2, socket_timeout=None)
        made.writes = writes
        return made

    link = Link(make)
    await link.call("PING")
    writes.clear()
    futures = [link.call("ECHO", b"%d" % i) for i in range(100)]
    assert await gather(futures) == [b"%d" % i for i in range(100)]
    assert writes == [100]
    await link.aclose()


async def test_replies_are_matched_in_order_across_tasks(redis_server: RedisServer, redis_url: str) -> None:
    async with link_to(redis_server.port) as link:

        async def echo(name: int) -> None:
            for i in range(50):
                assert await link.call("ECHO", f"{name}-{i}") == f"{name}-{i}".encode()

        async with asyncio.TaskGroup() as group:
            for name in range(20):
                group.create_task(echo(name))
        assert link.pending == 0


async def test_arguments_of_every_kind_and_large_binary_values(
    redis_server: RedisServer, redis_url: str
) -> None:
    big = bytes(range(256)) * 8192
    async with link_to(redis_server.port) as link:
        assert await link.call(b"SET", "k", big) == b"OK"
        assert await link.call("GET", b"k") == big
        assert await link.call("INCRBYFLOAT", "f", 1.5) == b"1.5"
        assert await link.call("INCRBY", "i", -3) == -3
        assert await link.call("MGET", "k2", "i") == [None, b"-3"]


async def test_an_error_reply_fails_only_its_own_call(redis_server: RedisServer, redis_url: str) -> None:
    async with link_to(redis_server.port) as link:
        bad = link.call("NOSUCHCOMMAND")
        group = link.call("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">")
        good = link.call("PING")
        with pytest.raises(StoreRefused, match="ERR"):
            await bad
        with pytest.raises(StoreRefused, match="NOGROUP"):
            await group
        assert await good == b"PONG"
        assert link.reconnects == 0


async def test_a_call_given_up_before_it_left_is_not_sent() -> None:
    async with RespServer(lambda args: "OK") as server, link_to(server.port) as link:
        await link.call("PING")
        given_up = link.call("INCR", "k")
        given_up.cancel()
        await link.call("PING")
        assert server.named(b"INCR") == []
        assert link.pending == 0


async def test_a_call_given_up_later_does_not_shift_the_replies(
    redis_server: RedisServer, redis_url: str
) -> None:
    async with link_to(redis_server.port) as link:
        await link.call("PING")
        first, second = link.call("ECHO", "a"), link.call("ECHO", "b")
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"b"


# ---- scripts


async def test_a_script_is_sent_in_full_once_and_by_hash_from_then_on() -> None:
    async with RespServer(lambda args: args[-1]) as server, link_to(server.port) as link:
        first, second = link.script(ECHO, ["k"], ["a"]), link.script(ECHO, ["k"], ["b"])
        assert await gather([first, second]) == [b"a", b"b"]
        await link.script(ECHO, ["k"], ["c"])
        sha1, text = ECHO.sha1.encode(), ECHO.text.encode()
        assert server.commands == [
            [b"EVAL", text, b"1", b"k", b"a"],
            [b"EVALSHA", sha1, b"1", b"k", b"b"],
            [b"EVALSHA", sha1, b"1", b"k", b"c"],
        ]


async def test_a_script_the_server_has_forgotten_is_sent_in_full_again(
    redis_server: RedisServer, redis_url: str
) -> None:
    async with link_to(redis_server.port) as link:
        assert await link.script(ECHO, [], ["a"]) == b"a"
        await link.call("SCRIPT", "FLUSH")
        assert await gather([link.script(ECHO, [], ["b"]), link.script(ECHO, [], ["c"])]) == [b"b", b"c"]


async def test_a_new_connection_is_sent_the_script_in_full() -> None:
    async with RespServer(lambda args: args[-1]) as server, link_to(server.port) as link:
        await link.script(ECHO, [], ["a"])
        server.cut()
        await eventually(lambda: link.reconnects == 1)
        await link.script(ECHO, [], ["b"])
        assert [command[0] for command in server.commands] == [b"EVAL", b"EVAL"]


async def test_a_server_that_keeps_forgetting_is_an_error_and_no_loop() -> None:
    async with (
        RespServer(lambda args: Error("NOSCRIPT No matching script")) as server,
        link_to(server.port) as link,
    ):
        with pytest.raises(StoreRefused, match="NOSCRIPT"):
            await link.script(ECHO, [], [])
        with pytest.raises(StoreRefused, match="NOSCRIPT"):
            await link.script(ECHO, [], [])
        assert len(server.commands) == 3


def test_a_script_is_loaded_by_its_name_and_hashed_as_redis_does() -> None:
    script = Script("cas")
    assert script.text.startswith("-- ")
    assert Script("x", "return 1").sha1 == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"


# ---- outages


async def test_an_outage_fails_what_is_pending_then_everything_at_once_until_it_is_over() -> None:
    connects = 0

    def count() -> None:
        nonlocal connects
        connects += 1

    with RedisServer() as server:
        async with link_to(server.port) as link:
            link.on_connect.append(count)
            await link.call("SET", "k", "v")
            pending = link.call("BLPOP", "list", 0, timeout_s=60)
            await eventually(lambda: server.client_count() == 1)
            server.kill()
            with pytest.raises(StoreUnavailable):
                await pending
            await eventually(lambda: not link.healthy)
            loop = asyncio.get_running_loop()
            await fails_at_once(link)
            started = loop.time()
            await fails_at_once(link)
            assert loop.time() - started < 0.2
            server.start()
            await answers(link)
            assert (link.healthy, link.available) == (True, True)
            assert link.reconnects == 1
            assert connects == 2
            assert await link.call("GET", "k") is None


async def fails_at_once(link: Link) -> None:
    """Once a first attempt to connect has failed."""
    with pytest.raises(StoreUnavailable):
        await link.call("PING")


async def test_one_lost_connection_is_made_again_without_a_failed_call(
    redis_server: RedisServer, redis_url: str
) -> None:
    async with link_to(redis_server.port) as link:
        await link.call("PING")
        redis_server.command("CLIENT", "KILL", "TYPE", "normal")
        await eventually(lambda: link.reconnects == 1 or not link.healthy)
        assert await link.call("PING") == b"PONG"


async def test_a_server_that_is_not_there_is_unavailable_within_the_wait() -> None:
    async with link_to(free_port()) as link:
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(0.9):
                await link.call("PING")
        assert not link.healthy


async def test_a_server_that_only_accepts_fails_calls_after_the_wait_and_later_ones_at_once() -> None:
    async with RespServer(lambda args: "OK") as server:
        server.silent = True
        link = Link(lambda: connection(server.port, db=1), connect_wait_s=0.1, connect_timeout_s=60)
        first = link.call("PING")
        await asyncio.sleep(0)
        second = link.call("PING")
        with pytest.raises(StoreUnavailable):
            await first
        assert second.done()
        with pytest.raises(StoreUnavailable):
            await second
        assert not link.available
        third = link.call("PING")
        assert third.done()
        with pytest.raises(StoreUnavailable):
            third.result()
        await link.aclose()


async def test_calls_made_while_connecting_are_sent_in_order_once_it_is_done() -> None:
    async with RespServer(lambda args: args[1]) as server, link_to(server.port) as link:
        assert (link.healthy, link.available) == (False, True)
        futures = [link.call("ECHO", str(i)) for i in range(10)]
        assert await gather(futures) == [b"%d" % i for i in range(10)]


async def test_a_connection_that_hangs_is_given_up_when_a_reply_is_overdue() -> None:
    with RedisServer() as server:
        async with link_to(server.port, command_timeout_s=0.3) as link:
            await link.call("PING")
            server.pause()
            with pytest.raises(StoreUnavailable):
                async with asyncio.timeout(3):
                    await link.call("PING")
            server.resume()
            await answers(link)
            assert link.reconnects >= 1


async def test_a_blocking_command_may_take_its_own_time(redis_server: RedisServer, redis_url: str) -> None:
    async with link_to(redis_server.port, command_timeout_s=0.1) as link:
        assert await link.call("BLPOP", "none", 0.5, timeout_s=3) is None
        assert link.reconnects == 0


async def test_a_reply_to_no_command_costs_the_connection() -> None:
    async with RespServer(lambda args: "OK") as server, link_to(server.port) as link:
        await link.call("PING")
        server.push(b"+WHAT\r\n")
        await eventually(lambda: link.reconnects == 1)
        assert await link.call("PING") == b"OK"


async def test_what_is_no_resp_costs_the_connection() -> None:
    async with RespServer(lambda args: Hang()) as server, link_to(server.port) as link:
        pending = link.call("PING")
        await eventually(lambda: server.commands != [])
        server.push(b"HTTP/1.1 400 Bad Request\r\n")
        with pytest.raises(StoreUnavailable):
            await pending


async def test_a_server_that_always_hangs_up_is_not_hammered() -> None:
    async with RespServer(lambda args: HangUp()) as server, link_to(server.port) as link:
        for _ in range(20):
            with contextlib.suppress(StoreUnavailable):
                await link.call("PING")
        assert server.connections <= 4


async def test_a_hook_that_fails_costs_the_connection_and_not_the_link() -> None:
    async with RespServer(lambda args: "OK") as server, link_to(server.port) as link:

        def fail() -> None:
            link.on_connect.clear()
            raise LookupError("a defect")

        link.on_connect.append(fail)
        with pytest.raises(StoreUnavailable):
            await link.call("PING")
        await answers(link)
        assert server.connections == 2


# ---- refusals that tell of the server's state


@pytest.mark.parametrize(
    "refusal", ["OOM command not allowed", "MISCONF cannot persist", "NOREPLICAS few", "TRYAGAIN"]
)
async def test_a_server_that_cannot_now_is_unavailable(refusal: str) -> None:
    async with RespServer(lambda args: Error(refusal)) as server, link_to(server.port) as link:
        with pytest.raises(StoreUnavailable, match=refusal.split()[0]):
            await link.call("SET", "k", "v")
        assert link.healthy


async def test_a_server_that_is_loading_is_unavailable() -> None:
    async with (
        RespServer(lambda args: Error("LOADING dataset in memory")) as server,
        link_to(server.port) as link,
    ):
        with pytest.raises(StoreUnavailable):
            await link.call("SET", "k", "v")


async def test_a_master_that_has_become_a_replica_is_left() -> None:
    async with (
        RespServer(lambda args: Error("READONLY You can't write")) as server,
        link_to(server.port) as link,
    ):
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await link.call("SET", "k", "v")
        await eventually(lambda: link.reconnects == 1)


async def test_a_link_that_follows_a_key_connects_anew_when_it_has_moved() -> None:
    told: list[None] = []
    async with (
        RespServer(lambda args: Error("MOVED 12182 127.0.0.1:1")) as server,
        link_to(server.port) as link,
    ):
        link.on_moved = lambda: told.append(None)
        with pytest.raises(StoreUnavailable, match="moved"):
            await link.call("GET", "foo")
        await eventually(lambda: link.reconnects == 1)
        assert told == [None]


# ---- bounds


async def test_the_number_of_pending_commands_is_bounded() -> None:
    async with RespServer(lambda args: Hang()) as server, link_to(server.port, max_pending=10) as link:
        futures = [link.call("GET", "k") for _ in range(11)]
        with pytest.raises(StoreUnavailable, match="too many"):
            await futures[-1]
        assert not any(future.done() for future in futures[:-1])
        assert link.pending == 10
        abandon(futures)


async def test_the_bytes_of_pending_commands_are_bounded_but_one_large_command_passes() -> None:
    async with RespServer(lambda args: "OK") as server, link_to(server.port, max_pending_bytes=1000) as link:
        large = link.call("SET", "k", b"x" * 5000)
        refused = link.call("SET", "k", b"x")
        with pytest.raises(StoreUnavailable, match="too many"):
            await refused
        assert await large == b"OK"
        for _ in range(100):  # what has been answered no longer counts
            assert await link.call("SET", "k", b"x" * 500) == b"OK"


def abandon(futures: Iterable[ReplyFuture]) -> None:
    """Their errors are of no interest."""
    for future in futures:
        future.cancel()


# ---- the end


async def test_closing_sends_what_is_queued_and_fails_what_has_no_reply() -> None:
    async with RespServer(lambda args: Hang()) as server:
        link = Link(lambda: connection(server.port))
        await link.wait_connected(2)
        pending = link.call("DEL", "k")
        await link.aclose()
        with pytest.raises(StoreUnavailable, match="closed"):
            await pending
        await eventually(lambda: server.named(b"DEL") != [])
        with pytest.raises(StoreUnavailable, match="closed"):
            await link.call("PING")
        assert not link.healthy
        await link.aclose()


async def test_a_closed_link_leaves_no_connection_behind() -> None:
    with RedisServer() as server:
        async with link_to(server.port) as link:
            await link.call("PING")
            assert server.client_count() == 1
        await eventually(lambda: server.client_count() == 0)


async def test_a_link_that_was_never_used_closes_too() -> None:
    link = Link(lambda: connection(free_port()))
    await link.aclose()
    with pytest.raises(StoreUnavailable):
        await link.call("PING")


async def test_waiting_for_a_connection_has_an_end() -> None:
    async with link_to(free_port()) as link:
        with pytest.raises(StoreUnavailable):
            await link.wait_connected(0.2)


async def test_neither_errors_nor_logs_say_where_the_store_is_to_clients_or_what_was_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with RespServer(lambda args: HangUp()) as server, link_to(server.port) as link:
        with pytest.raises(StoreUnavailable) as failure:
            await link.call("SET", "secret-key", "secret-value")
        assert str(server.port) not in str(failure.value)
    logged = " ".join(f"{record.message} {vars(record)}" for record in caplog.records)
    assert "link.lost" in logged
    assert "secret" not in logged
