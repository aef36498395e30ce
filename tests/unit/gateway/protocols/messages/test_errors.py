from typing import Any

import pytest
from anthropic.types.shared import ErrorResponse

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import loads
from gateway.protocols.messages.errors import error_answer
from gateway.turn.events import ErrorInfo

EXPECTED = {
    ErrorKind.INVALID_REQUEST: (400, "invalid_request_error"),
    ErrorKind.UNAUTHENTICATED: (401, "authentication_error"),
    ErrorKind.FORBIDDEN: (403, "permission_error"),
    ErrorKind.MODEL_NOT_FOUND: (404, "not_found_error"),
    ErrorKind.CONTEXT_LENGTH: (400, "invalid_request_error"),
    ErrorKind.RATE_LIMITED: (429, "rate_limit_error"),
    ErrorKind.OVERLOADED: (429, "rate_limit_error"),
    ErrorKind.QUEUE_TIMEOUT: (429, "rate_limit_error"),
    ErrorKind.UPSTREAM_UNAVAILABLE: (529, "overloaded_error"),
    ErrorKind.UPSTREAM_TIMEOUT: (504, "timeout_error"),
    ErrorKind.UPSTREAM_EOF: (502, "api_error"),
    ErrorKind.UPSTREAM_PROTOCOL: (502, "api_error"),
    ErrorKind.WORKER_LOST: (502, "api_error"),
    ErrorKind.STORE_UNAVAILABLE: (529, "overloaded_error"),
    ErrorKind.STORE_DATA_LOSS: (500, "api_error"),
    ErrorKind.CONTENT_FILTERED: (400, "invalid_request_error"),
    ErrorKind.CANCELLED: (499, "api_error"),
    ErrorKind.INTERNAL: (500, "api_error"),
}


@pytest.mark.parametrize("kind", [kind for kind in ErrorKind if kind is not ErrorKind.CONTEXT_LENGTH])
def test_every_kind_has_its_status_and_type(kind: ErrorKind) -> None:
    status, error_type = EXPECTED[kind]
    answer = error_answer(ErrorInfo(kind=kind, message="why"))
    assert answer.status == status
    assert loads(answer.body) == {"type": "error", "error": {"type": error_type, "message": "why"}}
    assert answer.headers == ((b"x-should-retry", b"false"),)
    ErrorResponse.model_validate_json(answer.body)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("9 tokens are too many", "prompt is too long: 9 tokens are too many"),
        ("Prompt is too long: 9 tokens > 8 maximum", "Prompt is too long: 9 tokens > 8 maximum"),
    ],
)
def test_a_conversation_that_is_too_long_is_told_in_the_words_that_claude_code_knows(
    said: str, told: str
) -> None:
    answer = error_answer(ErrorInfo(kind=ErrorKind.CONTEXT_LENGTH, message=said))
    assert answer.status == 400
    assert loads(answer.body) == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": told},
    }


def test_the_time_to_wait_is_a_header() -> None:
    answer = error_answer(ErrorInfo(kind=ErrorKind.QUEUE_TIMEOUT, message="full", retry_after_s=1.2))
    assert answer.headers == ((b"retry-after", b"2"),)


@pytest.mark.parametrize(
    ("status", "error_type"),
    [
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (408, "timeout_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
    ],
)
def test_statuses_of_http_alone_have_fitting_types(status: int, error_type: str) -> None:
    answer = error_answer(ErrorInfo(kind=ErrorKind.INVALID_REQUEST, message="why"), status=status)
    body: Any = loads(answer.body)
    assert (answer.status, body["error"]["type"]) == (status, error_type)
