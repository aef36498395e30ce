"""Errors as Anthropic says them: one table from kind to status and type, and the envelope. Pure.

Statuses decide what Anthropic's clients do: the SDKs repeat 408, 409, 429 and everything from 500 up; Claude
Code waits and repeats on 429, 529 and 5xx, shows 404 as a problem with the model, and gives up on 400 and
403. An envelope has no place for the field at fault: the message names it.
"""

from typing import NamedTuple

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, retry_headers
from gateway.turn.events import ErrorInfo
from gateway.wire.messages import ErrorEnvelope


class _Row(NamedTuple):
    status: int
    type: str


_TABLE: dict[ErrorKind, _Row] = {
    ErrorKind.INVALID_REQUEST: _Row(400, "invalid_request_error"),
    ErrorKind.UNAUTHENTICATED: _Row(401, "authentication_error"),
    ErrorKind.FORBIDDEN: _Row(403, "permission_error"),
    ErrorKind.MODEL_NOT_FOUND: _Row(404, "not_found_error"),
    ErrorKind.CONTEXT_LENGTH: _Row(400, "invalid_request_error"),
    ErrorKind.RATE_LIMITED: _Row(429, "rate_limit_error"),
    ErrorKind.OVERLOADED: _Row(429, "rate_limit_error"),
    ErrorKind.QUEUE_TIMEOUT: _Row(429, "rate_limit_error"),
    ErrorKind.UPSTREAM_UNAVAILABLE: _Row(529, "overloaded_error"),
    ErrorKind.UPSTREAM_TIMEOUT: _Row(504, "timeout_error"),
    ErrorKind.UPSTREAM_EOF: _Row(502, "api_error"),
    ErrorKind.UPSTREAM_PROTOCOL: _Row(502, "api_error"),
    ErrorKind.WORKER_LOST: _Row(502, "api_error"),
    ErrorKind.STORE_UNAVAILABLE: _Row(529, "overloaded_error"),
    ErrorKind.STORE_DATA_LOSS: _Row(500, "api_error"),
    ErrorKind.CONTENT_FILTERED: _Row(400, "invalid_request_error"),
    # Not an HTTP standard but what proxies log for it; below 500, so that no SDK runs the turn again.
    ErrorKind.CANCELLED: _Row(499, "api_error"),
    ErrorKind.INTERNAL: _Row(500, "api_error"),
}

_HTTP_TYPES = {404: "not_found_error", 408: "timeout_error", 413: "request_too_large"}
"""Of statuses that are HTTP's alone; any other keeps the type of its kind."""

_TOO_LONG = "prompt is too long"
"""What Claude Code looks for in a message to know that it should shorten the conversation."""


def envelope(error: ErrorInfo, *, status: int | None = None) -> ErrorEnvelope:
    message = error.message
    if error.kind is ErrorKind.CONTEXT_LENGTH and _TOO_LONG not in message.lower():
        message = f"{_TOO_LONG}: {message}"
    kind = _HTTP_TYPES.get(status or 0, _TABLE[error.kind].type)
    return {"type": "error", "error": {"type": kind, "message": message}}


def error_answer(error: ErrorInfo, *, status: int | None = None) -> Answer:
    return Answer(
        status=_TABLE[error.kind].status if status is None else status,
        body=dumps(envelope(error, status=status)),
        headers=retry_headers(error),
    )
