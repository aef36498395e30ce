"""The model's name in an upstream's own chunk, changed without touching another byte. Pure."""

import re
from typing import Final

from gateway.kernel.json import dumps, loads

_MEMBER: Final = re.compile(rb'"modelVersion"\s*:\s*("(?:[^"\\]|\\.)*")')


def rename_model(raw: bytes, model: str) -> bytes:
    """The chunk with that name as its model version; as it is where it carries none, or that one."""
    wanted = dumps(model)
    for found in _MEMBER.finditer(raw):
        if found[1] == wanted:
            continue
        renamed = raw[: found.start(1)] + wanted + raw[found.end(1) :]
        if _is_that_member(raw, renamed):
            return renamed
    return raw


def _is_that_member(raw: bytes, renamed: bytes) -> bool:
    """Whether the change was to the chunk itself, and not to something deeper or inside a text."""
    before, after = loads(raw), loads(renamed)
    if not isinstance(before, dict) or not isinstance(after, dict):
        return False
    return before.get("modelVersion") != after.get("modelVersion")
