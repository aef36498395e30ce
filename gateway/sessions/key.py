"""Session keys: a hash of a conversation's beginning. Pure: no store, no clock.

A turn looks its session up under the messages before its newest one, and a clean finish writes the session
under all messages plus the reply just given, so the write key of one turn is the lookup key of the next.
The two context hashes and the form of the key are those of lingma-openai-gateway; what they cannot tell apart
is in order_hash().

Media count by their placeholders alone: a conversation about another image with the same words has the same
key. That is harmless, for Lingma is sent the same placeholders and holds no image either.
Called by sessions/policy.py; the caches of this package see keys as plain text.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, assert_never

import msgspec

from gateway.kernel.json import JsonObject, dumps, dumps_canonical
from gateway.turn.flatten import flatten_parts
from gateway.turn.items import Dialect, Item, Message, OpaqueItem, Reasoning, ToolCall, ToolResult
from gateway.turn.request import OutputFormat, Turn
from gateway.turn.tools import AUTO, ToolProvider, fingerprint

USER_ROLES: Final = frozenset({"system", "developer", "user"})

_PROVIDERS: Mapping[Dialect, ToolProvider] = {"messages": "anthropic", "gemini": "gemini"}
_THINKING = re.compile(r"(?:\s*<think>.*?</think>)+", re.DOTALL)


class KeyMessage(NamedTuple):
    """A message as far as keys are concerned."""

    role: str
    text: str
    tool_calls: str = ""
    """JSON, empty without calls."""
    tool_call_id: str = ""


# -- the reference's rules --------------------------------------------------------------------------------


def tenant_scope(api_key: str | None) -> str:
    """12 hex digits for an API key, so that the key itself is in no store; all without one share a scope."""
    return _sha1(api_key or "-")[:12]


def hash_user_context(messages: Iterable[KeyMessage]) -> str:
    """What the client's side said: system, developer and user messages."""
    return _sha1("".join(f"{m.role}\x1f{m.text}\x1e" for m in messages if m.role in USER_ROLES))


def hash_branch_context(messages: Iterable[KeyMessage]) -> str:
    """What was said and done in between: every other message."""
    return _sha1(
        "".join(
            f"{m.role}\x1f{m.text}\x1f{m.tool_calls}\x1f{m.tool_call_id}\x1e"
            for m in messages
            if m.role not in USER_ROLES
        )
    )


def build_key(tenant: str, user_hash: str, tool_fingerprint: str, branch_hash: str | None = None) -> str:
    """The parts with colons between. tenant: tenant_scope(), or the name the key file gives."""
    key = f"{tenant}:{user_hash}:{tool_fingerprint}"
    return key if branch_hash is None else f"{key}:{branch_hash}"


# -- what the reference cannot tell apart -----------------------------------------------------------------


def order_hash(messages: Sequence[KeyMessage]) -> str:
    """Who said how much, in order.

    The context hashes lose how the two sides took turns (question, answer, question, answer hashes like
    question, question, answer, answer), and texts that hold their separators can pass for several messages.
    With roles and lengths known, each of them can be read in one way only, so equal keys mean equal messages.
    """
    shape = [[m.role, len(m.text), len(m.tool_calls), len(m.tool_call_id)] for m in messages]
    return hashlib.sha1(dumps(shape), usedforsecurity=False).hexdigest()


def normalise_reply(text: str) -> str:
    """An assistant's text as it is compared: clients trim it, change line ends and fold thinking into it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if thinking := _THINKING.match(text):
        text = text[thinking.end() :]
    return text.strip()


# -- turns ------------------------------------------------------------------------------------------------


def is_eligible(turn: Turn, ask_mode: str, *, enabled: bool) -> bool:
    """Whether the turn may use sessions at all: a plain chat in which no tools are mentioned."""
    return enabled and ask_mode == "chat" and not turn.tools_mentioned


def lookup_key(turn: Turn) -> str | None:
    """Where the session that this turn continues would be; None when it continues none.

    That takes a newest message by the user (all that a follow-up sends) and one before it.
    """
    if not turn.items:
        return None
    *before, newest = turn.items
    if not isinstance(newest, Message) or newest.role != "user":
        return None
    messages = messages_of(before)
    return _session_key(turn, messages) if messages else None


def write_key(turn: Turn, reply: Sequence[Item]) -> str:
    """Where the session goes after a clean finish. A turn of one message has one too."""
    messages = messages_of((*turn.items, *reply))
    if not messages or messages[-1].role != "assistant":
        messages.append(KeyMessage("assistant", ""))
    return _session_key(turn, messages)


def messages_of(items: Iterable[Item]) -> list[KeyMessage]:
    """Items as messages for keys. What an assistant said at a stretch is one message, normalised.

    Reasoning is left out, and parts of a reply are joined without a separator: some clients give both back as
    they came, some as one string.
    """
    messages: list[KeyMessage] = []
    reply: list[Message | ToolCall] = []
    for item in items:
        match item:
            case Reasoning():
                continue
            case ToolCall() | Message(role="assistant"):
                reply.append(item)
                continue
            case Message():
                message = KeyMessage(item.role, flatten_parts(item.parts))
            case ToolResult():
                message = KeyMessage("tool", flatten_parts(item.parts), tool_call_id=item.call_id)
            case OpaqueItem():
                payload = dumps_canonical([item.dialect, item.type, item.payload])
                message = KeyMessage("opaque", payload.decode())
            case _:
                assert_never(item)
        messages += _replies(reply)
        reply = []
        messages.append(message)
    return messages + _replies(reply)


def tool_config(turn: Turn) -> JsonObject | None:
    """The tools and the choice a turn makes, as they are fingerprinted; None without either."""
    if not turn.tools and turn.tool_choice == AUTO:
        return None
    return {
        "provider": _PROVIDERS.get(turn.raw.dialect, "openai"),
        "tools": [msgspec.to_builtins(tool) if tool.raw is None else tool.raw for tool in turn.tools],
        "tool_choice": None if turn.tool_choice == AUTO else msgspec.to_builtins(turn.tool_choice),
    }


def _session_key(turn: Turn, messages: Sequence[KeyMessage]) -> str:
    key = build_key(
        turn.tenant,
        hash_user_context(messages),
        fingerprint(tool_config(turn)),
        hash_branch_context(messages),
    )
    return f"{key}~{order_hash(messages)}{_format_part(turn.output_format)}"


def _format_part(wanted: OutputFormat | None) -> str:
    """Nothing for plain text. The instruction to answer in JSON stays in the session that it was given in."""
    if wanted is None or wanted.kind == "text":
        return ""
    return f"~{_sha1(dumps_canonical(msgspec.to_builtins(wanted)).decode())}"


def _replies(items: Sequence[Message | ToolCall]) -> list[KeyMessage]:
    """One message, or none for no items."""
    if not items:
        return []
    texts: list[str] = []
    calls: list[JsonObject] = []
    for item in items:
        if isinstance(item, Message):
            texts.extend(flatten_parts((part,)) for part in item.parts)
        else:
            called: JsonObject = {"name": item.name, "arguments": item.arguments}
            calls.append({"id": item.call_id, "type": item.kind, item.kind: called})
    tool_calls = dumps_canonical(calls).decode() if calls else ""
    return [KeyMessage("assistant", normalise_reply("".join(texts)), tool_calls)]


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
