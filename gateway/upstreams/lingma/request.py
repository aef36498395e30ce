"""Build chat/ask parameters from a turn. Pure.

A fresh ask carries the whole conversation as one role-labelled transcript, a follow-up in a session only the
newest user message. Lingma takes text alone: media become placeholders and sampling is its own, each recorded
as a loss.
"""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.turn.flatten import flatten_parts, flatten_parts_with_losses
from gateway.turn.items import Item, Message, OpaqueItem, Reasoning, ToolCall, ToolResult
from gateway.turn.losses import Loss
from gateway.turn.request import Sampling, Turn
from gateway.turn.tools import ToolSpec, function_parameters
from gateway.upstreams.lingma.structured import instruction, wants_json

AskMode: TypeAlias = Literal["chat", "agent"]

AGENT_MODELS: Final = frozenset({"agent", "lingma-agent"})


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One chat/ask, ready to send."""

    params: bytes
    """JSON object."""
    prompt: str
    session_id: str
    is_reply: bool


class ToolPolicy(msgspec.Struct, frozen=True, kw_only=True):
    forward: bool = True
    """Put the client's tools into the ask."""
    allowlist: tuple[str, ...] | None = None
    """Names that may be offered; None allows all, an empty tuple none."""

    def offered(self, turn: Turn) -> tuple[ToolSpec, ...]:
        """The tools of the turn that Lingma is told of."""
        if not self.forward or turn.tool_choice.mode == "none":
            return ()
        own = tuple(tool for tool in turn.tools if tool.kind != "hosted")
        if self.allowlist is None:
            return own
        return tuple(tool for tool in own if tool.name in self.allowlist)


def ask_mode(turn: Turn, default: AskMode) -> AskMode:
    """Agent for the agent model names and whenever tools are in play, else the operator's default."""
    if turn.model.lower() in AGENT_MODELS or turn.tools_mentioned:
        return "agent"
    return default


def transcript(items: Sequence[Item]) -> str:
    """The conversation as one prompt: `role: text` paragraphs, or the bare text of a lone user message."""
    lines = [line for item in items if (line := _line(item)) is not None]
    if len(items) == 1 and isinstance(items[0], Message) and items[0].role == "user":
        return flatten_parts(items[0].parts)
    return "\n\n".join(lines)


def _line(item: Item) -> str | None:
    match item:
        case Message():
            return f"{item.role}: {flatten_parts(item.parts)}"
        case ToolCall():
            return f"assistant: [tool_call {item.call_id}] {item.name} {item.arguments}"
        case ToolResult():
            failed = "(error) " if item.is_error else ""
            return f"tool: [tool_result {item.call_id}] {failed}{flatten_parts(item.parts) or '(empty)'}"
        case Reasoning() | OpaqueItem():
            return None


def has_text(items: Sequence[Item]) -> bool:
    """Whether anything is asked at all: Lingma refuses an empty question."""
    return any(
        flatten_parts(item.parts).strip()
        if isinstance(item, Message | ToolResult)
        else isinstance(item, ToolCall)
        for item in items
    )


def last_user_text(items: Sequence[Item]) -> str:
    """The newest user message, flattened."""
    last = items[-1] if items else None
    return flatten_parts(last.parts) if isinstance(last, Message) else ""


def build_ask(
    turn: Turn,
    *,
    model: str,
    mode: AskMode,
    request_id: str,
    session_id: str,
    is_reply: bool,
    tools: Sequence[ToolSpec],
) -> Ask:
    """The parameters of chat/ask. The prompt stands in every place that some version of Lingma reads."""
    prompt = _prompt(turn, is_reply=is_reply)
    extra: JsonObject = {"modelConfig": {"key": model}}
    params: JsonObject = {
        "requestId": request_id,
        "sessionId": session_id,
        "sessionType": "chat" if mode == "chat" else "ask",
        "chatTask": "FREE_INPUT" if mode == "chat" else "chat",
        "mode": mode,
        "stream": True,
        "source": 1,
        "isReply": is_reply,
        "taskDefinitionType": "system",
        "questionText": prompt,
        "text": prompt,
        "content": prompt,
        "chatContext": {"text": prompt, "preferredLanguage": "", "localeLang": ""},
        "extra": extra,
        "codeLanguage": "",
        "targetAgent": "",
        "pluginPayloadConfig": {"isEnableAutoMemory": False},
        "shellType": "",
        "customModel": None,
        "closeTypewriter": True,
    }
    if tools:
        offered: Json = [_tool(tool) for tool in tools]
        choice = _choice(turn)
        extra["tools"], extra["toolChoice"] = offered, choice
        params["tools"], params["toolChoice"] = offered, choice
    return Ask(params=dumps(params), prompt=prompt, session_id=session_id, is_reply=is_reply)


def _prompt(turn: Turn, *, is_reply: bool) -> str:
    prompt = last_user_text(turn.items) if is_reply else transcript(turn.items)
    wanted = instruction(turn.output_format)
    if not wanted:
        return prompt
    last = turn.items[-1]
    asked_by_user = isinstance(last, Message) and last.role == "user"
    return f"{prompt}\n\n{wanted}" if asked_by_user else f"{prompt}\n\nuser: {wanted}"


def _tool(tool: ToolSpec) -> JsonObject:
    function: JsonObject = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if (parameters := function_parameters(tool)) is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


def _choice(turn: Turn) -> Json:
    choice = turn.tool_choice
    if choice.mode == "named" and choice.names:
        return {"type": "function", "function": {"name": choice.names[0]}}
    return choice.mode


_SAMPLING = tuple(Sampling.__struct_fields__)


def losses_of(turn: Turn, tools: ToolPolicy) -> list[Loss]:
    """What Lingma will not honour of this turn."""
    losses: list[Loss] = []
    for index, item in enumerate(turn.items):
        if isinstance(item, Message | ToolResult):
            losses.extend(flatten_parts_with_losses(item.parts, f"messages.{index}.content")[1])
        if isinstance(item, Message) and item.name:
            losses.append(Loss(f"messages.{index}.name", "unsupported"))
    losses.extend(
        Loss(name, "unsupported") for name in _SAMPLING if getattr(turn.sampling, name) not in (None, ())
    )
    if wants_json(turn.output_format):
        losses.append(Loss("response_format", "asked-in-prompt"))
    if turn.reasoning is not None and turn.reasoning.effort is not None:
        losses.append(Loss("reasoning_effort", "unsupported"))
    if turn.reasoning is not None and turn.reasoning.budget_tokens is not None:
        losses.append(Loss("reasoning_budget", "unsupported"))
    losses.extend(Loss(f"tools.{tool.name}", "unsupported") for tool in turn.tools if tool.kind == "hosted")
    if any(tool.kind != "hosted" for tool in turn.tools):
        # Lingma is told of them, but what it calls does not come back to the client.
        if tools.offered(turn):
            losses.append(Loss("tools", "calls-not-returned"))
        elif turn.tool_choice.mode != "none":
            losses.append(Loss("tools", "not-forwarded"))
    if turn.tool_choice.mode in ("required", "named"):
        losses.append(Loss("tool_choice", "unsupported"))
    return losses
