"""Which models and sessions replay signatures, and the session id that goes upstream. Pure.

A session is found by what the client says it is, from the surest to the weakest: Claude Code's own ids, other
ids in headers and body, how the conversation begins. Claude Code asks for titles and summaries in the session
of the conversation, under another system prompt; the prompt is part of the session so that those answers do
not replace the conversation's chain.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache

from gateway.kernel.json import Json, JsonObject
from gateway.replay.derived import claude_session, derived_session, explicit_session, gemini_session_id
from gateway.replay.lookups import at, text_of
from gateway.replay.scope import Isolation, ReplayScope, scope_of
from gateway.store.keys import trim
from gateway.turn.request import Turn
from gateway.upstreams.antigravity.history import canonical, contents_of, parts_of

EXECUTOR = "antigravity"
FOUND_BY_WORDS = frozenset({"derived", "session"})
"""Kinds of sessions that may be named by how a conversation begins, and so be those of several."""


@lru_cache(maxsize=1024)
def takes_part(model: str) -> bool:
    """Whether the model signs its thoughts: Gemini's, and what is served like them."""
    model = model.lower()
    return "claude" not in model and any(family in model for family in ("gemini", "flash", "agent"))


def replay_scope(
    turn: Turn,
    headers: Mapping[str, str],
    model: str,
    payload: JsonObject,
    *,
    execution: str = "",
    isolation: Isolation = "tenant",
) -> ReplayScope | None:
    """None when the model takes no part, or when nothing says which session it is.

    headers: by lower-case name. model: the upstream's name for it. payload: before a session id is put into
    it. execution: the id of the connection that a WebSocket client holds.
    """
    if not takes_part(model):
        return None
    session = session_key(turn, headers, payload, execution=execution)
    return scope_of(EXECUTOR, model, session, tenant=turn.tenant, isolation=isolation)


def session_key(
    turn: Turn, headers: Mapping[str, str], payload: JsonObject, *, execution: str = ""
) -> str | None:
    body = turn.raw.body
    if turn.raw.dialect == "messages" and (session := claude_session(headers, body)):
        lane = system_lane(body)
        return f"{session}:context:{lane}" if lane else session
    stated = _stated(turn, headers, payload, execution)
    return next((f"{kind}:{session}" for kind, value in stated if value and (session := trim(value))), None)


def _stated(
    turn: Turn, headers: Mapping[str, str], payload: JsonObject, execution: str
) -> Iterator[tuple[str, str]]:
    """Kinds of sessions and what they are called, which may be nothing, from the surest to the weakest."""
    body = turn.raw.body
    yield "responses", headers.get("session-id", "")
    yield "responses", text_of(body.get("session_id"))
    yield "responses", text_of(at(body, "metadata", "session_id"))
    yield "execution", execution
    yield "prompt-cache", text_of(body.get("prompt_cache_key"))
    yield "derived", derived_id(turn, headers, execution=execution)
    yield "session", _named_session(turn, payload)
    yield "session", stable_id(payload).removeprefix("-")


def system_lane(body: JsonObject) -> str:
    """32 hex digits of a Messages request's system prompt; where it is cached makes no difference."""
    system = body.get("system")
    if system is None:
        return ""
    canonical(system)  # no deeper than what is walked here
    return hashlib.sha256(canonical(_without_cache_control(system))).hexdigest()[:32]


def _without_cache_control(value: Json) -> Json:
    match value:
        case dict():
            members = ((name, member) for name, member in value.items() if name != "cache_control")
            return {name: _without_cache_control(member) for name, member in members}
        case list():
            return [_without_cache_control(item) for item in value]
        case _:
            return value


# -- the session id of a request --------------------------------------------------------------------------


def request_session_id(
    turn: Turn, headers: Mapping[str, str], payload: JsonObject, *, execution: str = ""
) -> str:
    """What a Code Assist request says its session is; empty when there is nothing to go by."""
    if said := trim(_named_session(turn, payload)):
        return said
    if derived := derived_id(turn, headers, execution=execution):
        return gemini_session_id(derived)
    return stable_id(payload)


def derived_id(turn: Turn, headers: Mapping[str, str], *, execution: str = "") -> str:
    """How the conversation begins, for clients that name no session in any way."""
    if trim(execution) or explicit_session(headers, turn.raw.body):
        return ""
    resource = trim(text_of(turn.raw.body.get("cachedContent")))
    dialect = turn.raw.dialect
    return derived_session(turn.items, dialect=dialect, tenant=turn.tenant, resource=resource) or ""


def stable_id(payload: JsonObject) -> str:
    """A dash and 63 bits in decimal of the first text by the user; empty when there is none."""
    for content in contents_of(payload):
        parts = parts_of(content)
        if text_of(at(content, "role")) == "user" and (
            text := text_of(at(parts[0], "text")) if parts else ""
        ):
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
            return f"-{int.from_bytes(digest[:8], 'big') & 0x7FFF_FFFF_FFFF_FFFF}"
    return ""


def _named_session(turn: Turn, payload: JsonObject) -> str:
    """Gemini's own clients name it in a body whose oddities the payload no longer has."""
    return (_session_in(turn.raw.body) if turn.raw.dialect == "gemini" else "") or _session_in(payload)


def _session_in(payload: JsonObject) -> str:
    paths = (("sessionId",), ("session_id",), ("request", "sessionId"), ("request", "session_id"))
    return next((text for path in paths if trim(text := text_of(at(payload, *path)))), "")
