"""What clients send as signatures, made fit for a Gemini model before anything is replayed. Pure.

A signature of another model, or of none, is refused by the upstream with the whole request. So only what has
the shape of one is kept, in the one member where the upstream looks; the first call of a model's content,
which must carry something, gets the sentinel instead.
"""

from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity_items import SENTINEL
from gateway.upstreams.antigravity.history import (
    call_of,
    carried_signature,
    contents_of,
    is_signed_with,
    parts_of,
    response_of,
    role_of,
    with_contents,
    with_parts,
    with_signature,
    without_signature,
)
from gateway.upstreams.antigravity.signatures import gemini_signature_in

_SERVER_SIDE = ("toolCall", "tool_call", "toolResponse", "tool_response")
"""Tools that the upstream ran itself: it wants its own parts back as they were."""


def sanitised(payload: JsonObject) -> JsonObject:
    """The payload itself when nothing has to change."""
    contents = contents_of(payload)
    clean = [_content(content) for content in contents]
    if all(new is old for new, old in zip(clean, contents, strict=True)):
        return payload
    return with_contents(payload, clean)


def _content(content: Json) -> Json:
    parts = parts_of(content)
    clean: list[Json] = []
    by_model = role_of(content) == "model"
    called = False
    for part in parts:
        if not isinstance(part, dict) or any(name in part for name in _SERVER_SIDE):
            clean.append(part)
        elif response_of(part) is not None:
            clean.append(without_signature(part))
        elif not by_model:
            clean.append(part)
        else:
            is_call = call_of(part) is not None
            clean.append(_signed(part, must=is_call and not called))
            called = called or is_call
    if all(new is old for new, old in zip(clean, parts, strict=True)):
        return content
    return with_parts(content, clean)


def _signed(part: JsonObject, *, must: bool) -> JsonObject:
    signature = gemini_signature_in(carried_signature(part))
    if not signature:
        if not must:
            return without_signature(part)
        signature = SENTINEL
    return part if is_signed_with(part, signature) else with_signature(part, signature)


def with_first_calls_signed(payload: JsonObject) -> JsonObject:
    """The sentinel on the first call of each model's content that carries nothing at all."""
    contents = list(contents_of(payload))
    changed = False
    for index, content in enumerate(contents):
        if role_of(content) != "model":
            continue
        parts = parts_of(content)
        first = next((at for at, part in enumerate(parts) if call_of(part) is not None), None)
        if first is None or carried_signature(part := parts[first]) or not isinstance(part, dict):
            continue
        contents[index] = with_parts(
            content, [*parts[:first], with_signature(part, SENTINEL), *parts[first + 1 :]]
        )
        changed = True
    return with_contents(payload, contents) if changed else payload
