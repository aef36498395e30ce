import pytest

from gateway.kernel.errors import ErrorKind
from gateway.turn.events import ErrorInfo, error_info
from gateway.upstreams.faults import error_of


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_an_error_says_as_an_exception_what_it_says_as_an_event(kind: ErrorKind) -> None:
    info = ErrorInfo(
        kind=kind,
        message="m",
        retryable=kind is ErrorKind.RATE_LIMITED,
        retry_after_s=3.0,
        code="c",
        param="p",
    )
    assert error_info(error_of(info)) == info
