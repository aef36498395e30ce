"""Errors of a Gemini upstream, as an HTTP answer or inside a stream, judged. Pure.

The first rule that fits decides. What concerns the request goes back to the client with Google's words and
the field at fault, and blames nobody; what concerns a credential rests it and moves the turn on. The
operator's credential and project are never the client's: a refusal of them is told as an upstream that is not
available.

Where it cannot be told whether a request or a credential is meant, the rest is a soft one, so that the bad
request of one client takes no credential from others.

Quotas are counted by model. One that is used up names its reason, or a wait of minutes; one of requests a
minute names a short wait; and some say nothing at all, which forbids nothing.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import Json, JsonError, JsonObject, loads
from gateway.telemetry.redact import redact_text
from gateway.turn.events import ErrorInfo
from gateway.upstreams.faults import (
    AUTH_REST_S,
    FAILURE_REST_S,
    LEAST_REST_S,
    LIMIT_REST_S,
    MODEL_REST_S,
    Fault,
    Rest,
    gatekeeper,
)

USED_UP_REST_S: Final = 30 * 60.0
"""Of a quota that does not say when it is filled again."""
USED_UP_S: Final = 300.0
"""A wait from which on a limit is a quota that is used up."""
INSTANT_S: Final = 3.0
"""A wait below which the credential may be asked again although it said so."""
MAX_MESSAGE: Final = 2000
NO_DETAILS: Final = "The upstream failed without saying why"

_TYPE: Final = "type.googleapis.com/google.rpc."
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_RETRY_IN: Final = re.compile(r"please retry in ([0-9.smh]+?)\.?(?:\s|$)", re.IGNORECASE)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PROJECT: Final = re.compile(r"\b(?:project_number:|projects?/|project )[\w-]*\d[\w-]*|\bconsumer '[^']*'")
_NO_CAPACITY: Final = ("no capacity available", "model_capacity_exhausted")
_CONTEXT: Final = ("exceeds the maximum number of tokens", "payload size exceeds", "context length")
_MODEL: Final = ("models/", "model ", "publisher model ", "the model ")
"""What begins a message about a model that is not there."""
_ENTITY: Final = "requested entity was not found"
"""All that Code Assist says of a model that is not there, and of anything else."""
_FILE: Final = re.compile(r"\bfiles?\b[ /]")
_KEY: Final = ("api key not valid", "api key expired", "api key not found", "user location is not supported")
"""What begins a message about the credential or where it is used from."""
_KEY_REASONS: Final = ("API_KEY_INVALID", "API_KEY_EXPIRED")


class Said(NamedTuple):
    """An error's own words."""

    status: int
    """The HTTP status, or the code inside a stream; 0 when there is none."""
    word: str
    """Google's status word, such as `RESOURCE_EXHAUSTED`."""
    message: str
    reason: str
    field: str | None
    """Of the request, where the error names one."""
    delay_s: float | None
    """How long to wait, where the error says it itself."""
    daily: bool
    """The quota is counted by the day."""
    quota_tokens: int | None
    """The least quota that is reached, where it is one of a minute's input."""
    text: str
    """Everything, lower case, for what is told by words alone."""


def read_error(body: bytes | JsonObject, status: int = 0) -> Said:
    """From an HTTP body or a chunk of a stream; either may be a list of one."""
    value: Json = body if isinstance(body, dict) else _read(body)
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    if isinstance(value, list) and value:
        value = value[0]
    error = value.get("error") if isinstance(value, dict) else value
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = {}
    code = error.get("code")
    if not status and isinstance(code, int) and not isinstance(code, bool):
        status = code
    message = _text(error, "message").strip() or _text(error, "status")
    reason, field, delay_s, daily, quota_tokens = "", None, None, False, None
    for detail in _details(error):
        match _text(detail, "@type").removeprefix(_TYPE):
            case "ErrorInfo":
                reason = _text(detail, "reason").upper()
                metadata = detail.get("metadata")
                if delay_s is None and isinstance(metadata, dict):
                    delay_s = _duration(_text(metadata, "quotaResetDelay"))
            case "RetryInfo":
                delay_s = _duration(_text(detail, "retryDelay"))
            case "BadRequest":
                field = _field(detail)
            case "QuotaFailure":
                daily = "perday" in str(detail).lower()
                quota_tokens = _quota_tokens(detail)
            case _:
                pass
    if delay_s is None and (told := _RETRY_IN.search(message)) is not None:
        delay_s = _duration(told[1])
    word = _text(error, "status").upper()
    message = message[:MAX_MESSAGE]
    return Said(status, word, message, reason, field, delay_s, daily, quota_tokens, text.lower())


def _read(body: bytes) -> Json:
    try:
        return loads(body)
    except JsonError:
        return None


def _details(error: JsonObject) -> Iterator[JsonObject]:
    details = error.get("details")
    yield from (one for one in (details if isinstance(details, list) else []) if isinstance(one, dict))


def _text(value: JsonObject, name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _field(detail: JsonObject) -> str | None:
    violations = detail.get("fieldViolations")
    for violation in violations if isinstance(violations, list) else []:
        if isinstance(violation, dict) and (field := _text(violation, "field")):
            return field
    return None


def _quota_tokens(detail: JsonObject) -> int | None:
    violations = detail.get("violations")
    found = [
        int(value)
        for violation in (violations if isinstance(violations, list) else [])
        if isinstance(violation, dict) and "InputTokens" in _text(violation, "quotaId")
        if (value := _text(violation, "quotaValue")).isascii() and value.isdecimal() and len(value) < 16
    ]
    return min(found, default=None)


def _duration(text: str) -> float | None:
    """`3.5s`, `850ms`, `1h2m3s`."""
    pieces = _DURATION.findall(text)
    if not pieces or "".join(number + unit for number, unit in pieces) != text:
        return None
    return float(sum(float(number) * _UNITS[unit] for number, unit in pieces))


# -- rules ------------------------------------------------------------------------------------------------


def classify(said: Said, *, retry_after_s: float | None = None, asked_tokens: int = 0) -> Fault:
    """`retry_after_s` is the header's; what the body says is more exact. `asked_tokens`: about how long the
    request was.
    """
    wait_s = retry_after_s if said.delay_s is None else said.delay_s
    if said.quota_tokens is not None and asked_tokens > said.quota_tokens and not said.daily:
        # It alone is more than a minute's tokens: no wait helps, but another credential may have more.
        info = _info(ErrorKind.RATE_LIMITED, said, None, wait_s)
        return Fault(name="request_too_large", info=info, again="next")
    for rule in (_gatekeeper, _signature, _context, _refused, _limit, _no_capacity, _model, _request):
        if (fault := rule(said, wait_s)) is not None:
            return fault
    return _failure(said, wait_s)


def refuses_signature(status: int, text: str) -> bool:
    """Whether an error is about a signature: `thoughtSignature`, `Corrupted thought signature.`, in whatever
    spelling. Broad on purpose: the words change, and a chain that is given up without need costs one turn's
    reasoning, one that is kept costs every turn.
    """
    return status == 400 and "signature" in text.lower()


def moves_on(fault: Fault) -> bool:
    """Whether another address of the same upstream may do better with the same credential."""
    return fault.name in ("rate_limited", "usage_limit", "no_capacity")


def _info(kind: ErrorKind, said: Said, code: str | None = None, wait_s: float | None = None) -> ErrorInfo:
    retryable = kind not in (ErrorKind.INVALID_REQUEST, ErrorKind.CONTEXT_LENGTH)
    return ErrorInfo(
        kind=kind,
        message=_PROJECT.sub("[redacted]", redact_text(said.message)) or NO_DETAILS,
        code=code,
        param=None if retryable else said.field,
        retryable=retryable,
        retry_after_s=wait_s,
    )


def _gatekeeper(said: Said, wait_s: float | None) -> Fault | None:
    return gatekeeper(said.status, said.text)


def _signature(said: Said, wait_s: float | None) -> Fault | None:
    if not refuses_signature(said.status, said.text):
        return None
    info = _info(ErrorKind.INVALID_REQUEST, said, "thinking_signature_invalid")
    return Fault(name="thinking_signature_invalid", info=info, signature=True)


def _context(said: Said, wait_s: float | None) -> Fault | None:
    worded = said.status in (0, 400) and any(words in said.text for words in _CONTEXT)
    if said.status != 413 and not worded:
        return None
    info = _info(ErrorKind.CONTEXT_LENGTH, said, "context_length_exceeded")
    return Fault(name="context_too_large", info=info)


def _refused(said: Said, wait_s: float | None) -> Fault | None:
    """Somebody else's file is refused in the same words, and is the client's to mend. Errors quote requests,
    so nothing rests for words that the client could have written.
    """
    words = said.reason in _KEY_REASONS or said.message.lower().startswith(_KEY)
    if said.status not in (401, 402, 403) and not words:
        return None
    if said.status == 403 and not words and _FILE.search(said.message.lower()):
        return Fault(name="invalid_request", info=_info(ErrorKind.INVALID_REQUEST, said))
    info = ErrorInfo(
        kind=ErrorKind.UPSTREAM_UNAVAILABLE,
        message="The upstream refused the gateway's credential",
        code="auth_unavailable",
        retryable=True,
    )
    # A 403 may be about what was asked for as much as about who asks.
    maybe = said.status == 403 and not words
    rest = Rest(AUTH_REST_S, "credential_refused", model_only=maybe, soft=maybe)
    return Fault(name="auth_unavailable", info=info, again="next", rest=rest, settled=True)


def _limit(said: Said, wait_s: float | None) -> Fault | None:
    if said.status != 429 and said.word != "RESOURCE_EXHAUSTED":
        return None
    if any(words in said.text for words in _NO_CAPACITY):
        return _no_capacity(said, wait_s)
    used_up = (
        said.reason == "QUOTA_EXHAUSTED"
        or "quota_exhausted" in said.text
        or "quota exhausted" in said.text
        or said.daily
        or (wait_s is not None and wait_s >= USED_UP_S)
    )
    if used_up:
        rest = Rest(wait_s or USED_UP_REST_S, "usage_limit", model_only=True)
        info = _info(ErrorKind.RATE_LIMITED, said, "usage_limit_reached", wait_s)
        return Fault(name="usage_limit", info=info, again="next", rest=rest)
    soft = wait_s is None or wait_s < INSTANT_S
    rest_s = LIMIT_REST_S if wait_s is None else wait_s or LEAST_REST_S
    rest = Rest(rest_s, "rate_limited", model_only=True, soft=soft)
    info = _info(ErrorKind.RATE_LIMITED, said, None, wait_s)
    return Fault(name="rate_limited", info=info, again="next", rest=rest)


def _no_capacity(said: Said, wait_s: float | None) -> Fault | None:
    if said.status not in (0, 429, 500, 503) or not any(words in said.text for words in _NO_CAPACITY):
        return None
    info = _info(ErrorKind.UPSTREAM_UNAVAILABLE, said, "no_capacity", wait_s)
    rest = Rest(wait_s or FAILURE_REST_S, "no_capacity", model_only=True, soft=True)
    return Fault(name="no_capacity", info=info, again="next", rest=rest)


def _model(said: Said, wait_s: float | None) -> Fault | None:
    if said.status != 404:
        return None
    message = said.message.lower()
    named, unsaid = message.startswith(_MODEL), message.startswith(_ENTITY)
    if _FILE.search(message):
        return Fault(name="invalid_request", info=_info(ErrorKind.INVALID_REQUEST, said))
    if said.word == "NOT_FOUND" and not (named or unsaid):
        # Something else that the request names, which another credential may know.
        info = _info(ErrorKind.INVALID_REQUEST, said)
        return Fault(name="invalid_request", info=info, again="next")
    if not (named or unsaid):
        info = ErrorInfo(
            kind=ErrorKind.UPSTREAM_PROTOCOL,
            message="The upstream has no such endpoint",
            code="endpoint_not_found",
        )
        rest = Rest(FAILURE_REST_S, "no_endpoint", soft=True)
        return Fault(name="no_endpoint", info=info, again="next", rest=rest)
    info = ErrorInfo(
        kind=ErrorKind.MODEL_NOT_FOUND,
        message="The upstream does not offer this model to the gateway",
        code="model_not_found",
        param="model",
    )
    rest = Rest(MODEL_REST_S, "model_unsupported", model_only=True, soft=unsaid)
    return Fault(name="model_unsupported", info=info, again="next", rest=rest, settled=True)


def _request(said: Said, wait_s: float | None) -> Fault | None:
    if not 400 <= said.status < 500 or said.status in (408, 499):
        return None
    return Fault(name="invalid_request", info=_info(ErrorKind.INVALID_REQUEST, said))


def _failure(said: Said, wait_s: float | None) -> Fault:
    overloaded = said.status == 503 or said.word == "UNAVAILABLE" or "overloaded" in said.text
    late = said.status in (408, 504) or said.word == "DEADLINE_EXCEEDED"
    kind = ErrorKind.UPSTREAM_UNAVAILABLE if overloaded else ErrorKind.UPSTREAM_PROTOCOL
    info = _info(ErrorKind.UPSTREAM_TIMEOUT if late else kind, said, None, wait_s)
    rest = Rest(wait_s or FAILURE_REST_S, "failing", model_only=overloaded, soft=True)
    return Fault(name="upstream_failed", info=info, again="next", rest=rest)
