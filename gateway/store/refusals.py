"""What an error reply of Redis means: the server cannot work now, or it will not do this command.

Nothing above this package sees an exception of redis-py. The reply itself stays as the cause of ours, for the
modules that act on it: cluster.py follows redirections, streams_redis.py makes groups, kv_redis.py asks for
commands that a server may not know. Called by link.py for each error reply.
"""

import re

from redis.exceptions import ResponseError, TryAgainError

from gateway.kernel.errors import StoreError, StoreRefused, StoreUnavailable

NOPERM = "NOPERM"
_OPERATIONAL = frozenset(
    {"LOADING", "OOM", "MISCONF", "NOREPLICAS", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"}
    | {NOPERM}
)
"""Words that tell of the server's state, or of our rights there, not of the command: it may work later."""

_FORBIDDEN_IN_SCRIPT = ("The user executing the script can't", "ACL failure in script")
"""What a script is told, up to Redis 7.0 and since."""
_FORBIDDEN_COMMAND = re.compile(r"to run the '([a-z|]+)' command")
_WORD = re.compile(r"[A-Z][A-Z0-9]*")
_SCRIPT_FAILED = "Error running script"
_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -?([A-Z][A-Z0-9]*) ")
"""Until Redis 7 what a command inside a script was refused with comes after the script's name and line."""


def word_of(error: ResponseError) -> str:
    """ERR when there is no other; never anything that the server repeats of a command."""
    text = str(error)
    if any(phrase in text for phrase in _FORBIDDEN_IN_SCRIPT):
        return NOPERM
    if _SCRIPT_FAILED in text and (inner := _IN_SCRIPT.search(text)):
        return inner[1]
    word: str = error.status_code or text.partition(" ")[0]
    return word if _WORD.fullmatch(word) else "ERR"


def refusal(error: ResponseError) -> StoreRefused | StoreUnavailable:
    """What callers get instead."""
    word = word_of(error)
    ours = (
        StoreUnavailable(f"the store refuses commands ({_told(word, error)})")
        if word in _OPERATIONAL
        else StoreRefused(word)
    )
    ours.__cause__ = error
    return ours


def _told(word: str, error: ResponseError) -> str:
    """With the command that the user has no right to, where the server says which."""
    named = _FORBIDDEN_COMMAND.search(str(error)) if word == NOPERM else None
    return f"{word} {named[1]}" if named else word


def word_in(error: StoreError) -> str:
    """Of the server's reply that is behind it; empty when the server did not reply."""
    return word_of(error.__cause__) if isinstance(error.__cause__, ResponseError) else ""


def is_about_a_command(error: StoreError) -> bool:
    """Of an error that is about our rights: the command itself is forbidden, not the key it names."""
    return _FORBIDDEN_COMMAND.search(str(error.__cause__)) is not None


def is_half_moved(error: StoreError) -> bool:
    """A node of a Cluster has only some of the keys, and has done nothing."""
    return isinstance(error.__cause__, TryAgainError)
