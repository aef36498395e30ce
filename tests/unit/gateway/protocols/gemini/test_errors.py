from typing import Any

import pytest
from google.genai.errors import APIError, ClientError, ServerError

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import loads
from gateway.protocols.gemini.errors import envelope, error_answer
from gateway.turn.events import ErrorInfo


def told(kind: ErrorKind, status: int | None = None, **fields: Any) -> tuple[int, dict[str, str], Any]:
    answer = error_answer(ErrorInfo(kind=kind, message="oh", **fields), status=status)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    body: Any = loads(answer.body)
    return answer.status, headers, body["error"]


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_has_a_status_that_the_sdk_raises(kind: ErrorKind) -> None:
    status, _, error = told(kind)
    assert error.keys() == {"code", "message", "status", "details"}
    assert (error["code"], error["message"]) == (status, "oh")
    with pytest.raises(ClientError if status < 500 else ServerError) as raised:
        APIError.raise_error(status, {"error": error}, None)
    assert (raised.value.code, raised.value.status, raised.value.message) == (status, error["status"], "oh")


@pytest.mark.parametrize(
    ("kind", "status", "word"),
    [
        (ErrorKind.INVALID_REQUEST, 400, "INVALID_ARGUMENT"),
        (ErrorKind.UNAUTHENTICATED, 401, "UNAUTHENTICATED"),
        (ErrorKind.FORBIDDEN, 403, "PERMISSION_DENIED"),
        (ErrorKind.MODEL_NOT_FOUND, 404, "NOT_FOUND"),
        (ErrorKind.RATE_LIMITED, 429, "RESOURCE_EXHAUSTED"),
        (ErrorKind.QUEUE_TIMEOUT, 429, "RESOURCE_EXHAUSTED"),
        (ErrorKind.UPSTREAM_UNAVAILABLE, 503, "UNAVAILABLE"),
        (ErrorKind.UPSTREAM_TIMEOUT, 504, "DEADLINE_EXCEEDED"),
        (ErrorKind.INTERNAL, 500, "INTERNAL"),
    ],
)
def test_the_words_are_googles(kind: ErrorKind, status: int, word: str) -> None:
    code, _, error = told(kind)
    assert (code, error["status"]) == (status, word)


def test_a_cancelled_turn_has_a_status_that_no_client_repeats() -> None:
    assert told(ErrorKind.CANCELLED)[0] == 409


@pytest.mark.parametrize(
    ("status", "word"),
    [(404, "NOT_FOUND"), (405, "UNIMPLEMENTED"), (413, "INVALID_ARGUMENT"), (501, "UNIMPLEMENTED")],
)
def test_statuses_of_http_itself_have_their_words(status: int, word: str) -> None:
    code, _, error = told(ErrorKind.INVALID_REQUEST, status)
    assert (code, error["code"], error["status"]) == (status, status, word)


def test_the_reason_is_for_programs() -> None:
    def reason(kind: ErrorKind, code: str | None = None) -> object:
        return told(kind, code=code)[2]["details"][0]

    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    assert reason(ErrorKind.QUEUE_TIMEOUT) == {
        "@type": kind,
        "reason": "QUEUE_TIMEOUT",
        "domain": "lingma-gateway",
    }
    assert reason(ErrorKind.UNAUTHENTICATED)["reason"] == "API_KEY_INVALID"  # type: ignore[index]
    assert reason(ErrorKind.INVALID_REQUEST, "invalid_type")["reason"] == "INVALID_TYPE"  # type: ignore[index]


def test_the_field_at_fault_is_named() -> None:
    _, _, error = told(ErrorKind.INVALID_REQUEST, param="contents.0.role")
    assert error["details"][1] == {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "fieldViolations": [{"field": "contents.0.role", "description": "oh"}],
    }


def test_the_wait_is_told_to_people_and_to_programs() -> None:
    _, headers, error = told(ErrorKind.QUEUE_TIMEOUT, retry_after_s=1.2)
    assert headers == {"retry-after": "2"}
    assert error["details"][1] == {
        "@type": "type.googleapis.com/google.rpc.RetryInfo",
        "retryDelay": "2s",
    }


def test_nothing_is_said_that_is_not_known() -> None:
    assert told(ErrorKind.QUEUE_TIMEOUT)[1] == {}
    assert len(told(ErrorKind.QUEUE_TIMEOUT, retry_after_s=float("inf"))[2]["details"]) == 1
    assert envelope(ErrorInfo(kind=ErrorKind.INTERNAL, message="m"))["error"]["code"] == 500
