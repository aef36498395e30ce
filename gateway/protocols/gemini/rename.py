"""The model's name in an upstream's own chunk, changed without touching another byte. Pure."""

import re
from typing import Final

import msgspec

from gateway.kernel.json import dumps

_NAME: Final = b'"modelVersion"'
_MEMBER: Final = re.compile(rb'"modelVersion"\s*:\s*("(?:[^"\\]|\\.)*")')

# A quote that begins a name stands behind a comma or a brace: texts have theirs escaped. Where nothing but
# one brace follows, at the very end, it closes the chunk itself, and what stands first is its own, too.
_LAST: Final = re.compile(rb'"modelVersion"\s*:\s*("[^"\\]*")[^{}]*\}\s*\Z')
_FIRST: Final = re.compile(rb'\s*\{\s*"modelVersion"\s*:\s*("[^"\\]*")')
_BEFORE: Final = (b",", b"{")
_SPACE: Final = 16
"""As much of it as may stand between."""


class _Chunk(msgspec.Struct):
    model_version: str | None = msgspec.field(default=None, name="modelVersion")


_decode = msgspec.json.Decoder(_Chunk).decode


class ModelName:
    """The name that a client knows a model by, put into the chunks of one stream."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._wanted = dumps(model)
        self._tail = self._renamed = b""
        """The end of the last chunk, which is nearly always that of the next, and the same with the name."""

    def put(self, raw: bytes) -> bytes:
        """The chunk with that name as its model version; as it is where it carries none, or that one."""
        if self._tail and raw.endswith(self._tail):
            return raw if self._tail is self._renamed else raw[: -len(self._tail)] + self._renamed
        at = raw.rfind(_NAME)
        if at < 0:
            return raw
        if raw.find(_NAME) != at:
            return rename_model(raw, self._model)
        if raw[max(0, at - _SPACE) : at].rstrip()[-1:] in _BEFORE and (last := _LAST.match(raw, at)):
            self._tail = self._renamed = raw[at - 1 :]
            if last[1] == self._wanted:
                return raw
            self._renamed = raw[at - 1 : last.start(1)] + self._wanted + raw[last.end(1) :]
            return raw[: at - 1] + self._renamed
        if first := _FIRST.match(raw):
            return raw[: first.start(1)] + self._wanted + raw[first.end(1) :]
        return rename_model(raw, self._model)


def rename_model(raw: bytes, model: str) -> bytes:
    """The same for any one chunk or answer."""
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
