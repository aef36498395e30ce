"""Gemini's requests, answers and signatures, for tests of what is stored of them and put back into them."""

import base64
import copy
from collections.abc import Sequence

from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity import Committed
from gateway.replay.antigravity_items import CallPart, Item, ThoughtSignature, chain_of
from gateway.replay.scope import ReplayScope
from gateway.store.kv import KVClient
from gateway.upstreams.antigravity.replay import ReplayAttempt

G1 = "sigAAAAAAAAAAAA1"
G2 = "sigAAAAAAAAAAAA2"
"""As short as signatures may be. They have not the shape of Gemini's."""


def gemini_signature(name: str) -> str:
    """One of the shape of Gemini's."""
    payload = b"\x01" + name.encode().ljust(20, b".")
    inner = bytes([0x0A, len(payload)]) + payload
    return base64.b64encode(bytes([0x12, len(inner)]) + inner).decode()


# -- items


def signed(name: str) -> ThoughtSignature:
    return ThoughtSignature(signature=f"{name:a<16}", content_index=1, part_index=0)


def call(call_id: str, args: JsonObject | None = None, signature: str = "") -> CallPart:
    return CallPart(name="read", args=args or {}, call_id=call_id, signature=signature)


# -- parts


def text(said: str, signature: str = "") -> JsonObject:
    return _part({"text": said}, signature)


def thought(said: str, signature: str = "") -> JsonObject:
    return _part({"text": said, "thought": True}, signature)


def carrier(signature: str) -> JsonObject:
    return text("", signature)


def fc(call_id: str, args: Json = None, signature: str = "", *, name: str = "read") -> JsonObject:
    """A functionCall, without an id where there is none."""
    function: JsonObject = {"name": name, "args": {"p": 1} if args is None else args}
    return _part({"functionCall": {**({"id": call_id} if call_id else {}), **function}}, signature)


def fr(call_id: str, *, name: str = "read", result: str = "ok") -> JsonObject:
    """A functionResponse."""
    function: JsonObject = {"name": name, "response": {"result": result}}
    return {"functionResponse": {**({"id": call_id} if call_id else {}), **function}}


def _part(part: JsonObject, signature: str) -> JsonObject:
    return {**part, "thoughtSignature": signature} if signature else part


# -- requests and answers


def user(*parts: Json) -> JsonObject:
    return {"role": "user", "parts": [text(part) if isinstance(part, str) else part for part in parts]}


def model(*parts: Json) -> JsonObject:
    return {"role": "model", "parts": [text(part) if isinstance(part, str) else part for part in parts]}


def request(*contents: Json, **members: Json) -> JsonObject:
    """In Code Assist's envelope."""
    return {"request": {"contents": list(contents), **members}}


def contents(payload: JsonObject) -> list[JsonObject]:
    inner = payload["request"]
    assert isinstance(inner, dict)
    found = inner["contents"]
    assert isinstance(found, list)
    return found  # type: ignore[return-value]


def chunk(*parts: Json, finish: str = "") -> JsonObject:
    candidate: JsonObject = {"content": {"role": "model", "parts": list(parts)}}
    return {"response": {"candidates": [{**candidate, **({"finishReason": finish} if finish else {})}]}}


async def items_at(kv: KVClient, scope: ReplayScope) -> Sequence[Item]:
    """As they are stored, without touching them."""
    value = await kv.kv_get(scope.key)
    chain = chain_of(value) if value is not None else None
    return chain.items if chain is not None else ()


async def committed(attempt: ReplayAttempt) -> Committed | None:
    """None where nothing was to be done."""
    work = attempt.commit()
    return None if work is None else await work


class Unchanged:
    """with Unchanged(payload): nobody may change it."""

    def __init__(self, value: JsonObject) -> None:
        self._value = value
        self._before = copy.deepcopy(value)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        assert self._value == self._before
