import inspect

from gateway.kernel import errors
from gateway.kernel.errors import ErrorKind, GatewayError


def test_every_kind_that_is_raised_by_itself_has_its_class() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, GatewayError)]
    assert {c.kind for c in classes} == set(ErrorKind) - {ErrorKind.CONTEXT_LENGTH}


def test_the_tree_is_drawn_in_the_docstring() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, GatewayError)]
    drawn = errors.__doc__ or ""
    assert [c.__name__ for c in classes if c.__name__ not in drawn] == []


def test_an_error_shows_only_its_message() -> None:
    error = errors.InvalidRequest("bad role", param="messages.0.role")
    assert str(error) == "bad role"
    assert error.param == "messages.0.role"
    assert not error.retryable
