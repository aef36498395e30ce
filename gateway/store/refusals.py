"""What an error reply of Redis means: the server cannot work now, or it will not do this command.

Nothing above this package sees an exception of redis-py. The reply itself stays as the cause of ours, for the
modules that act on it: cluster.py follows redirections, streams_redis.py makes groups, kv_redis.py asks for
commands that a server may not know. Called by link.py for each error reply.
"""

import re

from redis.exceptions import ResponseError

from gateway.kernel.errors import StoreRefused, StoreUnavailable

_OPERATIONAL = frozenset(
    {"LOADING", "OOM", "MISCONF", "NOREPLICAS", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"}
)
"""Words that tell of the server's state, not of the command."""

_WORD = re.compile(r"[A-Z][A-Z0-9]*")
_SCRIPT_FAILED = "Error running script"
_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -?([A-Z][A-Z0-9]*) ")
"""Until Redis 7 what a command inside a script was refused with comes after the script's name and line."""


def word_of(error: ResponseError) -> str:
    """ERR when there is no other; never anything that the server repeats of a command."""
    text = str(error)
    if _SCRIPT_FAILED in text and (inner := _IN_SCRIPT.search(text)):
        return inner[1]
    word: str = error.status_code or text.partition(" ")[0]
    return word if _WORD.fullmatch(word) else "ERR"


def refusal(error: ResponseError) -> StoreRefused | StoreUnavailable:
    """What callers get instead."""
    word = word_of(error)
    ours = (
        StoreUnavailable(f"the store refuses commands ({word})")
        if word in _OPERATIONAL
        else StoreRefused(word)
    )
    ours.__cause__ = error
    return ours
