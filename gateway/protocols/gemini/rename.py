"""The model's name in an upstream's own chunk, changed without touching another byte. Pure."""

import re
from typing import Final

import msgspec

from gateway.kernel.json import dumps

_MEMBER: Final = re.compile(rb'"modelVersion"\s*:\s*("(?:[^"\\]|\\.)*")')


class _Chunk(msgspec.Struct):
    model_version: str | None = msgspec.field(default=None, name="modelVersion")


_decode = msgspec.json.Decoder(_Chunk).decode


def rename_model(raw: bytes, model: str) -> bytes:
    """The chunk with that name as its model version; as it is where it carries none, or that one."""
    wanted = dumps(model)
    members = [found for found in _MEMBER.finditer(raw) if found[1] != wanted]
    if not members or (told := _version(raw)) in (None, model):
        return raw
    for found in members:
        renamed = raw[: found.start(1)] + wanted + raw[found.end(1) :]
        if len(members) == 1 or _version(renamed) != told:
            return renamed
    return raw


def _version(raw: bytes) -> str | None:
    """What the chunk itself has, whatever its texts and arguments hold."""
    try:
        return _decode(raw).model_version
    except msgspec.DecodeError:
        return None
