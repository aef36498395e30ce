"""A folded turn as a completion, and what its stream says in the same words. Pure.

Used by encode.py for streams and by routes.py for whole answers, so that both agree: a client that adds up
the chunks of a stream has the completion.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, assert_never

from gateway.kernel.ids import derived_hex
from gateway.turn.events import Finish
from gateway.turn.fold import TurnResult
from gateway.turn.items import Message, Part, Reasoning, RefusalPart, TextPart, ToolCall
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from gateway.wire.chat import (
    AnnotationOut,
    Completion,
    FinishReason,
    Head,
    MessageOut,
    ToolCallOut,
    UsageOut,
)

NO_ARGUMENTS = "{}"
"""What OpenAI's models call a function with that takes none; clients read arguments as JSON."""


def build_completion(turn: Turn, result: TurnResult) -> Completion:
    """The answer to a request that did not stream; for a result that ended well."""
    functions = speaks_functions(turn)
    runnable = any(call.result is None for call in result.tool_calls)
    finish = finish_reason(result.finish or "stop", runnable_calls=runnable, functions=functions)
    return {
        **head(turn, "chat.completion"),
        "choices": [
            {
                "index": 0,
                "message": _message(turn, result, functions=functions),
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": usage_out(result.usage) if result.usage else None,
    }


def _message(turn: Turn, result: TurnResult, *, functions: bool) -> MessageOut:
    parts = [part for item in result.items if isinstance(item, Message) for part in item.parts]
    text, refusal = text_of(parts), refusal_of(parts)
    message: MessageOut = {
        "role": "assistant",
        "content": text if text or not (result.tool_calls or refusal) else None,
        "refusal": refusal or None,
    }
    if reasoning := "".join(reasoning_of(item) for item in result.items if isinstance(item, Reasoning)):
        message["reasoning_content"] = reasoning
    citations = Citations()
    citations.add(parts)
    if citations.found:
        message["annotations"] = citations.found
    if result.tool_calls and functions:
        first = result.tool_calls[0]
        message["function_call"] = {"name": first.name, "arguments": first.arguments or NO_ARGUMENTS}
    elif result.tool_calls:
        custom = custom_tools(turn)
        message["tool_calls"] = [_call_out(call, call.name in custom) for call in result.tool_calls]
    return message


def _call_out(call: ToolCall, custom: bool) -> ToolCallOut:
    if custom:
        return {
            "id": call.call_id,
            "type": "custom",
            "custom": {"name": call.name, "input": call.arguments},
        }
    return {
        "id": call.call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or NO_ARGUMENTS},
    }


# -- what the request asks of the answer ------------------------------------------------------------------


def wants_usage(turn: Turn) -> bool:
    """Whether the client asked for a usage chunk at the end of its stream."""
    options = turn.raw.body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def speaks_functions(turn: Turn) -> bool:
    """Whether the client knows only the functions that preceded tools, and reads its answer in their form."""
    return bool(turn.raw.body.get("functions")) and not turn.raw.body.get("tools")


def custom_tools(turn: Turn) -> frozenset[str]:
    """Names whose calls carry free text: a stream knows no more than the name when a call begins."""
    return frozenset(tool.name for tool in turn.tools if tool.kind == "custom")


# -- what streams and whole answers share -----------------------------------------------------------------


def head(turn: Turn, kind: Literal["chat.completion", "chat.completion.chunk"]) -> Head:
    out: Head = {
        "id": f"chatcmpl-{derived_hex(turn.id, 'chat')}",
        "object": kind,
        "created": turn.created_at_ms // 1000,
        "model": turn.model,
        "system_fingerprint": None,
    }
    if turn.raw.body.get("service_tier") is not None:
        out["service_tier"] = "default"
    return out


def finish_reason(finish: Finish, *, runnable_calls: bool, functions: bool) -> FinishReason:
    """A call that waits for the client makes the turn end with it, whatever the upstream called its end."""
    match finish:
        case "stop" | "tool_calls" | "paused":
            if not runnable_calls and finish != "tool_calls":
                return "stop"
            return "function_call" if functions else "tool_calls"
        case "length" | "content_filter":
            return finish
        case _:
            assert_never(finish)


def usage_out(usage: Usage) -> UsageOut:
    out: UsageOut = {
        "prompt_tokens": usage.input_tokens or 0,
        "completion_tokens": usage.output_tokens or 0,
        "total_tokens": usage.total_tokens or 0,
    }
    if usage.cached_tokens is not None:
        out["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        out["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    if usage.estimated:
        out["estimated"] = True
    return out


def text_of(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def refusal_of(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, RefusalPart))


def reasoning_of(item: Reasoning) -> str:
    """The full text where the upstream shows it, else the summary in paragraphs."""
    return item.text or "\n\n".join(item.summary)


class Citations:
    """The citations of a whole turn. All text of a turn is one content here, so their places move with it."""

    def __init__(self) -> None:
        self.found: list[AnnotationOut] = []
        self.lost = False
        """There were annotations that Chat has no words for."""
        self._length = 0

    def add(self, parts: Sequence[Part]) -> None:
        """The parts of the next message, in order."""
        for part in parts:
            if not isinstance(part, TextPart):
                continue
            for payload in part.annotations:
                url = payload.get("url")
                if payload.get("type") != "url_citation" or not isinstance(url, str):
                    self.lost = True
                    continue
                title = payload.get("title")
                self.found.append(
                    {
                        "type": "url_citation",
                        "url_citation": {
                            "start_index": self._place(payload.get("start_index")),
                            "end_index": self._place(payload.get("end_index")),
                            "title": title if isinstance(title, str) else url,
                            "url": url,
                        },
                    }
                )
            self._length += len(part.text)

    def _place(self, index: object) -> int:
        return self._length + (index if isinstance(index, int) else 0)
