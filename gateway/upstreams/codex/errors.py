"""Errors of a Responses upstream, as an HTTP answer or inside a stream, judged. Pure.

The first rule that fits decides. What concerns the request goes back to the client and blames nobody; what
concerns a credential rests it and moves the turn on. The operator's credential is never the client's: an
upstream's 401 is told as an upstream that is not available.

Errors quote requests. So nothing rests for words that a client could have written: a rest follows from a
status, a code, or words that the message begins with. Nor does anything rest for an error that names a field
of the request: one client's bad request would take every credential from all others. Where it cannot be told
who is meant, the rest is a soft one.
"""

import re
from collections.abc import Mapping
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

MAX_MESSAGE: Final = 2000
ITEM_MISSING: Final = "item_missing"
"""The fault of a request that names an item which was stored elsewhere, or not at all."""
NO_DETAILS: Final = "upstream stream failed without error details"

_CONTEXT_CODES = frozenset({"context_length_exceeded", "context_too_large"})
_CONTEXT_WORDS = ("context length", "context_length", "maximum context", "too many tokens")
_CAPACITY_WORDS = ("selected model is at capacity", "model is at capacity. please try a different model")
_TOKEN_WORDS = ("invalid or expired token", "refresh_token_reused")
_NO_MODEL = re.compile(r"(?:the |this |no such )?(?:requested )?model\b")
"""What begins a message about a model that is not there."""
_NOT_THE_REQUEST = frozenset({401, 402, 403, 404, 405, 407, 408, 421, 425, 429, 499})
"""Statuses between 400 and 500 that say something of the credential, the address or the moment."""
_TOO_LARGE = "request too large"
"""What begins a message about a request that is larger than the limit of a minute."""
_REQUEST_CODES = frozenset(
    {
        "cyber_policy",
        "message_too_big",
        "string_above_max_length",
        "invalid_prompt",
        "invalid_value",
        "unsupported_value",
        "invalid_request_error",
        "invalid_request",
        "bad_request_error",
        "bad_request",
    }
)
_REFUSED_CODES = frozenset(
    {"invalid_api_key", "insufficient_quota", "billing_not_active", "unauthorized", "forbidden"}
)


class Said(NamedTuple):
    """An error's own words, wherever the upstream put them."""

    message: str
    type: str
    code: str
    param: str | None
    status: int | None
    error: JsonObject
    text: str
    """All of it, lower case, for what is told by words alone and rests nobody."""

    @property
    def begins(self) -> str:
        """The message, lower case, for words that it must begin with."""
        return self.message.lower()


def read_error(body: JsonObject | bytes, status: int | None = None) -> Said:
    """From an HTTP body, an `error` event, or a `response.failed` event."""
    value: Json
    if isinstance(body, bytes):
        try:
            value = loads(body)
        except JsonError:
            value = body.decode("utf-8", "replace")
    else:
        value = body
    if not isinstance(value, dict):
        text = body.decode("utf-8", "replace").lower() if isinstance(body, bytes) else ""
        return Said(str(value)[:MAX_MESSAGE].strip() or NO_DETAILS, "", "", None, status, {}, text)
    response = value.get("response")
    error = (response.get("error") if isinstance(response, dict) else None) or value.get("error") or value
    if isinstance(error, str):
        error = {"message": error}
    if not isinstance(error, dict):
        error = {}
    code, kind = _text(error, "code"), _text(error, "type") or _text(error, "error_type")
    if kind in ("error", "response.failed"):
        kind = ""
    message = _text(error, "message") or _text(error, "detail") or _text(value, "detail") or code or kind
    for holder in (error, value):
        found = holder.get("status_code", holder.get("status"))
        if status is None and isinstance(found, int) and not isinstance(found, bool) and 400 <= found <= 599:
            status = found
    return Said(
        message[:MAX_MESSAGE] or NO_DETAILS,
        kind,
        code,
        _text(error, "param") or None,
        status,
        error,
        f"{code} {kind} {message}".lower(),
    )


def _text(value: Mapping[str, Json], name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def classify(said: Said, *, now_s: float, retry_after_s: float | None = None) -> Fault:
    """`retry_after_s` is the header's; `now_s` is Unix time, for limits that name their end."""
    for rule in _RULES:
        if (fault := rule(said, retry_after_s, now_s)) is not None:
            return fault
    return _failure(said, retry_after_s)


def _info(kind: ErrorKind, said: Said, code: str | None = None, **more: float | None) -> ErrorInfo:
    retryable = kind not in (ErrorKind.INVALID_REQUEST, ErrorKind.CONTEXT_LENGTH, ErrorKind.CONTENT_FILTERED)
    return ErrorInfo(
        kind=kind,
        message=redact_text(said.message),
        code=code,
        param=said.param if not retryable else None,
        retryable=retryable,
        retry_after_s=more.get("retry_after_s"),
    )


def _gatekeeper(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    return gatekeeper(said.status, said.text)


def _context(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    worded = said.type in ("", "invalid_request_error") and any(
        words in said.message.lower() for words in _CONTEXT_WORDS
    )
    if said.status != 413 and said.code not in _CONTEXT_CODES and not worded:
        return None
    return Fault(
        name="context_too_large", info=_info(ErrorKind.CONTEXT_LENGTH, said, "context_length_exceeded")
    )


def _signature(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    words = ("invalid_encrypted_content", "invalid signature in thinking block")
    if not any(word in said.text for word in words):
        return None
    info = _info(ErrorKind.INVALID_REQUEST, said, "thinking_signature_invalid")
    return Fault(name="thinking_signature_invalid", info=info, signature=True)


def _previous(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    name = "previous_response_not_found"
    unknown = "previous_response_id" in said.text and "not found" in said.text
    if name not in said.text and not unknown:
        return None
    return Fault(name=name, info=_info(ErrorKind.INVALID_REQUEST, said, name))


def _field(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    """Whatever the status: a tool's own model is not there, a file or a tool's server is not open to us."""
    clients = said.status is None or 400 <= said.status < 500
    if said.param in (None, "model") or not clients:
        return None
    return Fault(name="invalid_request", info=_info(ErrorKind.INVALID_REQUEST, said, said.code or None))


def _model(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    """Without this rule a refusal of one model would rest the credential for all of them."""
    worded = said.status == 404 and _NO_MODEL.match(said.begins) is not None
    if said.code != "model_not_found" and not worded:
        return None
    info = ErrorInfo(
        kind=ErrorKind.MODEL_NOT_FOUND,
        message="The upstream does not offer this model to the gateway",
        code="model_not_found",
        param="model",
    )
    rest = Rest(MODEL_REST_S, "model_unsupported", model_only=True)
    return Fault(name="model_unsupported", info=info, again="next", rest=rest)


def _auth(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    """A 403 may be about what was asked for as much as about who asks: a soft rest, for the model alone."""
    refused = (
        said.status in (401, 402, 403)
        or said.type in ("authentication_error", "permission_error")
        or said.code in _REFUSED_CODES
        or (said.status is None and said.begins.startswith(_TOKEN_WORDS))
    )
    if not refused or said.code in _REQUEST_CODES:
        return None
    info = ErrorInfo(
        kind=ErrorKind.UPSTREAM_UNAVAILABLE,
        message="The upstream refused the gateway's credential",
        code="auth_unavailable",
        retryable=True,
    )
    maybe = said.status == 403 or said.type == "permission_error" or said.code == "forbidden"
    rest = Rest(AUTH_REST_S, "credential_refused", model_only=maybe, soft=maybe)
    return Fault(name="auth_unavailable", info=info, again="next", rest=rest, settled=True)


def _too_large(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    """It alone is more than a minute's tokens: no wait helps, but another credential may have more."""
    if said.status not in (None, 429) or not said.begins.startswith(_TOO_LARGE):
        return None
    return Fault(name="request_too_large", info=_info(ErrorKind.RATE_LIMITED, said), again="next")


def _limit(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    used_up = said.type == "usage_limit_reached" or said.code == "usage_limit_reached"
    full = said.begins.startswith(_CAPACITY_WORDS)
    limited = said.status == 429 or "rate_limit" in said.code or "rate_limit" in said.type
    if not (used_up or full or limited):
        return None
    wait_s = _resets_in(said, now_s) if used_up else None
    wait_s = retry_after_s if wait_s is None else wait_s
    code = "usage_limit_reached" if used_up else None
    info = _info(ErrorKind.RATE_LIMITED, said, code, retry_after_s=wait_s)
    rest_s = LIMIT_REST_S if wait_s is None else wait_s or LEAST_REST_S
    rest = Rest(rest_s, "usage_limit" if used_up else "rate_limited", model_only=full)
    return Fault(name="rate_limited", info=info, again="next", rest=rest)


def _resets_in(said: Said, now_s: float) -> float | None:
    at, left = said.error.get("resets_at"), said.error.get("resets_in_seconds")
    if isinstance(at, int | float) and at > now_s:
        return at - now_s
    return float(left) if isinstance(left, int | float) and left > 0 else None


def _request(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    if said.code == "content_filter" or said.code == "content_policy_violation":
        return Fault(name="content_filtered", info=_info(ErrorKind.CONTENT_FILTERED, said))
    status = said.status or 0
    clients = 400 <= status < 500 and status not in _NOT_THE_REQUEST
    if not clients and not _REQUEST_CODES & {said.code, said.type}:
        return None
    return Fault(name="invalid_request", info=_info(ErrorKind.INVALID_REQUEST, said, said.code or None))


def _item(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    """Something that the client names is not there."""
    if said.status != 404 or not ("not persisted" in said.text or "item with id" in said.text):
        return None
    return Fault(name=ITEM_MISSING, info=_info(ErrorKind.INVALID_REQUEST, said, said.code or None))


def _missing(said: Said, retry_after_s: float | None, now_s: float) -> Fault | None:
    """The very endpoint is not there, or something else that the client names."""
    if said.status not in (404, 405, 501):
        return None
    if said.param is not None or said.code.endswith("_not_found"):
        return Fault(name="invalid_request", info=_info(ErrorKind.INVALID_REQUEST, said, said.code or None))
    info = ErrorInfo(
        kind=ErrorKind.UPSTREAM_PROTOCOL,
        message="The upstream has no such endpoint",
        code="endpoint_not_found",
        retryable=False,
    )
    rest = Rest(FAILURE_REST_S, "no_endpoint", soft=True)
    return Fault(name="no_endpoint", info=info, again="next", rest=rest)


_RULES: Final = (
    *(_gatekeeper, _context, _signature, _previous, _item, _field, _model, _auth),
    *(_too_large, _limit, _missing, _request),
)


def _failure(said: Said, retry_after_s: float | None) -> Fault:
    overloaded = said.status in (503, 529) or "overloaded" in said.text or said.code == "slow_down"
    kind = ErrorKind.UPSTREAM_UNAVAILABLE if overloaded else ErrorKind.UPSTREAM_PROTOCOL
    info = _info(kind, said, retry_after_s=retry_after_s)
    rest = Rest(retry_after_s or FAILURE_REST_S, "failing", soft=True)
    return Fault(name="upstream_failed", info=info, again="next", rest=rest)
