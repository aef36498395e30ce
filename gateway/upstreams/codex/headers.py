"""Which headers of a Responses client go on to a Responses upstream. Pure.

Only those that name the client's own conversation and what it wants of the API. Never its User-Agent, which
is ours, and never a token that keeps a turn with one server: it was not this upstream that gave it.
"""

from collections.abc import Mapping
from typing import Final

from gateway.turn.request import Turn

_PASSED: Final = frozenset(
    {
        "conversation_id",
        "openai-beta",
        "originator",
        "session-id",
        "session_id",
        "thread-id",
        "thread_id",
        "version",
        "x-client-request-id",
        "x-openai-subagent",
    }
)
_PASSED_PREFIX: Final = "x-codex-"
CACHE_KEYS: Final = frozenset({"conversation_id", "session-id", "session_id"})
"""Those by which the upstream may look for a cached prompt, as it does by `prompt_cache_key`."""
_KEPT: Final = frozenset({"x-codex-turn-state"})
LITE: Final = "x-openai-internal-codex-responses-lite"
_OF_SOCKETS: Final = "responses_websockets="

MAX_VALUE: Final = 8192
"""Characters."""


def passed_on(turn: Turn) -> Mapping[str, str]:
    if turn.raw.dialect != "responses":
        return {}
    passed = {name: value for name, value in turn.headers.items() if _passes(name, value)}
    if LITE in turn.headers and not any(tool.kind == "hosted" for tool in turn.tools):
        passed[LITE] = turn.headers[LITE]  # the light API has no hosted tools
    return passed


def is_header_value(text: str) -> bool:
    """Printable ASCII, as much as a header may hold."""
    return len(text) <= MAX_VALUE and text.isascii() and text.isprintable()


def _passes(name: str, value: str) -> bool:
    if not is_header_value(value):
        return False
    if name in _KEPT or (name == "openai-beta" and _OF_SOCKETS in value):
        return False
    return name in _PASSED or name.startswith(_PASSED_PREFIX)
