"""Errors that workers report, as the gateway's own, and how a turn goes on after one."""

from gateway.jobs.messages import Finished
from gateway.kernel.errors import (
    ErrorKind,
    GatewayError,
    Overloaded,
    QueueTimeout,
    StoreDataLoss,
    UpstreamEof,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
    WorkerLost,
)
from gateway.telemetry.redact import redact_text
from gateway.turn.ports import Again


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


def again_after(error: GatewayError) -> Again:
    """How a turn may go on whose attempt failed with nothing said."""
    match error:
        case WorkerLost():
            return "retry"
        case QueueTimeout() | Overloaded() | UpstreamUnavailable():
            return "next"  # nobody has taken it
        case _:
            return "no"
