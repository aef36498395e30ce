from typing import Any

import pytest

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps
from gateway.upstreams.antigravity.errors import (
    NO_DETAILS,
    classify,
    moves_on,
    read_error,
    refuses_signature,
)
from gateway.upstreams.faults import MODEL_REST_S, Fault, Rest
from tests.fakes.antigravity_brain import (
    FORBIDDEN,
    NO_CAPACITY,
    OVERLOADED,
    Reply,
    detail,
    error,
    limited,
)
from tests.fakes.antigravity_history import CORRUPTED, INVALID, MISSING
from tests.fakes.antigravity_server import NO_KEY, WRONG_KEY, WRONG_TOKEN


def judged(reply: Reply, *, in_stream: bool = False, retry_after_s: float | None = None) -> Fault:
    assert reply.error is not None
    said = read_error(reply.error) if in_stream else read_error(dumps(reply.error), reply.status)
    return classify(said, retry_after_s=retry_after_s)


def refused(message: str, *details: Any, status: int = 400, word: str = "INVALID_ARGUMENT") -> Reply:
    return error(status, word, message, *details)


# -- the request is at fault ------------------------------------------------------------------------------


@pytest.mark.parametrize("in_stream", [False, True])
def test_a_wrong_request_goes_back_with_googles_words_and_field(in_stream: bool) -> None:
    violation = {"field": "contents[0].parts", "description": "odd"}
    fault = judged(refused("odd", detail("BadRequest", fieldViolations=[violation])), in_stream=in_stream)
    info = fault.info
    assert (fault.name, fault.again, fault.rest) == ("invalid_request", "no", None)
    assert (info.kind, info.message, info.param) == (ErrorKind.INVALID_REQUEST, "odd", "contents[0].parts")
    assert not info.retryable


@pytest.mark.parametrize("text", [CORRUPTED, INVALID, MISSING.format(name="f", position=2)])
def test_a_refused_signature(text: str) -> None:
    fault = judged(refused(text))
    assert (fault.signature, fault.again, fault.rest) == (True, "no", None)
    assert fault.info.kind is ErrorKind.INVALID_REQUEST
    assert not judged(error(500, "INTERNAL", text)).signature, "only with a 400"


@pytest.mark.parametrize(
    ("reply", "name"),
    [
        (
            refused(
                "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576)."
            ),
            "context_too_large",
        ),
        (refused("Request payload size exceeds the limit: 20971520 bytes."), "context_too_large"),
        (refused("too much", status=413), "context_too_large"),
        (refused("no", status=409, word="ABORTED"), "invalid_request"),
        (
            refused(
                "You do not have permission to access the File abc or it may not exist.",
                status=403,
                word="PERMISSION_DENIED",
            ),
            "invalid_request",
        ),
        (refused("File not found: files/abc", status=404, word="NOT_FOUND"), "invalid_request"),
    ],
)
def test_other_faults_of_the_request(reply: Reply, name: str) -> None:
    fault = judged(reply)
    assert (fault.name, fault.again, fault.rest) == (name, "no", None)
    context = name == "context_too_large"
    assert (fault.info.kind is ErrorKind.CONTEXT_LENGTH) == context


def test_what_a_request_names_and_is_not_there_may_be_elsewhere() -> None:
    store = judged(refused("fileSearchStores/model-x not found.", status=404, word="NOT_FOUND"))
    assert (store.name, store.again, store.rest) == ("invalid_request", "next", None)


def test_a_model_that_is_not_there_is_told_from_anything_that_is_not() -> None:
    unsupported = (
        "models/gemini-9 is not found for API version v1beta, or is not supported for generateContent."
    )
    for message, soft in ((unsupported, False), ("Requested entity was not found.", True)):
        fault = judged(refused(message, status=404, word="NOT_FOUND"))
        assert fault.rest == Rest(MODEL_REST_S, "model_unsupported", model_only=True, soft=soft)
        assert (fault.name, fault.again, fault.settled) == ("model_unsupported", "next", True)


@pytest.mark.parametrize(
    ("asked_tokens", "quota_id", "name"),
    [
        (125_001, "GenerateContentInputTokensPerModelPerMinute-FreeTier", "request_too_large"),
        (125_000, "GenerateContentInputTokensPerModelPerMinute-FreeTier", "rate_limited"),
        (900_000, "GenerateRequestsPerMinutePerProjectPerModel", "rate_limited"),
        (900_000, "GenerateContentInputTokensPerModelPerDay-FreeTier", "usage_limit"),
    ],
)
def test_a_request_that_is_more_than_a_minutes_tokens_rests_nobody(
    asked_tokens: int, quota_id: str, name: str
) -> None:
    violation = {"quotaId": quota_id, "quotaValue": "125000"}
    details = (detail("QuotaFailure", violations=[violation]), detail("RetryInfo", retryDelay="20s"))
    reply = error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", *details)
    fault = classify(read_error(dumps(reply.error), 429), asked_tokens=asked_tokens)
    assert (fault.name, fault.again) == (name, "next")
    assert (fault.rest is None) is (name == "request_too_large")
    assert fault.info.kind is ErrorKind.RATE_LIMITED


# -- the credential is at fault ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        NO_KEY,
        WRONG_KEY,
        WRONG_TOKEN,
        FORBIDDEN,
        refused("pay", status=402, word="FAILED_PRECONDITION"),
        refused("User location is not supported for the API use.", word="FAILED_PRECONDITION"),
    ],
)
def test_a_refused_credential_rests_and_is_not_the_clients(reply: Reply) -> None:
    fault = judged(reply)
    assert fault.rest is not None
    assert (fault.name, fault.again, fault.settled) == ("auth_unavailable", "next", True)
    maybe = reply.status == 403
    assert fault.rest == Rest(1800, "credential_refused", model_only=maybe, soft=maybe), (
        "that may be about the model or this one request as much"
    )
    assert fault.info.kind is ErrorKind.UPSTREAM_UNAVAILABLE
    assert fault.info.message == "The upstream refused the gateway's credential"
    assert not moves_on(fault)


# -- limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "name", "for_s", "soft", "wait_s"),
    [
        (limited(reason="QUOTA_EXHAUSTED"), "usage_limit", 1800, False, None),
        (limited(reason="QUOTA_EXHAUSTED", delay="7200s"), "usage_limit", 7200, False, 7200),
        (limited(reason="RATE_LIMIT_EXCEEDED", delay="600s"), "usage_limit", 600, False, 600),
        (limited(reason="RATE_LIMIT_EXCEEDED", delay="59.5s"), "rate_limited", 59.5, False, 59.5),
        (limited(reason="RATE_LIMIT_EXCEEDED", delay="0.85s"), "rate_limited", 0.85, True, 0.85),
        (limited(reason="RATE_LIMIT_EXCEEDED", delay="850ms"), "rate_limited", 0.85, True, 0.85),
        (limited(), "rate_limited", 10, True, None),
        (
            limited(quota="GenerateRequestsPerDayPerProjectPerModel-FreeTier", delay="20s"),
            "usage_limit",
            20,
            False,
            20,
        ),
        (limited(quota="GenerateRequestsPerMinute", delay="20s"), "rate_limited", 20, False, 20),
        (error(429, "RESOURCE_EXHAUSTED", "Quota exhausted, 1h2m"), "usage_limit", 1800, False, None),
        (error(429, "RESOURCE_EXHAUSTED", "Please retry in 45.57s."), "rate_limited", 45.57, False, 45.57),
        (
            error(
                429,
                "RESOURCE_EXHAUSTED",
                "x",
                detail("ErrorInfo", reason="QUOTA_EXHAUSTED", metadata={"quotaResetDelay": "1h1m1s"}),
            ),
            "usage_limit",
            3661,
            False,
            3661,
        ),
    ],
)
@pytest.mark.parametrize("in_stream", [False, True])
def test_limits(
    reply: Reply, name: str, for_s: float, soft: bool, wait_s: float | None, in_stream: bool
) -> None:
    fault = judged(reply, in_stream=in_stream)
    assert fault.rest is not None
    assert (fault.name, fault.again, fault.rest.soft, fault.rest.model_only) == (name, "next", soft, True)
    assert fault.rest.for_s == pytest.approx(for_s)
    assert fault.info.kind is ErrorKind.RATE_LIMITED
    assert fault.info.retry_after_s == (None if wait_s is None else pytest.approx(wait_s))
    assert moves_on(fault)


def test_the_header_says_how_long_where_the_body_does_not() -> None:
    assert judged(limited(), retry_after_s=7).info.retry_after_s == 7
    assert judged(limited(delay="20s"), retry_after_s=7).info.retry_after_s == 20


def test_the_operators_project_is_not_told() -> None:
    message = judged(limited()).info.message
    assert "exceeded your current quota" in message
    assert "123456789012" not in message
    told = judged(refused("https://x.example?key=abc for projects/my-1st in project_number:42")).info.message
    assert "abc" not in told
    assert "my-1st" not in told
    assert "42" not in told


# -- the upstream is at fault -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "name", "kind", "model_only"),
    [
        (NO_CAPACITY, "no_capacity", ErrorKind.UPSTREAM_UNAVAILABLE, True),
        (OVERLOADED, "upstream_failed", ErrorKind.UPSTREAM_UNAVAILABLE, True),
        (error(500, "INTERNAL", "An internal error"), "upstream_failed", ErrorKind.UPSTREAM_PROTOCOL, False),
        (error(504, "DEADLINE_EXCEEDED", "late"), "upstream_failed", ErrorKind.UPSTREAM_TIMEOUT, False),
        (error(499, "CANCELLED", "gone"), "upstream_failed", ErrorKind.UPSTREAM_PROTOCOL, False),
        (
            error(429, "RESOURCE_EXHAUSTED", "No capacity available for model x"),
            "no_capacity",
            ErrorKind.UPSTREAM_UNAVAILABLE,
            True,
        ),
    ],
)
def test_failures_are_soft(reply: Reply, name: str, kind: ErrorKind, model_only: bool) -> None:
    fault = judged(reply)
    assert fault.rest is not None
    assert (fault.name, fault.info.kind, fault.again) == (name, kind, "next")
    assert (fault.rest.soft, fault.rest.model_only, fault.rest.for_s) == (True, model_only, 20)
    assert fault.info.retryable
    assert moves_on(fault) == (name == "no_capacity")


def test_a_model_that_is_not_there_rests_alone() -> None:
    message = "models/x is not found for API version v1beta, or is not supported for generateContent."
    fault = judged(error(404, "NOT_FOUND", message))
    assert fault.rest is not None
    assert (fault.name, fault.rest.model_only, fault.rest.for_s) == ("model_unsupported", True, 12 * 3600)
    assert (fault.info.kind, fault.again) == (ErrorKind.MODEL_NOT_FOUND, "next")


def test_an_endpoint_that_is_not_there() -> None:
    fault = classify(read_error(b"<html>404 page not found</html>", 404))
    assert (fault.name, fault.info.kind) == ("no_endpoint", ErrorKind.UPSTREAM_PROTOCOL)


# -- odd errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b'{"error": null}',
        b'{"error": []}',
        b'{"error": {"code": true, "message": 3, "details": [3, {"@type": 3}]}}',
        b'{"error": {"details": {"a": 1}}}',
    ],
)
def test_errors_of_no_form_are_failures(body: bytes) -> None:
    fault = classify(read_error(body, 502))
    assert (fault.name, fault.info.message) == ("upstream_failed", NO_DETAILS)


def test_an_error_may_be_a_text_or_a_list_of_one() -> None:
    assert read_error(b'{"error": "bad"}', 400).message == "bad"
    assert read_error(b'[{"error": {"code": 400, "message": "bad"}}]').status == 400
    assert classify(read_error(b'{"error": {"status": "RESOURCE_EXHAUSTED"}}')).name == "rate_limited"
    assert len(read_error(b'{"error": {"message": "%b"}}' % (b"x" * 9000), 400).message) == 2000


@pytest.mark.parametrize(
    "said",
    [
        'Invalid JSON payload received. Unknown name "api key not valid": Cannot find field.',
        'Unknown name "api_key_invalid"',
        'Unknown name "user location is not supported"',
    ],
)
def test_words_that_a_client_could_have_written_rest_nobody(said: str) -> None:
    fault = judged(refused(said))
    assert (fault.name, fault.rest, fault.again) == ("invalid_request", None, "no")


@pytest.mark.parametrize(
    ("status", "text", "refused"),
    [
        (400, '{"error":{"message":"Corrupted thought signature.","status":"INVALID_ARGUMENT"}}', True),
        (400, "Invalid thought signature.", True),
        (400, "Function call is missing a thought_signature in functionCall parts", True),
        (400, "contents[1].thoughtSignature: bad", True),
        (400, "THOUGHTSIGNATURE", True),
        (400, "invalid argument", False),
        (400, "", False),
        (500, "Corrupted thought signature.", False),
        (403, "signature", False),
    ],
)
def test_rp_82_which_errors_are_about_a_signature(status: int, text: str, refused: bool) -> None:
    """Given a 400 with `Corrupted thought signature.`, expect the entry given up; given a 500 with the same
    text, expect it kept.
    """
    assert refuses_signature(status, text) is refused
