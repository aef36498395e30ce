"""Pseudonyms: what an upstream is told in the place of ids by which clients know themselves. Pure.

For operators whose upstream need not learn their clients' installations, windows, turns and conversations. An
id has the same pseudonym with every turn and on every replica, so that cached prompts are found, and another
one for every credential. In answers the client's own stand again. Ids that upstreams ask for to keep abuse
apart (`user`, `safety_identifier`) stay, and so does everything that is no id. Used by lane.py.
"""

import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal

import msgspec

from gateway.kernel.json import Json, JsonError, JsonObject, dumps, loads
from gateway.store.keys import trim
from gateway.upstreams.codex.replay_session import tenants_cache_key
from gateway.wire.sse import SseEvent

Kind = Literal["prompt-cache", "installation", "turn", "window"]

_KINDS: Final[tuple[tuple[str, Kind], ...]] = (
    ("prompt_cache_key", "prompt-cache"),
    ("session_id", "prompt-cache"),
    ("thread_id", "prompt-cache"),
    ("conversation_id", "prompt-cache"),
    ("client_request_id", "prompt-cache"),
    ("agent_id", "prompt-cache"),
    ("installation_id", "installation"),
    ("turn_id", "turn"),
    ("window_id", "window"),
)
"""By what the names of headers and of members end with, as `x-codex-parent-thread-id` does. Codex calls all
of the first kind alike.
"""
_METADATA: Final = "x_codex_turn_metadata"
"""JSON in a text, with some of the same."""
_OBJECT: Final = "client_metadata"


def _kind_of(name: str) -> Kind | None:
    return next((kind for ending, kind in _KINDS if name.endswith(ending)), None)


@lru_cache(maxsize=4096)
def pseudonym(kind: Kind, credential: str, value: str) -> str:
    """A UUID. HOME nodes make the same."""
    text = f"cli-proxy-api:codex:identity-confuse:{kind}:{credential}:{value}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, text))


class Pseudonyms:
    """Those of one request, and of its answer."""

    def __init__(self, credential: str, tenant: str = "") -> None:
        """`credential`: its id. `tenant`: where equal ids of others are to be told as others."""
        self._credential = credential
        self._tenant = tenant
        self._own: dict[bytes, bytes] = {}
        """What the client said, as JSON has it inside a text, by pseudonym."""

    def in_body(self, body: JsonObject) -> JsonObject:
        """The very same object where it holds none of them."""
        changed: JsonObject = {}
        if "prompt_cache_key" in body:
            changed["prompt_cache_key"] = self._put("prompt_cache_key", body["prompt_cache_key"])
        if isinstance(metadata := body.get(_OBJECT), dict):
            changed[_OBJECT] = self._in_object(metadata)
        return {**body, **changed} if any(body[name] != value for name, value in changed.items()) else body

    def in_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Metadata that cannot be read is left out: nobody knows what it says."""
        told = {name: self._put(name, value) for name, value in headers.items()}
        return {name: value for name, value in told.items() if isinstance(value, str)}

    def in_answer(self, body: bytes) -> bytes:
        """With the client's own again, wherever the upstream repeats them."""
        for told, own in self._own.items():
            if told in body:
                body = body.replace(told, own)
        return body

    def in_event(self, event: SseEvent) -> SseEvent:
        raw = self.in_answer(event.raw)
        if raw is event.raw or event.data is None:
            return event
        return msgspec.structs.replace(event, raw=raw, data=self.in_answer(event.data))

    def _in_object(self, members: JsonObject) -> JsonObject:
        told = {name: self._put(name, value) for name, value in members.items()}
        return {name: value for name, value in told.items() if value is not None or members[name] is None}

    def _put(self, name: str, value: Json) -> Json:
        """None for metadata that cannot be read."""
        name = name.lower().replace("-", "_")
        if not isinstance(value, str) or not trim(value):
            return value
        if name == _METADATA:
            return self._in_metadata(value)
        kind = _kind_of(name)
        if kind is None:
            return value
        meant = tenants_cache_key(trim(value), self._tenant) if self._tenant else trim(value)
        told = pseudonym(kind, self._credential, meant)
        self._own.setdefault(told.encode(), dumps(value)[1:-1])
        return told

    def _in_metadata(self, text: str) -> str | None:
        try:
            members = loads(text)
        except JsonError:
            return None
        return dumps(self._in_object(members)).decode() if isinstance(members, dict) else None
