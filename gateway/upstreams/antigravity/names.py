"""Names of tools as Gemini takes them, and back, and ids of calls that it gave none. Pure.

Clients' names may begin with a digit, hold what Gemini refuses, or be longer than it allows; a namespace
makes them longer still. Such a name goes upstream as another one that depends on nothing but itself.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from gateway.kernel.ids import derived_hex
from gateway.turn.tools import ToolSpec

MAX_CHARS: Final = 64

_LEGAL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_ILLEGAL: Final = re.compile(r"[^A-Za-z0-9_.:-]")
_DIGEST_CHARS: Final = 8


def upstream_name(name: str) -> str:
    """The name itself where it is legal. Other names never become the same one."""
    if _LEGAL.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST_CHARS]
    legal = _ILLEGAL.sub("_", name)
    if not legal or not (legal[0].isalpha() or legal[0] == "_"):
        legal = f"_{legal}"
    return f"{legal[: MAX_CHARS - _DIGEST_CHARS - 1]}_{digest}"


class ClientTools:
    """What the client offered, by the names that the upstream was told."""

    def __init__(self, tools: Sequence[ToolSpec]) -> None:
        self._tools = {upstream_name(tool.name): tool for tool in tools}

    def name(self, name: str) -> str:
        """The client's own. One that nobody offered is given as it is."""
        tool = self._tools.get(name)
        return name if tool is None else tool.name

    def is_custom(self, name: str) -> bool:
        tool = self._tools.get(name)
        return tool is not None and tool.kind == "custom"


_MADE: Final = re.compile(r"call_gem_[0-9a-f]{24}")


def made_call_id(turn_id: str, number: int) -> str:
    """For a call that the upstream gave no id: clients need one."""
    return f"call_gem_{derived_hex(turn_id, 'call', number)}"


def is_made_id(call_id: str) -> bool:
    """The upstream does not know it, and some upstreams know no ids at all."""
    return _MADE.fullmatch(call_id) is not None
