"""Session ids for clients that name none well: Claude Code's from where it hides them, others' from the
beginning of their conversation. Pure; shared by the upstreams that replay.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.replay.lookups import at, object_in, text_of
from gateway.store.keys import trim
from gateway.turn.items import Dialect, Item, MediaPart, Message, Part

MAX_ID_BYTES = 256
INSTRUCTION_CHARS = 50
"""Of each instruction: the rest often holds what changes from turn to turn, such as the time."""

_IN_USER_ID = re.compile(r"_session_([a-f0-9-]+)\Z")
_HEADERS = ("x-claude-code-session-id", "x-session-id", "session-id", "session_id", "x-session-affinity")
"""Not x-client-request-id: OpenAI's documents ask clients for another one with every request."""
_MEMBERS = (
    ("session_id",),
    ("sessionId",),
    ("conversation_id",),
    ("prompt_cache_key",),
    ("conversation",),
    ("conversation", "id"),
    ("metadata", "user_id"),
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def claude_session(headers: Mapping[str, str], body: JsonObject) -> str | None:
    """`claude:<session>:agent:<agent>` of a Messages request; subagents of one session are apart.

    headers: by lower-case name. A user id that holds no session gives none.
    """
    session = trim(headers.get("x-claude-code-session-id", ""))
    if not session:
        user_id = text_of(at(body, "metadata", "user_id"))
        if found := _IN_USER_ID.search(user_id):
            session = found[1]
        elif user_id.startswith("{"):
            session = trim(text_of(object_in(user_id).get("session_id")))
    if not session:
        return None
    agent = trim(headers.get("x-claude-code-agent-id", "")) or "main"
    return f"claude:{session}:agent:{agent}"


def explicit_session(headers: Mapping[str, str], body: JsonObject) -> str | None:
    """What the client itself calls its session. Ids that are too long or hold control characters are none."""
    named = [headers[name] for name in _HEADERS if name in headers]
    members = [at(body, *path) for path in _MEMBERS if path[0] in body]
    named += [text_of(value) for value in members if not isinstance(value, dict | list)]
    return next((session for session in map(trim, named) if session and _is_id(session)), None)


def _is_id(text: str) -> bool:
    return len(text.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES and not _CONTROL.search(text)


def derived_session(
    items: Sequence[Item], *, dialect: Dialect, tenant: str, resource: str = ""
) -> str | None:
    """`ctx:v1:<hash>` of how a conversation begins; None when it does not begin with a user's words.

    The same for every turn of the conversation, as long as the client keeps its beginning; two that begin in
    the same words share it. resource: the cached content that a Gemini request names. Callers ask only when
    there is no explicit_session().
    """
    instructions: list[Json] = []
    user: list[Json] = []
    for item in items:
        if not isinstance(item, Message):
            continue
        if item.role == "user":
            user = [_identity(part) for part in item.parts]
            break
        if item.role in ("system", "developer"):
            text = "".join(part.text for part in item.parts if not isinstance(part, MediaPart))
            instructions.append(text[:INSTRUCTION_CHARS])
    if not user and not resource:
        return None
    root: JsonObject = {
        "version": "cpa-session-root-v1",
        "format": dialect,
        "caller_scope": _caller_scope(tenant),
    }
    if instructions:
        root["instructions"] = instructions
    if user:
        root["user"] = user
    if resource:
        root["resource"] = resource
    return f"ctx:v1:{hashlib.sha256(dumps(root)).hexdigest()}"


def _identity(part: Part) -> JsonObject:
    if not isinstance(part, MediaPart):
        return {"kind": "text", "value": part.text}
    value = part.url or part.data or part.file_id or ""
    found: JsonObject = {"kind": part.kind, "value": value}
    if part.mime_type:
        found["mime"] = part.mime_type
    return found


def gemini_session_id(derived: str) -> str:
    """The session id of a Code Assist request for a derived session: a dash and 63 bits in decimal."""
    digest = hashlib.sha256(f"cli-proxy-api:antigravity:derived-session\0{derived}".encode()).digest()
    return f"-{int.from_bytes(digest[:8], 'big') & 0x7FFF_FFFF_FFFF_FFFF}"


@lru_cache(maxsize=1024)
def _caller_scope(tenant: str) -> str:
    text = f"cli-proxy-api:caller-scope:v1\0{tenant}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
