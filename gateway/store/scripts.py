"""Lua scripts of this package, and the form of one that names fewer keys than it uses.

Called by the *_redis.py modules, which hold one object a script, and by connect.py.
"""

import hashlib
from functools import cache
from pathlib import Path


class Script:
    """The script of that name in `lua/`, or `text`."""

    def __init__(self, name: str, text: str | None = None) -> None:
        self.name = name
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text() if text is None else text
        self.sha1 = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@cache
def with_hidden_keys(script: Script, count: int) -> Script:
    """The same script, told of its last `count` keys as its first arguments.

    A node judges the keys that are named before it runs a script, and refuses several together unless it has
    them all. Those that are not named it judges as the script comes to each.
    """
    prelude = (
        f"local KEYS, ARGV = {{unpack(KEYS)}}, {{unpack(ARGV)}}\n"
        f"for _ = 1, {count} do KEYS[#KEYS + 1] = table.remove(ARGV, 1) end\n"
    )
    return Script(script.name, prelude + script.text)
