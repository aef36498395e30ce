"""Errors that workers report, as the gateway's own."""

from gateway.jobs.messages import Finished
from gateway.kernel.errors import (
    ErrorKind,
    GatewayError,
    StoreDataLoss,
    UpstreamEof,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.telemetry.redact import redact_text


def error_of(finished: Finished) -> GatewayError:
    """The narrowest error for what a worker said of a failed attempt."""
    message = redact_text(finished.error) or "Lingma failed to answer"
    match finished.error_kind:
        case ErrorKind.UPSTREAM_TIMEOUT:
            return UpstreamTimeout(message)
        case ErrorKind.UPSTREAM_EOF:
            return UpstreamEof(message)
        case ErrorKind.UPSTREAM_UNAVAILABLE:
            return UpstreamUnavailable(message)
        case ErrorKind.STORE_DATA_LOSS:
            return StoreDataLoss(message)
        case _:
            return UpstreamProtocol(message)
