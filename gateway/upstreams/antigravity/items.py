"""Parts of a Gemini answer to items of a turn, and what it says of its tokens. Pure.

A call keeps the upstream's id in its origin, and its signature. Where replay takes part, clients are given an
id that proves, when it comes back, that the call is unchanged; else they are given the upstream's.
"""

from typing import Final

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.turn.items import Message, OpaqueItem, Origin, Reasoning, TextPart, ToolCall
from gateway.turn.usage import Usage, sound
from gateway.upstreams.antigravity.history import args_of, claude_call_id, id_of, name_of
from gateway.upstreams.antigravity.names import ClientTools, made_call_id

MARKS: Final = frozenset(
    {
        "thought",
        "thoughtSignature",
        "thought_signature",
        "extra_content",
        "partMetadata",
        "videoMetadata",
        "mediaResolution",
    }
)
"""Members that say something about a part, but are not what it holds."""


class ItemReader:
    """Makes items of one answer."""

    def __init__(self, *, turn_id: str, executor: str, tools: ClientTools, proves: bool) -> None:
        """proves: ids are resolved by replay when they come back."""
        self._turn_id = turn_id
        self._executor = executor
        self._tools = tools
        self._proves = proves
        self._calls = 0

    def call(self, call: JsonObject, signature: str, item_id: str) -> ToolCall:
        upstream_id, name, args = id_of(call), name_of(call), args_of(call)
        self._calls += 1
        call_id = claude_call_id(upstream_id, name, args) if self._proves else upstream_id
        custom = self._tools.is_custom(name)
        return ToolCall(
            call_id=call_id or upstream_id or made_call_id(self._turn_id, self._calls),
            name=self._tools.name(name),
            arguments=_free_text(args) if custom else dumps(args).decode(),
            kind="custom" if custom else "function",
            id=item_id,
            origin=self._origin(signature, upstream_id),
        )

    def message(
        self, text: str, annotations: tuple[JsonObject, ...], signature: str, item_id: str
    ) -> Message:
        origin = self._origin(signature) if signature else None
        return Message(role="assistant", parts=(TextPart(text, annotations),), id=item_id, origin=origin)

    def reasoning(self, text: str, signature: str, item_id: str) -> Reasoning:
        """What Gemini shows of its thoughts are summaries of them."""
        return Reasoning(
            summary=(text,) if text else (),
            signature=signature or None,
            id=item_id,
            origin=self._origin(signature),
        )

    def opaque(self, part: JsonObject, item_id: str) -> OpaqueItem:
        kind = next((name for name in part if name not in MARKS), "unknown")
        return OpaqueItem(dialect="gemini", type=kind, payload=part, id=item_id, origin=self._origin(""))

    def _origin(self, signature: str, upstream_id: str = "") -> Origin:
        return Origin(
            executor=self._executor, dialect="gemini", id=upstream_id or None, signature=signature or None
        )


def _free_text(args: Json) -> str:
    """Of a custom tool, which was offered as a function with one `input`."""
    if isinstance(args, dict) and list(args) == ["input"] and isinstance(text := args["input"], str):
        return text
    return dumps(args).decode()


def code_text(part: JsonObject) -> str | None:
    """Code that the upstream ran, and what came of it, as a reader would see them."""
    if isinstance(code := part.get("executableCode"), dict):
        language = code.get("language")
        named = language.lower() if isinstance(language, str) else ""
        return f"\n```{named}\n{_str(code.get('code'))}\n```\n"
    if isinstance(result := part.get("codeExecutionResult"), dict):
        return f"\n```\n{_str(result.get('output')) or _str(result.get('outcome'))}\n```\n"
    return None


def _str(value: Json) -> str:
    return value if isinstance(value, str) else ""


def usage_of(value: Json) -> Usage | None:
    """Google counts thoughts apart from the answer, and what its tools read apart from the prompt."""
    if not isinstance(value, dict) or not value:
        return None
    prompt, tools = _count(value, "promptTokenCount"), _count(value, "toolUsePromptTokenCount")
    answer, thoughts = _count(value, "candidatesTokenCount"), _count(value, "thoughtsTokenCount")
    return sound(
        Usage(
            input_tokens=_sum(prompt, tools),
            output_tokens=_sum(answer, thoughts),
            cached_tokens=_count(value, "cachedContentTokenCount"),
            reasoning_tokens=thoughts,
        )
    )


def _count(value: JsonObject, name: str) -> int | None:
    figure = value.get(name)
    return figure if isinstance(figure, int) and not isinstance(figure, bool) else None


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None and other is None else (one or 0) + (other or 0)
