"""Changes to single members of JSON text that leave every other byte as it is. Pure.

For messages that are passed on as an upstream wrote them: white space, the order of members, numbers and
escapes stay. The text is walked member by member, with the values skipped by msgspec, so that a change costs
little even where a response echoes a hundred kilobytes of tools.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.wire.sse import parse_block, write_event

_NAME: Final = re.compile(rb'[\s,]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def edit_members(text: bytes, edits: Mapping[str, bytes]) -> bytes:
    """The object with new values for those of its members that have one in `edits`, themselves JSON.

    Members that it lacks are not added, and text that is no object, or has a member twice, stays as it is.
    """
    try:
        members = _decode_members(text)
    except msgspec.DecodeError:
        return text
    edits = {
        name: value for name, value in edits.items() if name in members and bytes(members[name]) != value
    }
    if not edits:
        return text
    pieces: list[bytes] = []
    copied, at = 0, text.find(b"{") + 1
    for name, raw in members.items():
        value = bytes(raw)
        found = _NAME.match(text, at)
        if found is None or not text.startswith(value, found.end()):
            return text
        at = found.end() + len(value)
        if name in edits:
            pieces += (text[copied : found.end()], edits[name])
            copied = at
    if text[at:].strip() != b"}":
        return text
    return b"".join((*pieces, text[copied:]))


def member(text: bytes, name: str) -> bytes | None:
    """The text of a member's value."""
    try:
        raw = _decode_members(text).get(name)
    except msgspec.DecodeError:
        return None
    return None if raw is None else bytes(raw)


def with_data(raw: bytes, data: bytes, changed: bytes, *, event: str | None = None) -> bytes:
    """A server-sent event with other data; `event` renames it as well."""
    if changed == data and event is None:
        return raw
    block = parse_block(raw)
    head, found, tail = raw.partition(data)
    if not found or (event is not None and block.event is not None):
        return write_event(changed, event=event if block.event is not None else None, event_id=block.id)
    return head + changed + tail
