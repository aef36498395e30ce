"""What the user of Redis must be allowed: each command we send, ours or a script's, and the keys.

Nobody but an administrator may ask a server for a user's rights, so a command is tried in a form that changes
nothing: on keys that do not exist, or with arguments that are refused after the rights were checked. Called
at the start of replicas and workers, by `check-config --store` and when rights are taken away meanwhile;
scripts/render_docs.py shows the list to operators.
"""

import asyncio
import textwrap
from typing import NamedTuple

from gateway.kernel.errors import StoreError
from gateway.store.address import Kind
from gateway.store.calls import Arg
from gateway.store.connect import Redis
from gateway.store.keys import PATTERNS, Keys, replay_key
from gateway.store.link import Link
from gateway.store.refusals import NOPERM, is_about_a_command, word_in

_KEY = Keys().probe("rights", 0).decode()
_REPLAY_KEY = replay_key("probe", "", "").decode()
OUR_KEYS, REPLAY_KEYS = (f"~{pattern}" for pattern in PATTERNS)


class Right(NamedTuple):
    command: str
    """As an ACL names it."""
    harmless: tuple[Arg, ...]
    """What follows the command's name, for a try."""

    @property
    def tried(self) -> tuple[Arg, ...]:
        return (*self.command.upper().split("|"), *self.harmless)


RIGHTS: tuple[Right, ...] = (
    Right("ping", ()),
    Right("info", ("server",)),
    Right("client|setname", ("lingma-gateway",)),
    Right("get", (_KEY,)),
    Right("set", (_KEY, "1", "NO_OPTION")),
    Right("mget", (_KEY,)),
    Right("exists", (_KEY,)),
    Right("type", (_KEY,)),
    Right("time", ()),
    Right("del", (_KEY,)),
    Right("unlink", (_KEY,)),
    Right("expire", (_KEY, 1)),
    Right("pexpire", (_KEY, 1)),
    Right("pttl", (_KEY,)),
    Right("incrby", (_KEY, "no number")),
    Right("hget", (_KEY, "f")),
    Right("hgetall", (_KEY,)),
    Right("hmget", (_KEY, "f")),
    Right("hset", (_KEY, "f", "v", "no value")),
    Right("hdel", (_KEY, "f")),
    Right("hincrby", (_KEY, "f", "no number")),
    Right("zadd", (_KEY, "no number", "m")),
    Right("zrem", (_KEY, "m")),
    Right("zcard", (_KEY,)),
    Right("zcount", (_KEY, 0, 1)),
    Right("zscore", (_KEY, "m")),
    Right("zpopmin", (_KEY,)),
    Right("zrangebyscore", (_KEY, 0, 1)),
    Right("zremrangebyscore", (_KEY, 0, 1)),
    Right("xadd", (_KEY, "no id", "f", "v")),
    Right("xdel", (_KEY, "1-1")),
    Right("xlen", (_KEY,)),
    Right("xrange", (_KEY, "-", "+")),
    Right("xread", ("STREAMS", _KEY, "0")),
    Right("xreadgroup", ("GROUP", "g", "c", "STREAMS", _KEY, ">")),
    Right("xgroup|create", (_KEY, "g", "no id")),
    Right("xack", (_KEY, "g", "1-1")),
    Right("eval", ("return 1", 0)),
    Right("evalsha", ("0" * 40, 0)),
)
OF_KIND: dict[Kind, tuple[Right, ...]] = {
    "cluster": (Right("cluster|slots", ()), Right("asking", ())),
}
"""What else is needed of servers of a kind."""


def rights_of(kind: Kind) -> tuple[Right, ...]:
    return (*RIGHTS, *OF_KIND.get(kind, ()))


async def missing_rights(redis: Redis, *, replay: bool = False) -> list[str]:
    """In the words of an ACL: commands as `+xadd`, keys as `~lg:*`. replay: for replicas with HTTP upstreams.

    Raises StoreUnavailable when a node does not answer.
    """
    await redis.wait_connected(1.0)
    found = await asyncio.gather(*(_missing_at(link, redis.kind, replay=replay) for link in redis.links))
    return sorted({right for missing in found for right in missing})


async def _missing_at(link: Link, kind: Kind, *, replay: bool) -> list[str]:
    """Everything leaves in one write."""
    rights = rights_of(kind)
    tries = [(f"+{right.command}", OUR_KEYS, right.tried) for right in rights]
    if replay:
        tries.append(("+get", REPLAY_KEYS, ("GET", _REPLAY_KEY)))
        tries.append(("+set", REPLAY_KEYS, ("SET", _REPLAY_KEY, "1", "NO_OPTION")))
    replies = await asyncio.gather(*(link.call(*tried) for _, _, tried in tries), return_exceptions=True)
    missing = []
    for (command, keys, _), reply in zip(tries, replies, strict=True):
        if not isinstance(reply, StoreError):
            continue
        word = word_in(reply)
        if not word:
            raise reply
        if word == NOPERM:
            missing.append(command if is_about_a_command(reply) else keys)
    return missing


def render_markdown() -> str:
    """The part of the reference page that says what a user must be allowed."""
    commands = " ".join(f"+{right.command}" for right in RIGHTS)
    more = " ".join(f"+{right.command}" for right in OF_KIND["cluster"])
    prose = (
        f"It is one line. On a Cluster also `{more}`, on each node; for a database other than 0 also "
        f"`+select`. `{REPLAY_KEYS}` is for replicas with HTTP upstreams. A replica or worker whose user "
        "lacks one of them ends at its start with exit code 2 and says which; "
        "`lingma-gateway check-config --store` says so without starting anything. Without "
        "`+client|setname` or `+select` there is no connection to ask on: `link.connect_failed` and "
        "`check-config --store` (exit code 1) name it, and replicas and workers go on trying."
    )
    return "\n".join(
        [
            "## Rights",
            "",
            "All that a user of Redis needs, the same for replicas and workers:",
            "",
            "```",
            f"ACL SETUSER lingma on >a-password resetchannels resetkeys {OUR_KEYS} {REPLAY_KEYS} -@all",
            *textwrap.wrap(
                commands, 110, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
            ),
            "```",
            "",
            *textwrap.wrap(prose, 118, break_on_hyphens=False),
            "",
        ]
    )
