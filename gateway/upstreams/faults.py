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

AUTH_REST_S: Final = 30 * 60.0
LIMIT_REST_S: Final = 10.0
"""Of a limit that does not say how long it lasts."""
LEAST_REST_S: Final = 1.0
FAILURE_REST_S: Final = 20.0
MODEL_REST_S: Final = 12 * 3600.0
LIMITS: Final = frozenset({"rate_limited", "usage_limit"})
"""Reasons of rests that are the client's own doing as much as anybody's."""


class Rest(msgspec.Struct, frozen=True):
    """A credential that should be left alone."""

    for_s: float
    reason: str
    model_only: bool = False
    """The credential is fine, but not for this model."""
    soft: bool = False
    """It may be asked all the same when nobody else is there: it only failed, nobody forbade it; or what was
    forbidden may have been that one request, and the next one shows whether it was."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """The class of the fault, for logs and metrics."""
    info: ErrorInfo
    again: Again = "no"
    rest: Rest | None = None
    settled: bool = False
    """The same request would meet the same, however often it is asked."""
    signature: bool = False
    """The upstream rejected reasoning that it was given back: what replay remembers is of no use."""

    @property
    def may_pass(self) -> bool:
        """Whether the same credential may do better a moment later."""
        return self.rest is not None and self.rest.soft and not self.settled


_PAGES: Final = ("<!doctype html", "<html")


def gatekeeper(status: int | None, text: str) -> Fault | None:
    """Who stands before the upstream has answered in its place: a proxy that wants to be told who asks, or a
    page for people instead of an API's words. Neither says anything of the credential.
    """
    page = status == 403 and text.lstrip().lower().startswith(_PAGES)
    if status != 407 and not page:
        return None
    who = "A proxy before the upstream" if status == 407 else "A web page in the upstream's place"
    info = ErrorInfo(
        kind=ErrorKind.UPSTREAM_UNAVAILABLE,
        message=f"{who} refused the request",
        code="upstream_unreachable",
        retryable=True,
    )
    rest = Rest(FAILURE_REST_S, "gatekeeper", soft=True)
    return Fault(name="gatekeeper", info=info, again="next", rest=rest)


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
