"""Errors as OpenAI says them: one table from kind to status, type and code, and the envelope. Pure.

Statuses decide what OpenAI's SDKs do: they repeat 408, 409, 429 and everything from 500 up, honour
Retry-After, and raise a class of their own for 400, 401, 403, 404 and 429.
"""

from typing import NamedTuple

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps
from gateway.protocols.answers import Answer, retry_headers
from gateway.turn.events import ErrorInfo
from gateway.wire.chat import ErrorEnvelope


class _Row(NamedTuple):
    status: int
    type: str
    code: str | None


_TABLE: dict[ErrorKind, _Row] = {
    ErrorKind.INVALID_REQUEST: _Row(400, "invalid_request_error", None),
    ErrorKind.UNAUTHENTICATED: _Row(401, "invalid_request_error", "invalid_api_key"),
    ErrorKind.FORBIDDEN: _Row(403, "permission_error", "permission_denied"),
    ErrorKind.MODEL_NOT_FOUND: _Row(400, "invalid_request_error", "model_not_found"),
    ErrorKind.CONTEXT_LENGTH: _Row(400, "invalid_request_error", "context_length_exceeded"),
    ErrorKind.RATE_LIMITED: _Row(429, "rate_limit_error", "rate_limit_exceeded"),
    ErrorKind.OVERLOADED: _Row(429, "rate_limit_error", "overloaded"),
    ErrorKind.QUEUE_TIMEOUT: _Row(429, "rate_limit_error", "queue_timeout"),
    ErrorKind.UPSTREAM_UNAVAILABLE: _Row(503, "server_error", "service_unavailable"),
    ErrorKind.UPSTREAM_TIMEOUT: _Row(504, "upstream_error", "upstream_timeout"),
    ErrorKind.UPSTREAM_EOF: _Row(502, "upstream_error", "upstream_eof"),
    ErrorKind.UPSTREAM_PROTOCOL: _Row(502, "upstream_error", "upstream_error"),
    ErrorKind.WORKER_LOST: _Row(502, "upstream_error", "worker_lost"),
    ErrorKind.STORE_UNAVAILABLE: _Row(503, "server_error", "store_unavailable"),
    ErrorKind.STORE_DATA_LOSS: _Row(503, "server_error", "store_data_loss"),
    ErrorKind.CONTENT_FILTERED: _Row(400, "invalid_request_error", "content_filter"),
    # Not an HTTP standard but what proxies log for it; below 500, so that no SDK runs the turn again.
    ErrorKind.CANCELLED: _Row(499, "cancelled", "cancelled"),
    ErrorKind.INTERNAL: _Row(500, "server_error", "internal_error"),
}


def envelope(error: ErrorInfo) -> ErrorEnvelope:
    row = _TABLE[error.kind]
    return {
        "error": {
            "message": error.message,
            "type": row.type,
            "param": error.param,
            "code": error.code or row.code,
        }
    }


def error_answer(error: ErrorInfo, *, status: int | None = None) -> Answer:
    return Answer(
        status=_TABLE[error.kind].status if status is None else status,
        body=dumps(envelope(error)),
        headers=retry_headers(error),
    )
