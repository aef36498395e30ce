"""Ids that a Responses upstream accepts: of its items in an input, and of calls and tools of other dialects.

Pure. Clients bring ids of wherever a conversation was before; the upstream insists on a prefix for each type
and on 64 characters. An id that is too long keeps its beginning and gets a hash, the same every time.
"""

import hashlib
from typing import Final

from gateway.kernel.json import Json, JsonObject
from gateway.upstreams.codex.replay_items import visible_id

MAX_CHARS: Final = 64
_KEPT: Final = 47

_PREFIXES: Final = {
    "message": "msg_",
    "reasoning": "rs_",
    "function_call": "fc_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
}


def with_sound_ids(items: list[Json]) -> list[Json]:
    """The same list when all are sound. Reasoning that is sealed under an id that is too long is left out:
    under another it cannot be opened.
    """
    taken = {item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)}
    attempts: dict[str, int] = {}
    changed = False
    sound: list[Json] = []
    for item in items:
        new = _sound(item, taken, attempts) if isinstance(item, dict) else item
        changed = changed or new is not item
        if new is not None or item is None:
            sound.append(new)
    return sound if changed else items


def _sound(item: JsonObject, taken: set[Json], attempts: dict[str, int]) -> JsonObject | None:
    """attempts: how many shortened forms of an id are known to be taken."""
    given = item.get("id")
    prefix = _PREFIXES.get(str(item.get("type") or ("message" if "role" in item else "")))
    if prefix is None or not isinstance(given, str) or not given:
        return item
    wanted = given if given.startswith(prefix) else prefix + given
    if len(wanted) > MAX_CHARS:
        if item.get("type") == "reasoning" and item.get("encrypted_content"):
            return None
        wanted = _shortened(wanted, taken, attempts)
    if wanted == given:
        return item
    taken.add(wanted)
    return {**item, "id": wanted}


def _shortened(text: str, taken: set[Json], attempts: dict[str, int]) -> str:
    """Another one while the id is taken by another item."""
    while True:
        attempt = attempts.get(text, 0)
        salted = f"{text}\0{attempt}" if attempt else text
        short = f"{text[:_KEPT]}_{hashlib.sha256(salted.encode()).hexdigest()[:16]}"
        if short not in taken:
            return short
        attempts[text] = attempt + 1


def sound_name(name: str) -> str:
    """A tool's name or a call's id as the upstream accepts it; unchanged where it is acceptable."""
    return visible_id(name)
