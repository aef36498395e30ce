"""Errors as Google says them: one table from kind to HTTP status and status word, and the envelope. Pure.

Statuses decide what Google's clients do: the SDKs, when they are told to repeat at all, repeat 408, 429 and
5xx; Gemini CLI gives up on 400, takes another model on 404, and repeats 429, 499 and 5xx. Details are there
where they say something that the message does not: the field at fault, how long to wait, and the code in a
form for programs.
"""

import math
from typing import Final, NamedTuple

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import Json, dumps
from gateway.protocols.answers import Answer, retry_after
from gateway.turn.events import ErrorInfo
from gateway.wire.gemini import ErrorEnvelope

DOMAIN: Final = "lingma-gateway"
"""Whose reasons the details give."""

_TYPE: Final = "type.googleapis.com/google.rpc."


class _Row(NamedTuple):
    code: int
    status: str


_TABLE: dict[ErrorKind, _Row] = {
    ErrorKind.INVALID_REQUEST: _Row(400, "INVALID_ARGUMENT"),
    ErrorKind.UNAUTHENTICATED: _Row(401, "UNAUTHENTICATED"),
    ErrorKind.FORBIDDEN: _Row(403, "PERMISSION_DENIED"),
    ErrorKind.MODEL_NOT_FOUND: _Row(404, "NOT_FOUND"),
    ErrorKind.CONTEXT_LENGTH: _Row(400, "INVALID_ARGUMENT"),
    ErrorKind.RATE_LIMITED: _Row(429, "RESOURCE_EXHAUSTED"),
    ErrorKind.OVERLOADED: _Row(429, "RESOURCE_EXHAUSTED"),
    ErrorKind.QUEUE_TIMEOUT: _Row(429, "RESOURCE_EXHAUSTED"),
    ErrorKind.UPSTREAM_UNAVAILABLE: _Row(503, "UNAVAILABLE"),
    ErrorKind.UPSTREAM_TIMEOUT: _Row(504, "DEADLINE_EXCEEDED"),
    ErrorKind.UPSTREAM_EOF: _Row(502, "UNAVAILABLE"),
    ErrorKind.UPSTREAM_PROTOCOL: _Row(502, "UNAVAILABLE"),
    ErrorKind.WORKER_LOST: _Row(502, "UNAVAILABLE"),
    ErrorKind.STORE_UNAVAILABLE: _Row(503, "UNAVAILABLE"),
    ErrorKind.STORE_DATA_LOSS: _Row(500, "DATA_LOSS"),
    ErrorKind.CONTENT_FILTERED: _Row(400, "FAILED_PRECONDITION"),
    # Google's own status is 499 CANCELLED, which Gemini CLI repeats.
    ErrorKind.CANCELLED: _Row(409, "ABORTED"),
    ErrorKind.INTERNAL: _Row(500, "INTERNAL"),
}

_HTTP_STATUSES: Final = {
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    501: "UNIMPLEMENTED",
}
"""Of statuses that are HTTP's alone; any other keeps the word of its kind."""


def envelope(error: ErrorInfo, *, status: int | None = None) -> ErrorEnvelope:
    row = _TABLE[error.kind]
    code = row.code if status is None else status
    word = row.status if code == row.code else _HTTP_STATUSES.get(code, row.status)
    return {"error": {"code": code, "message": error.message, "status": word, "details": _details(error)}}


def error_answer(error: ErrorInfo, *, status: int | None = None) -> Answer:
    body = envelope(error, status=status)
    return Answer(status=body["error"]["code"], body=dumps(body), headers=retry_after(error))


_REASONS: Final = {
    ErrorKind.UNAUTHENTICATED: "API_KEY_INVALID",
    ErrorKind.RATE_LIMITED: "RATE_LIMIT_EXCEEDED",
}
"""Google's own words, where it has one for the kind; else ours are as good."""


def _details(error: ErrorInfo) -> list[Json]:
    reason = (error.code or _REASONS.get(error.kind) or error.kind.value).upper()
    details: list[Json] = [{"@type": f"{_TYPE}ErrorInfo", "reason": reason, "domain": DOMAIN}]
    if error.param is not None:
        violation: Json = {"field": error.param, "description": error.message}
        details.append({"@type": f"{_TYPE}BadRequest", "fieldViolations": [violation]})
    if error.retry_after_s is not None and math.isfinite(error.retry_after_s):
        delay = max(1, math.ceil(error.retry_after_s))
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{delay}s"})
    return details
