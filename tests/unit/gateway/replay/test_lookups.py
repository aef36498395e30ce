import pytest

from gateway.kernel.json import Json
from gateway.replay.lookups import at, object_in, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", ""),
        (" a ", " a "),
        (True, "true"),
        (False, "false"),
        (7, "7"),
        (12345678901234567890, "12345678901234567890"),
        (1.5, "1.5"),
        (2.0, "2"),
        (1e22, "10000000000000000000000"),
        ([1, "a"], '[1,"a"]'),
        ({"a": None}, '{"a":null}'),
    ],
)
def test_everything_has_a_text(value: Json, text: str) -> None:
    assert text_of(value) == text


def test_a_path_that_leads_nowhere_gives_nothing() -> None:
    body: Json = {"a": {"b": 1, "c": [{"d": 1}]}}
    assert at(body, "a", "b") == 1
    assert at(body) == body
    for path in (("x",), ("a", "x"), ("a", "b", "c"), ("a", "c", "d")):
        assert at(body, *path) is None
    assert at("text", "a") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "1", "null", '"a"'])
def test_only_an_object_is_found_in_a_text(text: str) -> None:
    assert object_in(text) == {}
    assert object_in(' {"a": 1} ') == {"a": 1}
