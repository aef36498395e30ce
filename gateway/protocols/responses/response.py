"""The response object: what it echoes of the request, its usage, its error, and how it ends. Pure.

encode.py puts it into the first and the last events of a stream, `build_response` makes the answer to a
request that does not stream. Fields that nobody asked for carry the defaults that OpenAI gives, but for
`completed_at`: a stream that is resumed has to say the same again, and only a turn's beginning is on record.
"""

from collections.abc import Sequence
from typing import NamedTuple, assert_never, cast

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import JsonObject
from gateway.protocols.responses.objects import as_text, output_of
from gateway.turn.events import ErrorInfo, Finish
from gateway.turn.fold import TurnResult
from gateway.turn.items import Message, TextPart
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from gateway.wire.responses import ErrorOut, IncompleteOut, ItemOut, ResponseOut, Status, UsageOut

CODEX = "codex"
"""What the names of all of Codex' programs begin with."""


def response_id(turn: Turn) -> str:
    """The turn's own id, so that whoever has the one finds the other."""
    return f"resp_{turn.id}"


def is_codex(turn: Turn) -> bool:
    return turn.client.startswith(CODEX)


# -- usage and errors -------------------------------------------------------------------------------------


def usage_out(usage: Usage | None) -> UsageOut | None:
    if usage is None:
        return None
    out: UsageOut = {
        "input_tokens": usage.input_tokens or 0,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens or 0,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.total_tokens or 0,
    }
    if usage.estimated:
        out["estimated"] = True
    return out


_HOPELESS = "invalid_prompt"
"""Codex shows its message and gives up; it repeats what it is told by any code that it does not know."""

_CODES: dict[ErrorKind, str] = {
    ErrorKind.INVALID_REQUEST: _HOPELESS,
    ErrorKind.UNAUTHENTICATED: _HOPELESS,
    ErrorKind.FORBIDDEN: _HOPELESS,
    ErrorKind.MODEL_NOT_FOUND: _HOPELESS,
    ErrorKind.CONTENT_FILTERED: _HOPELESS,
    ErrorKind.CONTEXT_LENGTH: "context_length_exceeded",
    ErrorKind.RATE_LIMITED: "rate_limit_exceeded",
    ErrorKind.OVERLOADED: "rate_limit_exceeded",
    ErrorKind.QUEUE_TIMEOUT: "rate_limit_exceeded",
    ErrorKind.UPSTREAM_UNAVAILABLE: "server_error",
    ErrorKind.UPSTREAM_TIMEOUT: "server_error",
    ErrorKind.UPSTREAM_EOF: "server_error",
    ErrorKind.UPSTREAM_PROTOCOL: "server_error",
    ErrorKind.WORKER_LOST: "server_error",
    ErrorKind.STORE_UNAVAILABLE: "server_error",
    ErrorKind.STORE_DATA_LOSS: "server_error",
    ErrorKind.CANCELLED: "server_error",
    ErrorKind.INTERNAL: "server_error",
}


def error_out(error: ErrorInfo, *, codex: bool) -> ErrorOut:
    """The error of a response that failed after its stream had begun.

    Codex repeats a `server_error` five times, so a failure that no repetition mends is told to it by a code
    that ends the turn. It waits as long as a `rate_limit_exceeded` says in its message.
    """
    code = _CODES[error.kind]
    if codex and code == "server_error" and not error.retryable:
        return {"code": _HOPELESS, "message": error.message}
    message = error.message
    if error.retry_after_s is not None and code in ("server_error", "rate_limit_exceeded"):
        code = "rate_limit_exceeded"
        if "try again in" not in message.lower():
            message = f"{message.rstrip('. ')}. Please try again in {error.retry_after_s:g}s"
    return {"code": code, "message": message}


# -- the response -----------------------------------------------------------------------------------------


def response_out(turn: Turn) -> ResponseOut:
    """The response as it begins: everything it echoes of the request, no output yet."""
    body = turn.raw.body
    sampling = turn.sampling
    return {
        "id": response_id(turn),
        "object": "response",
        "created_at": turn.created_at_ms // 1000,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": cast(str | None, body.get("instructions")),
        "max_output_tokens": sampling.max_output_tokens,
        "max_tool_calls": cast(int | None, body.get("max_tool_calls")),
        "model": turn.model,
        "output": [],
        "parallel_tool_calls": True if turn.parallel_tool_calls is None else turn.parallel_tool_calls,
        "previous_response_id": None,
        "prompt_cache_key": cast(str | None, body.get("prompt_cache_key")),
        "reasoning": _reasoning_echo(body),
        "safety_identifier": cast(str | None, body.get("safety_identifier")),
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
        "presence_penalty": sampling.presence_penalty or 0.0,
        "frequency_penalty": sampling.frequency_penalty or 0.0,
        "text": _text_echo(body),
        "tool_choice": _choice_echo(body),
        "tools": [_tool_echo(cast(JsonObject, tool)) for tool in cast(list[object], body.get("tools") or [])],
        "top_logprobs": cast(int, body.get("top_logprobs") or 0),
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "truncation": "auto" if body.get("truncation") == "auto" else "disabled",
        "usage": None,
        "user": cast(str | None, body.get("user")),
        "metadata": _metadata_echo(body),
    }


def _metadata_echo(body: JsonObject) -> JsonObject:
    """The schema knows only texts as values."""
    metadata = cast(JsonObject, body.get("metadata") or {})
    return {key: as_text(value) for key, value in metadata.items()}


_SUMMARIES = ("auto", "concise", "detailed")
"""What the schema knows; clients also say that they want none."""
_VERBOSITIES = ("low", "medium", "high")


def _reasoning_echo(body: JsonObject) -> JsonObject:
    wanted = cast(JsonObject, body.get("reasoning") or {})
    summary = wanted.get("summary") or wanted.get("generate_summary")
    return {"effort": wanted.get("effort"), "summary": summary if summary in _SUMMARIES else None}


def _text_echo(body: JsonObject) -> JsonObject:
    wanted = cast(JsonObject, body.get("text") or {})
    format_: JsonObject = {"type": "text"}
    if isinstance(given := wanted.get("format"), dict):
        format_ = given
    if format_.get("type") == "json_schema":
        defaults: JsonObject = {"name": "", "description": None, "strict": False}
        format_ = {**defaults, **{key: value for key, value in format_.items() if value is not None}}
    verbosity = wanted.get("verbosity")
    return {"format": format_, "verbosity": verbosity if verbosity in _VERBOSITIES else "medium"}


def _choice_echo(body: JsonObject) -> str | JsonObject:
    """Flat, as this API writes it, also where the request wrote it nested."""
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        nested = choice.get(str(choice.get("type")))
        return {"type": choice.get("type"), **nested} if isinstance(nested, dict) else choice
    if not isinstance(choice, str):
        return "auto"
    return "required" if choice == "any" else choice


def _tool_echo(tool: JsonObject) -> JsonObject:
    kind = tool.get("type", "function")
    nested = tool.get(str(kind))
    flat = {"type": kind, **nested} if isinstance(nested, dict) else {**tool, "type": kind}
    match kind:
        case "function":
            return {"description": None, "parameters": None, "strict": None, **flat}
        case "namespace":
            return {"description": "", **flat}
        case _:
            return flat


class Ending(NamedTuple):
    """How a response ends."""

    status: Status
    reason: str | None = None
    """Of an incomplete one."""
    error: ErrorOut | None = None


_FILTERED: ErrorOut = {"code": _HOPELESS, "message": "The answer was stopped by a content filter"}


def ending_of(finish: Finish, *, codex: bool) -> Ending:
    """Codex repeats what is incomplete or gives up on it, so a long answer is completed for it as far as it
    goes, and a filtered one fails at once.
    """
    match finish:
        case "stop" | "tool_calls" | "paused":
            return Ending("completed")
        case "length":
            return Ending("completed") if codex else Ending("incomplete", "max_output_tokens")
        case "content_filter":
            return Ending("failed", error=_FILTERED) if codex else Ending("incomplete", "content_filter")
        case _:
            assert_never(finish)


def ended(
    response: ResponseOut, ending: Ending, output: Sequence[ItemOut], usage: Usage | None
) -> ResponseOut:
    """The response at its end."""
    details: IncompleteOut | None = None if ending.reason is None else {"reason": ending.reason}
    return {
        **response,
        "status": ending.status,
        "error": ending.error,
        "incomplete_details": details,
        "output": list(output),
        "usage": usage_out(usage),
    }


def last_incomplete(output: Sequence[ItemOut]) -> list[ItemOut]:
    """The output of an answer that was cut: its last item is not whole."""
    if not output or "status" not in output[-1]:
        return list(output)
    return [*output[:-1], cast(ItemOut, {**output[-1], "status": "incomplete"})]


def build_response(turn: Turn, result: TurnResult) -> ResponseOut:
    """The answer to a request that did not stream; for a result that ended well."""
    ending = ending_of(result.finish or "stop", codex=is_codex(turn))
    output = output_of(turn, result.items)
    if ending.status == "incomplete":
        output = last_incomplete(output)
    response = ended(response_out(turn), ending, output, result.usage)
    response["output_text"] = "".join(
        part.text
        for item in result.items
        if isinstance(item, Message)
        for part in item.parts
        if isinstance(part, TextPart)
    )
    return response
