import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError

from gateway.kernel.errors import StoreError, StoreRefused, StoreUnavailable
from gateway.store.link import Link
from gateway.store.refusals import is_about_a_command, refusal, word_in
from gateway.store.scripts import Script
from tests.support.resp_server import Error, RespServer

SHA = "f_6b1bf486c81ceb7edf3c093f4c48582e38c0e791"
OLD_DENIED = f"ERR Error running script (call to {SHA}): @user_script:3: @user_script: 3: -%s  "
"""How 6.2 says that it refuses a command because of its own state."""
OLD_REPLIED = f"ERR Error running script (call to {SHA}): @user_script:3: %s "
"""How 6.2 passes on what a command inside a script answered."""
OOM = "OOM command not allowed when used memory > 'maxmemory'."
READONLY = "READONLY You can't write against a read only replica."
MISCONF = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@contextlib.asynccontextmanager
async def link_to_server_that_says(text: str) -> AsyncIterator[Link]:
    async with RespServer(lambda args: Error(text)) as server:
        link = Link(lambda: Connection(host="127.0.0.1", port=server.port, protocol=2, socket_timeout=None))
        try:
            yield link
        finally:
            await link.aclose()


@pytest.mark.parametrize("said", [OOM, READONLY, MISCONF])
@pytest.mark.parametrize("form", ["%s", "%s script: 6b1bf486, on @user_script:3.", OLD_DENIED, OLD_REPLIED])
async def test_a_server_that_cannot_work_is_unavailable_in_a_script_too(form: str, said: str) -> None:
    async with link_to_server_that_says(form % said) as link:
        with pytest.raises(StoreUnavailable, match=said.split()[0]) as refused:
            await link.script(Script("write", "return 1"), ["k"], [])
        assert refused.value.code is None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("NOPERM this user has no permissions to run the 'xgroup|create' command", "NOPERM xgroup|create"),
        ("NOPERM User lingma has no permissions to run the 'xadd' command", "NOPERM xadd"),
        ("NOPERM this user has no permissions to run the 'xadd' command or its subcommand", "NOPERM xadd"),
        ("NOPERM No permissions to access a key", "NOPERM"),
        ("ERR The user executing the script can't run this command or subcommand script: 6b1b", "NOPERM"),
        (
            "ERR ACL failure in script: User u has no permissions to run the 'zadd' command script: 6b1b, on",
            "NOPERM zadd",
        ),
        (OLD_REPLIED % "The user executing the script can't run this command or subcommand", "NOPERM"),
    ],
)
async def test_rights_that_are_missing_may_be_given(said: str, told: str) -> None:
    """They are the administrator's, as the server's state is; the command is named where the server does."""
    async with link_to_server_that_says(said) as link:
        with pytest.raises(StoreUnavailable) as refused:
            await link.call("GET", "k")
        assert str(refused.value) == f"the store refuses commands ({told})"
        assert word_in(refused.value) == "NOPERM"
        assert is_about_a_command(refused.value) is (" " in told)


def test_an_error_without_a_reply_has_no_word() -> None:
    assert word_in(StoreUnavailable("the connection to the store was lost")) == ""


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (WRONGTYPE, "WRONGTYPE"),
        (f"{WRONGTYPE} script: 6b1bf486, on @user_script:3.", "WRONGTYPE"),
        (OLD_REPLIED % WRONGTYPE, "WRONGTYPE"),
        ("ERR unknown command 'x', with args beginning with: 'secret'", "ERR"),
        ("ERR user_script:2: attempt to compare nil with number script: 6b1bf486", "ERR"),
        (f"ERR Error running script (call to {SHA}): @user_script:2: attempt to index secret ", "ERR"),
        ("MOVED 5061 127.0.0.1:6379", "MOVED"),
    ],
)
async def test_other_refusals_are_store_errors_that_name_the_word_only(said: str, word: str) -> None:
    async with link_to_server_that_says(said) as link:
        with pytest.raises(StoreError) as refused:
            await link.call("GET", "k")
        assert isinstance(refused.value, StoreRefused)
        assert refused.value.word == word
        assert str(refused.value) == f"the store refused a command ({word})"
        assert refused.value.code is None
        assert isinstance(refused.value.__cause__, ResponseError)


def test_an_argument_that_the_server_repeats_is_no_word() -> None:
    assert str(refusal(ResponseError("oops: the prompt OOM"))) == "the store refused a command (ERR)"
    assert str(refusal(ResponseError("ERR no -OOM @user_script: 3: -OOM x", status_code="ERR"))) == (
        "the store refused a command (ERR)"
    )
