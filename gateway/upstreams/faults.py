"""What an HTTP upstream did wrong, judged: what the client is told, how the turn goes on, who is to rest."""

from typing import Final

import msgspec

from gateway.kernel.errors import (
    ErrorKind,
    GatewayError,
    InvalidRequest,
    RateLimited,
    UpstreamProtocol,
    UpstreamUnavailable,
)
from gateway.turn.events import ErrorInfo
from gateway.turn.ports import Again

LIMITS: Final = frozenset({"rate_limited", "usage_limit"})
"""Reasons of rests that are the client's own doing as much as anybody's."""


class Rest(msgspec.Struct, frozen=True):
    """A credential that should be left alone."""

    for_s: float
    reason: str
    model_only: bool = False
    """The credential is fine, but not for this model."""
    soft: bool = False
    """It may be asked all the same when nobody else is there: it only failed, nobody forbade it."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """The class of the fault, for logs and metrics."""
    info: ErrorInfo
    again: Again = "no"
    rest: Rest | None = None
    signature: bool = False
    """The upstream rejected reasoning that it was given back: what replay remembers is of no use."""


def error_of(info: ErrorInfo) -> GatewayError:
    """The same as an exception, for what happened before any content."""
    match info.kind:
        case ErrorKind.RATE_LIMITED:
            kind: type[GatewayError] = RateLimited
        case ErrorKind.UPSTREAM_UNAVAILABLE:
            kind = UpstreamUnavailable
        case ErrorKind.INVALID_REQUEST:
            kind = InvalidRequest
        case _:
            kind = UpstreamProtocol
    error = kind(info.message, param=info.param, code=info.code, retry_after_s=info.retry_after_s)
    error.kind = info.kind
    error.retryable = info.retryable
    return error
