from typing import Any

import pytest

from gateway.kernel.errors import ErrorKind, InvalidRequest, RateLimited, UpstreamUnavailable
from gateway.kernel.json import dumps
from gateway.upstreams.antigravity import errors as antigravity_errors
from gateway.upstreams.codex.errors import classify, read_error
from gateway.upstreams.faults import AUTH_REST_S, FAILURE_REST_S, MODEL_REST_S, Fault, Rest, error_of

NOW = 1_790_000_000.0


def judged(status: int | None, error: Any, **more: Any) -> Fault:
    body = error if isinstance(error, bytes) else dumps({"error": error})
    return classify(read_error(body, status), now_s=NOW, **more)


@pytest.mark.parametrize(
    ("status", "error", "name", "kind"),
    [
        (413, {"message": "x"}, "context_too_large", ErrorKind.CONTEXT_LENGTH),
        (
            400,
            {"code": "context_length_exceeded", "message": "x"},
            "context_too_large",
            ErrorKind.CONTEXT_LENGTH,
        ),
        (400, {"message": "maximum context is 5"}, "context_too_large", ErrorKind.CONTEXT_LENGTH),
        (
            400,
            {"code": "invalid_encrypted_content", "message": "x"},
            "thinking_signature_invalid",
            "invalid_request",
        ),
        (
            400,
            {"message": "No response with previous_response_id, not found"},
            "previous_response_not_found",
            None,
        ),
        (401, {"message": "bad key"}, "auth_unavailable", ErrorKind.UPSTREAM_UNAVAILABLE),
        (403, {"message": "no"}, "auth_unavailable", ErrorKind.UPSTREAM_UNAVAILABLE),
        (429, {"message": "slow"}, "rate_limited", ErrorKind.RATE_LIMITED),
        (
            429,
            {"code": "insufficient_quota", "message": "x"},
            "auth_unavailable",
            ErrorKind.UPSTREAM_UNAVAILABLE,
        ),
        (503, {"message": "Selected model is at capacity"}, "rate_limited", ErrorKind.RATE_LIMITED),
        (400, {"message": "odd field", "param": "input"}, "invalid_request", ErrorKind.INVALID_REQUEST),
        (None, {"code": "cyber_policy", "message": "x"}, "invalid_request", ErrorKind.INVALID_REQUEST),
        (400, {"code": "content_filter", "message": "x"}, "content_filtered", ErrorKind.CONTENT_FILTERED),
        (404, {"message": "no such model"}, "model_unsupported", ErrorKind.MODEL_NOT_FOUND),
        (
            403,
            {"code": "model_not_found", "message": "No access"},
            "model_unsupported",
            ErrorKind.MODEL_NOT_FOUND,
        ),
        (404, b"<html>", "no_endpoint", ErrorKind.UPSTREAM_PROTOCOL),
        (
            404,
            {"message": "Invalid URL (POST /v2/responses)", "type": "invalid_request_error"},
            "no_endpoint",
            ErrorKind.UPSTREAM_PROTOCOL,
        ),
        (
            404,
            {"message": "Item with id 'rs_1' not found.", "type": "invalid_request_error"},
            "item_missing",
            ErrorKind.INVALID_REQUEST,
        ),
        (501, {"message": "not here"}, "no_endpoint", ErrorKind.UPSTREAM_PROTOCOL),
        (404, {"message": "Item with id 'rs_1' not found"}, "item_missing", ErrorKind.INVALID_REQUEST),
        (500, {"message": "oops"}, "upstream_failed", ErrorKind.UPSTREAM_PROTOCOL),
        (503, {"message": "oops"}, "upstream_failed", ErrorKind.UPSTREAM_UNAVAILABLE),
        (
            None,
            {"code": "server_is_overloaded", "message": "x"},
            "upstream_failed",
            ErrorKind.UPSTREAM_UNAVAILABLE,
        ),
        (None, {}, "upstream_failed", ErrorKind.UPSTREAM_PROTOCOL),
        (502, b"<html>bad gateway</html>", "upstream_failed", ErrorKind.UPSTREAM_PROTOCOL),
    ],
)
def test_the_first_rule_that_fits_decides(
    status: int | None, error: Any, name: str, kind: str | None
) -> None:
    fault = judged(status, error)
    assert fault.name == name
    assert kind is None or fault.info.kind == kind


def test_faults_of_the_request_move_nothing_and_rest_nobody() -> None:
    for status, error in [
        (400, {"message": "x"}),
        (413, {}),
        (422, {}),
        (400, {"code": "invalid_encrypted_content"}),
    ]:
        fault = judged(status, error)
        assert (fault.again, fault.rest, fault.info.retryable) == ("no", None, False)


def test_rp_57_a_rejected_blob_is_a_fault_of_its_own() -> None:
    """Given 400 invalid_encrypted_content; expect code thinking_signature_invalid and the purge."""
    fault = judged(
        400,
        {
            "code": "invalid_encrypted_content",
            "message": "The encrypted content gAAA... could not be verified.",
        },
    )
    assert (fault.name, fault.info.code, fault.signature) == ("thinking_signature_invalid",) * 2 + (True,)
    assert fault.info.kind == ErrorKind.INVALID_REQUEST


def test_rp_58_signatures_are_told_from_contexts_inside_a_stream() -> None:
    """Given response.failed with "Invalid signature in thinking block": a purge. Given the code
    context_length_exceeded: the class context_too_large, and none.
    """
    failed = {
        "type": "response.failed",
        "response": {"error": {"message": "Invalid signature in thinking block"}},
    }
    assert classify(read_error(failed), now_s=NOW).signature
    failed = {
        "type": "response.failed",
        "response": {"error": {"code": "context_length_exceeded", "message": "x"}},
    }
    fault = classify(read_error(failed), now_s=NOW)
    assert (fault.name, fault.signature) == ("context_too_large", False)


def test_rp_59_the_context_wins_over_the_signature() -> None:
    """Given code context_length_exceeded and the text invalid_encrypted_content; expect the context class."""
    fault = judged(400, {"code": "context_length_exceeded", "message": "invalid_encrypted_content"})
    assert (fault.name, fault.signature) == ("context_too_large", False)


def test_rp_60_a_used_up_limit_is_429_with_its_wait() -> None:
    """Given usage_limit_reached with resets_in_seconds 90 and status 400; expect 429 and Retry-After 90."""
    fault = judged(400, {"type": "usage_limit_reached", "resets_in_seconds": 90})
    assert (fault.info.kind, fault.info.retry_after_s) == (ErrorKind.RATE_LIMITED, 90)
    assert fault.rest == Rest(90, "usage_limit")
    at = judged(429, {"type": "usage_limit_reached", "resets_at": NOW + 30})
    assert at.info.retry_after_s == 30


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"code": "unknown_parameter", "message": "Unknown parameter: 'invalid or expired token'."}),
        (404, {"message": "Item with id 'rs_model' not found."}),
        (404, {"message": "Vector store 'vs_model' not found.", "param": "vector_store_ids"}),
        (404, {"code": "vector_store_not_found", "message": "No vector store 'vs_model'."}),
        (400, {"message": "Unknown parameter: 'selected model is at capacity'."}),
        (400, {"message": "Unknown parameter: 'refresh_token_reused'."}),
    ],
)
def test_words_that_a_client_could_have_written_rest_nobody(status: int, error: Any) -> None:
    fault = judged(status, error)
    assert (fault.info.kind, fault.rest) == (ErrorKind.INVALID_REQUEST, None)


def test_what_a_failed_response_quotes_of_its_request_means_nothing() -> None:
    response = {
        "error": {"code": "server_error", "message": "The server had an error."},
        "instructions": "invalid or expired token, invalid_encrypted_content, previous_response_not_found",
        "metadata": {"a": "selected model is at capacity"},
    }
    fault = classify(read_error({"type": "response.failed", "response": response}), now_s=NOW)
    assert (fault.name, fault.signature) == ("upstream_failed", False)
    assert fault.rest == Rest(FAILURE_REST_S, "failing", soft=True)


def test_a_refusal_of_what_was_asked_for_rests_that_alone() -> None:
    forbidden = judged(403, {"message": "Project does not have access to model `x`"})
    assert forbidden.rest == Rest(AUTH_REST_S, "credential_refused", model_only=True, soft=True)
    assert forbidden.settled
    assert judged(401, {"message": "x"}).rest == Rest(AUTH_REST_S, "credential_refused")
    assert judged(402, {"message": "x"}).rest == Rest(AUTH_REST_S, "credential_refused")
    expired = judged(None, {"message": "Invalid or expired token."})
    assert expired.rest == Rest(AUTH_REST_S, "credential_refused")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (
            404,
            {"code": "model_not_found", "message": "The model 'x' does not exist", "param": "tools[0].model"},
        ),
        (403, {"message": "No access to file-1", "param": "input[0].content[1].file_id"}),
        (401, {"message": "The server refused the token", "param": "tools[0].authorization"}),
        (424, {"code": "http_error", "message": "Error retrieving the tools of an MCP server"}),
        (None, {"code": "http_error", "message": "x", "param": "tools"}),
        (451, {"message": "not for you"}),
    ],
)
def test_what_names_the_request_rests_nobody_whatever_its_status(status: int | None, error: Any) -> None:
    fault = judged(status, error)
    assert (fault.info.kind, fault.rest, fault.again) == (ErrorKind.INVALID_REQUEST, None, "no")


@pytest.mark.parametrize("status", [408, 421, 425, 499, 500])
def test_what_says_something_of_the_moment_is_no_fault_of_the_request(status: int) -> None:
    assert judged(status, {"message": "x"}).name == "upstream_failed"


def test_a_request_that_is_more_than_a_minutes_tokens_rests_nobody() -> None:
    words = "Request too large for gpt-5.2 in organization org-1 on tokens per min (TPM): Limit 30000"
    error = {"code": "rate_limit_exceeded", "type": "tokens", "message": words}
    for status in (429, None):
        fault = judged(status, error)
        assert (fault.name, fault.again, fault.rest) == ("request_too_large", "next", None)
        assert fault.info.kind == ErrorKind.RATE_LIMITED


def test_the_operators_credential_is_not_the_clients() -> None:
    fault = judged(401, {"message": "Incorrect API key provided: sk-secret"})
    assert "secret" not in fault.info.message
    assert (fault.again, fault.rest) == ("next", Rest(AUTH_REST_S, "credential_refused"))
    assert isinstance(error_of(fault.info), UpstreamUnavailable)


@pytest.mark.parametrize("code", ["unauthorized", "forbidden"])
def test_refusals_inside_a_stream_are_told_by_their_code(code: str) -> None:
    assert judged(None, {"code": code, "message": "no"}).name == "auth_unavailable"
    assert judged(None, {"code": "bad_request", "message": "no"}).name == "invalid_request"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, b"<!DOCTYPE html><title>Just a moment...</title>"),
        (403, b"\n<html><body>Attention Required</body></html>"),
        (407, b"Proxy Authentication Required"),
    ],
)
def test_what_stands_before_the_upstream_says_nothing_of_the_credential(status: int, body: bytes) -> None:
    fault = judged(status, body)
    assert (fault.name, fault.again) == ("gatekeeper", "next")
    assert fault.rest == Rest(FAILURE_REST_S, "gatekeeper", soft=True)
    assert antigravity_errors.classify(antigravity_errors.read_error(body, status)) == fault
    assert "html" not in fault.info.message


def test_a_limit_that_is_over_at_once_rests_a_moment() -> None:
    said = read_error({"error": {"code": "rate_limit_exceeded", "message": "slow"}}, 429)
    assert classify(said, now_s=NOW, retry_after_s=0).rest == Rest(1, "rate_limited")
    assert classify(said, now_s=NOW).rest == Rest(10, "rate_limited")


def test_a_model_that_is_not_offered_rests_alone() -> None:
    fault = judged(404, {"code": "model_not_found", "message": "The model `x` does not exist"})
    assert (fault.again, fault.rest) == (
        "next",
        Rest(MODEL_REST_S, "model_unsupported", model_only=True),
    )
    wrong_address = judged(404, b"not found")
    assert wrong_address.rest == Rest(FAILURE_REST_S, "no_endpoint", soft=True), "an operator may mend it"


def test_a_status_inside_a_stream_counts_and_anything_else_is_no_detail() -> None:
    said = read_error({"type": "error", "status": 429, "message": "slow"})
    assert classify(said, now_s=NOW).name == "rate_limited"
    odd = read_error({"error": ["what"], "status_code": 700})
    assert (odd.message, odd.status, odd.error) == ("upstream stream failed without error details", None, {})


def test_foreign_words_lose_their_secrets() -> None:
    assert "sk-abcdefghij" not in judged(500, {"message": "key sk-abcdefghij failed"}).info.message


def test_waits_of_the_header_are_passed_on() -> None:
    fault = judged(503, {"message": "later"}, retry_after_s=7)
    assert fault.info.retry_after_s == 7
    assert fault.rest == Rest(7, "failing", soft=True)
    assert isinstance(error_of(judged(429, {"message": "x"}, retry_after_s=3).info), RateLimited)


def test_a_request_fault_keeps_its_field() -> None:
    fault = judged(400, {"message": "odd", "param": "input[0].id", "code": "invalid_value"})
    error = error_of(fault.info)
    assert isinstance(error, InvalidRequest)
    assert (error.param, error.code, error.kind, error.retryable) == (
        "input[0].id",
        "invalid_value",
        ErrorKind.INVALID_REQUEST,
        False,
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"detail":"Unsupported"}', "Unsupported"),
        (b'{"error":"plain"}', "plain"),
        (b"not json", "not json"),
        (b"", "upstream stream failed without error details"),
        (b"[]", "[]"),
        (b'{"error":{"type":"server_error"}}', "server_error"),
    ],
)
def test_a_message_is_found_wherever_it_stands(body: bytes, message: str) -> None:
    assert read_error(body, 500).message == message
