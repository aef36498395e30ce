import pytest

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import loads
from gateway.protocols.openai.errors import error_answer
from gateway.turn.events import ErrorInfo

EXPECTED = {
    ErrorKind.INVALID_REQUEST: (400, "invalid_request_error", None),
    ErrorKind.UNAUTHENTICATED: (401, "invalid_request_error", "invalid_api_key"),
    ErrorKind.FORBIDDEN: (403, "permission_error", "permission_denied"),
    ErrorKind.MODEL_NOT_FOUND: (400, "invalid_request_error", "model_not_found"),
    ErrorKind.CONTEXT_LENGTH: (400, "invalid_request_error", "context_length_exceeded"),
    ErrorKind.RATE_LIMITED: (429, "rate_limit_error", "rate_limit_exceeded"),
    ErrorKind.OVERLOADED: (429, "rate_limit_error", "overloaded"),
    ErrorKind.QUEUE_TIMEOUT: (429, "rate_limit_error", "queue_timeout"),
    ErrorKind.UPSTREAM_UNAVAILABLE: (503, "server_error", "service_unavailable"),
    ErrorKind.UPSTREAM_TIMEOUT: (504, "upstream_error", "upstream_timeout"),
    ErrorKind.UPSTREAM_EOF: (502, "upstream_error", "upstream_eof"),
    ErrorKind.UPSTREAM_PROTOCOL: (502, "upstream_error", "upstream_error"),
    ErrorKind.WORKER_LOST: (502, "upstream_error", "worker_lost"),
    ErrorKind.STORE_UNAVAILABLE: (503, "server_error", "store_unavailable"),
    ErrorKind.STORE_DATA_LOSS: (503, "server_error", "store_data_loss"),
    ErrorKind.CONTENT_FILTERED: (400, "invalid_request_error", "content_filter"),
    ErrorKind.CANCELLED: (499, "cancelled", "cancelled"),
    ErrorKind.INTERNAL: (500, "server_error", "internal_error"),
}


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_has_its_status_type_and_code(kind: ErrorKind) -> None:
    status, error_type, code = EXPECTED[kind]
    answer = error_answer(ErrorInfo(kind=kind, message="why"))
    assert answer.status == status
    assert loads(answer.body) == {
        "error": {"message": "why", "type": error_type, "param": None, "code": code}
    }
    assert answer.headers == ((b"x-should-retry", b"false"),)


def test_a_more_precise_code_and_the_field_at_fault_are_shown() -> None:
    info = ErrorInfo(kind=ErrorKind.INVALID_REQUEST, message="why", code="invalid_type", param="messages.0")
    assert loads(error_answer(info).body) == {
        "error": {
            "message": "why",
            "type": "invalid_request_error",
            "param": "messages.0",
            "code": "invalid_type",
        }
    }


def test_the_time_to_wait_is_a_header() -> None:
    answer = error_answer(ErrorInfo(kind=ErrorKind.QUEUE_TIMEOUT, message="full", retry_after_s=1.2))
    assert answer.headers == ((b"retry-after", b"2"),)


def test_a_status_of_http_alone_overrules_the_table() -> None:
    info = ErrorInfo(kind=ErrorKind.MODEL_NOT_FOUND, message="why")
    assert error_answer(info, status=404).status == 404
