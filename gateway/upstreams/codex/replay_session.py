"""Which replay scope a request belongs to, and the prompt cache key that goes upstream with it. Pure.

The two are apart on purpose: the scope decides what may be injected and keeps subagents from each other, the
cache key only where the upstream looks for a cached prompt, and there subagents may want to share.
"""

import uuid
from collections.abc import Mapping

from gateway.kernel.json import JsonObject
from gateway.replay.derived import claude_session, derived_session, explicit_session
from gateway.replay.lookups import at, object_in, text_of
from gateway.replay.scope import Isolation, ReplayScope, scope_of
from gateway.store.keys import trim
from gateway.turn.items import Dialect
from gateway.turn.model_name import split_name
from gateway.turn.request import Turn

_OID = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")

_SESSION_HEADERS = (
    ("x-codex-window-id", "window"),
    ("session_id", "session-id"),
    ("session-id", "session-id"),
    ("conversation_id", "conversation_id"),
)
"""Tried in this order, after the turn's metadata."""


def takes_part(dialect: Dialect, *, compact: bool = False, all_clients: bool = True) -> bool:
    """Whether turns of these clients are stored and get injections.

    Clients of Responses carry their reasoning themselves. all_clients: also those of Chat and Gemini, whose
    dialects have no place for it; without it Messages alone, as HOME nodes do. compact: /responses/compact.
    """
    if compact:
        return False
    return dialect == "messages" or (all_clients and dialect in ("chat", "gemini"))


def replay_scope(
    turn: Turn,
    headers: Mapping[str, str],
    translated: JsonObject,
    *,
    execution: str = "",
    all_clients: bool = True,
    isolation: Isolation = "tenant",
) -> ReplayScope | None:
    """None when the request does not take part, or nothing says which session it is of.

    headers: by lower-case name. translated: the body for the upstream, before a cache key is set in it.
    execution: the id of the connection that a WebSocket client holds.
    """
    if not takes_part(turn.raw.dialect, all_clients=all_clients):
        return None
    session = session_key(turn.raw.dialect, headers, turn.raw.body, translated, execution=execution)
    if session is None and turn.raw.dialect in ("chat", "gemini"):
        session = _session_of_others(turn, headers)
    model = trim(text_of(translated.get("model"))) or split_name(turn.model)[0]
    return scope_of("codex", model, session, tenant=turn.tenant, isolation=isolation)


def _session_of_others(turn: Turn, headers: Mapping[str, str]) -> str | None:
    body = turn.raw.body
    if explicit := explicit_session(headers, body):
        return f"session:{explicit}"
    resource = trim(text_of(body.get("cachedContent")))
    derived = derived_session(turn.items, dialect=turn.raw.dialect, tenant=turn.tenant, resource=resource)
    return f"derived:{derived}" if derived else None


def session_key(
    dialect: Dialect,
    headers: Mapping[str, str],
    raw: JsonObject,
    translated: JsonObject,
    *,
    execution: str = "",
) -> str | None:
    """What the client says its session is, its kind first; None when it says nothing.

    Asked of every dialect, whether it takes part or not: the first of the rules that says something.
    """
    if dialect == "messages" and (session := claude_session(headers, raw)):
        return session
    if execution := trim(execution):
        return f"execution:{execution}"
    for body in (translated, raw):
        metadata = at(body, "client_metadata")
        found = (
            _named("prompt-cache", text_of(body.get("prompt_cache_key")))
            or _named("window", text_of(at(metadata, "x-codex-window-id")))
            or _of_turn_metadata(text_of(at(metadata, "x-codex-turn-metadata")))
        )
        if found:
            return found
    if found := _of_turn_metadata(headers.get("x-codex-turn-metadata", "")):
        return found
    for header, kind in _SESSION_HEADERS:
        if found := _named(kind, headers.get(header, "")):
            return found
    return None


def _of_turn_metadata(text: str) -> str | None:
    metadata = object_in(text)
    return _named("prompt-cache", text_of(metadata.get("prompt_cache_key"))) or _named(
        "window", text_of(metadata.get("window_id"))
    )


def _named(kind: str, value: str) -> str | None:
    value = trim(value)
    return f"{kind}:{value}" if value else None


# -- prompt cache key -------------------------------------------------------------------------------------


def prompt_cache_key(
    dialect: Dialect,
    model: str,
    headers: Mapping[str, str],
    raw: JsonObject,
    *,
    caller: str = "",
    execution: str = "",
    derived: str = "",
    per_agent: bool = True,
) -> str | None:
    """The key for the upstream's prompt cache, also its `Session-Id`; None when there is nothing to go by.

    Clients of Responses and Chat have the last word. caller: whoever may share a cached prompt, such as the
    API key; it cannot be read from the key that is made of it. derived: of derived_session().
    per_agent: subagents of a Claude Code session have keys of their own; without it they share prompts.
    """
    own = trim(text_of(raw.get("prompt_cache_key")))
    if own and dialect in ("responses", "chat"):
        return own
    if dialect == "messages":
        shared = headers if per_agent else {**headers, "x-claude-code-agent-id": ""}
        if session := claude_session(shared, raw):
            return _uuid("cli-proxy-api:codex:claude-code", trim(model), session)
    if dialect == "chat":
        session_id = explicit_session(headers, raw) or ""
        if _is_uuid(session_id):
            return session_id
        if caller:
            return _uuid(f"cli-proxy-api:codex:prompt-cache:{caller}")
    for kind, value in (("execution-session", execution), ("derived-session", derived)):
        if value := trim(value):
            return _uuid("cli-proxy-api", "codex", kind, value)
    return None


def tenants_cache_key(key: str, tenant: str) -> str:
    """What an upstream is told in the place of a key that several tenants may have chosen: how soon an answer
    begins shows whether somebody has asked the like before.
    """
    return _uuid("lingma-gateway:prompt-cache", tenant, key)


def _uuid(*parts: str) -> str:
    return str(uuid.uuid5(_OID, "\0".join(parts)))


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
