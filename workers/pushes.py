"""The little that a worker reads of what Lingma pushes: method, session, how it ended, which tool asks.

Everything else passes unread; what an answer means is decided by the gateway. Pure: no I/O. A field of
another type counts as absent: a pipe must not break on content. Called by runner.py.
"""

from dataclasses import dataclass

import msgspec

from gateway.kernel import json
from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import Json, JsonObject

FINISH = "chat/finish"
ERROR = "error/notificationError"
TOOL_METHODS = frozenset({"tool/call/sync", "tool/invoke"})

STATUS_OK = (0, 200)
STATUS_TIMEOUT = 408
MAX_REASON_CHARS = 500


class _Head(msgspec.Struct):
    method: str = ""
    params: msgspec.Raw = msgspec.Raw(b"{}")


_heads = msgspec.json.Decoder(_Head)


@dataclass(frozen=True, slots=True)
class Push:
    """One message, its parameters still as they came."""

    method: str
    raw: msgspec.Raw

    def params(self) -> JsonObject:
        """The parameters, {} when they are no object. Costs a parse: for the few messages that matter."""
        try:
            value = json.loads(bytes(self.raw))
        except json.JsonError:
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class Ending:
    """How the upstream says an answer ended."""

    error: ErrorKind | None
    """None when all went well."""
    message: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolAsk:
    """A native tool call that waits for its client."""

    tool_id: str
    name: str
    result: Json


def read(body: bytes) -> Push:
    """The method and the unread parameters; a body that is no such message has an empty method."""
    try:
        head = _heads.decode(body)
    except msgspec.DecodeError:
        return Push("", msgspec.Raw(b"{}"))
    return Push(head.method, head.params)


def text(params: JsonObject, *names: str) -> str:
    """The first of these fields that is a non-empty string."""
    for name in names:
        value = params.get(name)
        if isinstance(value, str) and value:
            return value
    return ""


def ending(push: Push) -> Ending | None:
    """How the answer ended, or None for a push that ends nothing."""
    if push.method == FINISH:
        return _finish(push.params())
    if push.method == ERROR:
        params = push.params()
        message = (
            text(params, "errorMessage", "errorMsg", "message", "reason") or "the upstream reported an error"
        )
        return Ending(ErrorKind.UPSTREAM_PROTOCOL, message[:MAX_REASON_CHARS], text(params, "sessionId"))
    return None


def _finish(params: JsonObject) -> Ending:
    session_id = text(params, "sessionId")
    reason = text(params, "reason")[:MAX_REASON_CHARS]
    status = params.get("statusCode")
    if reason.lower() == "cancelled":
        # Not by us: who asks for a stop does not read on. Never a success, whatever the status says.
        return Ending(ErrorKind.UPSTREAM_EOF, "the upstream cancelled the answer", session_id)
    if status is None or status in STATUS_OK:
        return Ending(None, "", session_id)
    kind = ErrorKind.UPSTREAM_TIMEOUT if status == STATUS_TIMEOUT else ErrorKind.UPSTREAM_PROTOCOL
    shown = status if isinstance(status, int) else "unknown"
    return Ending(
        kind, f"the upstream ended the answer with status {shown}: {reason or 'no reason'}", session_id
    )


def tool_ask(push: Push) -> ToolAsk | None:
    """The tool call of a push, or None when it names none. An ask without any id has an empty one."""
    if push.method not in TOOL_METHODS:
        return None
    params = push.params()
    source = _tool_object(params)
    tool_id = text(source, "toolCallId", "tool_call_id", "id") or text(params, "toolCallId", "tool_call_id")
    name = (
        text(source, "name", "toolName", "tool_name")
        or text(params, "name", "toolName", "tool_name")
        or "tool"
    )
    return ToolAsk(tool_id, name, source.get("result"))


def _tool_object(params: JsonObject) -> JsonObject:
    """Where a push keeps the tool call: nested under one of several names, in `results`, or in itself."""
    data = params.get("data")
    for holder in (params, data):
        if isinstance(holder, dict):
            for name in ("toolCall", "tool_call", "tool"):
                value = holder.get(name)
                if isinstance(value, dict):
                    return value
    results = params.get("results")
    if isinstance(results, list) and not text(params, "toolCallId", "tool_call_id"):
        for value in results:
            if isinstance(value, dict):
                return value
    return params
