"""On a real server: its own rules say what a user may do."""

import pytest

from gateway.kernel.errors import StoreUnavailable
from gateway.store.connect import connect
from gateway.store.rights import OUR_KEYS, REPLAY_KEYS, RIGHTS, Right, missing_rights, render_markdown
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

GRANTED = [f"+{right.command}" for right in RIGHTS]


def url_of(server: RedisServer, *rules: str) -> str:
    server.command("ACL", "SETUSER", "few", "reset", "on", ">secret", *rules)
    return f"redis://few:secret@127.0.0.1:{server.port}/0"


async def missing(server: RedisServer, *rules: str, replay: bool = False) -> list[str]:
    async with connect(url_of(server, *rules)) as redis:
        return await missing_rights(redis, replay=replay)


async def test_who_has_all_of_them_lacks_nothing(redis_server: RedisServer, redis_url: str) -> None:
    assert await missing(redis_server, OUR_KEYS, *GRANTED) == []
    assert await missing(redis_server, OUR_KEYS, REPLAY_KEYS, *GRANTED, replay=True) == []
    assert redis_server.command("DBSIZE") == 0, "looking has changed something"


@pytest.mark.parametrize("right", [right for right in RIGHTS if right.command != "client|setname"])
async def test_what_is_missing_is_named(right: Right, redis_server: RedisServer, redis_url: str) -> None:
    rules = [rule for rule in GRANTED if rule != f"+{right.command}"]
    assert await missing(redis_server, OUR_KEYS, *rules) == [f"+{right.command}"]


async def test_without_a_name_there_is_no_connection(redis_server: RedisServer, redis_url: str) -> None:
    """That right is needed before any other can be asked for."""
    rules = [rule for rule in GRANTED if rule != "+client|setname"]
    with pytest.raises(StoreUnavailable, match=r"NOPERM client\|setname"):
        await missing(redis_server, OUR_KEYS, *rules)


async def test_keys_that_are_forbidden_are_named(redis_server: RedisServer, redis_url: str) -> None:
    assert await missing(redis_server, *GRANTED) == [OUR_KEYS]
    assert await missing(redis_server, "%R~lg:*", *GRANTED) == [OUR_KEYS]
    assert await missing(redis_server, OUR_KEYS, *GRANTED, replay=True) == [REPLAY_KEYS]
    assert await missing(redis_server, OUR_KEYS, "%R~cpa:*", *GRANTED, replay=True) == [REPLAY_KEYS]


async def test_a_server_that_is_not_there_tells_nothing() -> None:
    async with connect(f"redis://127.0.0.1:{free_port()}/0", connect_wait_s=0.2) as redis:
        with pytest.raises(StoreUnavailable):
            await missing_rights(redis)


def test_every_command_of_a_script_is_asked_for() -> None:
    """In Lua the commands stand in one form."""
    import re
    from pathlib import Path

    import gateway.store.rights as module

    scripts = (Path(module.__file__).parent / "lua").glob("*.lua")
    used = {word.lower() for path in scripts for word in re.findall(r"p?call\('([A-Z]+)'", path.read_text())}
    assert used
    assert used - {right.command for right in RIGHTS} == set()


def test_operators_are_shown_all_of_them() -> None:
    page = render_markdown()
    assert all(f" {rule}" in page or f"\n{rule}" in page for rule in (OUR_KEYS, REPLAY_KEYS, *GRANTED))
