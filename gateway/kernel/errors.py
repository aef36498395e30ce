"""The error tree. Neutral: no HTTP, no dialect. Each protocol maps `kind` to its status and envelope once.

GatewayError
├── InvalidRequest          the client's input; `param` names the field
│   ├── InstanceNotFound    an operator named an instance that nobody has
│   └── InstanceAmbiguous   an operator named an instance that several workers have
├── Unauthenticated
├── Forbidden
├── Disabled                a part of the gateway that nobody has configured
├── ModelNotFound
├── RateLimited             a per-key limit
├── QueueTimeout            waited for a slot too long; `retry_after_s`
├── Overloaded              the queue itself is full; `retry_after_s`
├── UpstreamError
│   ├── UpstreamUnavailable nobody could take the turn (no instance, no login, connection refused)
│   ├── UpstreamTimeout     `phase` says which wait
│   ├── UpstreamEof         ended without a terminal event
│   └── UpstreamProtocol    said something that makes no sense, or refused the request
├── WorkerLost              the process that ran the turn is gone
├── StoreError
│   ├── StoreUnavailable    the store did not answer
│   ├── StoreRefused        the store answered that it cannot do this; `word` begins its answer
│   ├── StoreForbidden      the store's user lacks rights that nothing works without: a fault of configuration
│   ├── StoreDataLoss       the store answered and no longer has what it had
│   └── CasUnsupported      this server has no compare-and-swap (latched)
├── InvalidKVArgument       a caller's mistake, found before the store was asked
├── ContentFiltered
├── TurnWasCancelled
└── Internal
"""

from enum import StrEnum


class ErrorKind(StrEnum):
    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MODEL_NOT_FOUND = "model_not_found"
    CONTEXT_LENGTH = "context_length"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    QUEUE_TIMEOUT = "queue_timeout"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_EOF = "upstream_eof"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    WORKER_LOST = "worker_lost"
    STORE_UNAVAILABLE = "store_unavailable"
    STORE_DATA_LOSS = "store_data_loss"
    CONTENT_FILTERED = "content_filtered"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


COMPACTION_UNSUPPORTED = "compaction_unsupported"
"""The code of the error where nobody can compact a conversation for its client."""


class GatewayError(Exception):
    """Base of everything we raise on purpose. `str(error)` is safe to show to a client."""

    kind = ErrorKind.INTERNAL
    retryable = False
    """A client may send the same request again and hope."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        """The request field at fault, such as `messages.0.role`."""
        self.code = code
        """A more precise code than the kind, shown where the protocol has a place for it."""
        self.retry_after_s = retry_after_s


class InvalidRequest(GatewayError):
    kind = ErrorKind.INVALID_REQUEST


class InstanceNotFound(InvalidRequest):
    pass


class InstanceAmbiguous(InvalidRequest):
    pass


class Unauthenticated(GatewayError):
    kind = ErrorKind.UNAUTHENTICATED


class Forbidden(GatewayError):
    kind = ErrorKind.FORBIDDEN


class Disabled(GatewayError):
    kind = ErrorKind.UPSTREAM_UNAVAILABLE


class ModelNotFound(GatewayError):
    kind = ErrorKind.MODEL_NOT_FOUND


class RateLimited(GatewayError):
    kind = ErrorKind.RATE_LIMITED
    retryable = True


class QueueTimeout(GatewayError):
    kind = ErrorKind.QUEUE_TIMEOUT
    retryable = True


class Overloaded(GatewayError):
    kind = ErrorKind.OVERLOADED
    retryable = True


class UpstreamError(GatewayError):
    retryable = True


class UpstreamUnavailable(UpstreamError):
    kind = ErrorKind.UPSTREAM_UNAVAILABLE


class UpstreamTimeout(UpstreamError):
    kind = ErrorKind.UPSTREAM_TIMEOUT

    def __init__(self, message: str, *, phase: str = "total", retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.phase = phase


class UpstreamEof(UpstreamError):
    kind = ErrorKind.UPSTREAM_EOF


class UpstreamProtocol(UpstreamError):
    kind = ErrorKind.UPSTREAM_PROTOCOL


class WorkerLost(GatewayError):
    kind = ErrorKind.WORKER_LOST
    retryable = True


class StoreError(GatewayError):
    retryable = True


class StoreUnavailable(StoreError):
    kind = ErrorKind.STORE_UNAVAILABLE


class StoreRefused(StoreError):
    """About one command, or about what its key holds: the same command would be refused again."""

    def __init__(self, word: str) -> None:
        super().__init__(f"the store refused a command ({word})")
        self.word = word
        """What the server's answer begins with, such as WRONGTYPE. No code that clients see."""


class StoreForbidden(StoreError):
    retryable = False


class StoreDataLoss(StoreError):
    kind = ErrorKind.STORE_DATA_LOSS


class CasUnsupported(StoreError):
    kind = ErrorKind.STORE_UNAVAILABLE


class InvalidKVArgument(GatewayError, ValueError):
    kind = ErrorKind.INTERNAL


class ContentFiltered(GatewayError):
    kind = ErrorKind.CONTENT_FILTERED


class TurnWasCancelled(GatewayError):
    kind = ErrorKind.CANCELLED


class Internal(GatewayError):
    kind = ErrorKind.INTERNAL
