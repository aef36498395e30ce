import pytest
from pydantic import BaseModel, ConfigDict

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.bodies import MAX_VALUES, check, load_object, missing


class Inner(BaseModel):
    model_config = ConfigDict(strict=True)
    kind: str = ""
    size: int | None = None
    mode: str | None = None


class Outer(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str
    parts: str | list[Inner] | None = None
    inner: Inner | str | None = None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"a": 1', "line 1 column"),
        (b'{"a": }', "line 1 column 7"),
        (b'{\n"a": nope}', "line 2 column"),
        (b"", "empty"),
        (b" \n", "empty"),
        (b'{"a": "\xff"}', "not valid UTF-8: byte 7"),
        (b"[]", "not an array"),
        (b'"x"', "not a string"),
        (b"null", "not null"),
        (b"7", "not a number"),
        (b"true", "not a boolean"),
        (b'{"a": NaN}', "line 1 column"),
        (b"[" * 5000, "not valid JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_told_where_it_breaks(body: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load_object(body)
    assert says in caught.value.message
    assert caught.value.param is None


def test_a_json_object_is_given_as_it_is() -> None:
    assert load_object(b' {"b": [1, null], "a": "\xe7\x81\xb5"} ') == {"b": [1, None], "a": "灵"}


@pytest.mark.parametrize(
    ("body", "param", "code", "says"),
    [
        ({}, "name", "missing_required_parameter", "Missing required parameter: 'name'"),
        ({"name": 1}, "name", "invalid_type", "expected a string, but got a number"),
        ({"name": None}, "name", "invalid_type", "got null"),
        ({"name": "n", "parts": 5}, "parts", "invalid_type", "expected a string or an array"),
        ({"name": "n", "parts": [5]}, "parts.0", "invalid_type", "expected an object, but got a number"),
        ({"name": "n", "parts": [{}, {"size": "1"}]}, "parts.1.size", "invalid_type", "expected an integer"),
        ({"name": "n", "parts": [{"size": True}]}, "parts.0.size", "invalid_type", "got a boolean"),
        ({"name": "n", "inner": []}, "inner", "invalid_type", "expected an object or a string"),
        ({"name": "n", "inner": {"kind": {}}}, "inner.kind", "invalid_type", "got an object"),
    ],
)
def test_the_field_at_fault_is_named_by_its_path(
    body: dict[str, object], param: str, code: str, says: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(Outer, body)  # type: ignore[arg-type]
    assert (caught.value.param, caught.value.code) == (param, code)
    assert says in caught.value.message
    assert f"'{param}'" in caught.value.message


def test_what_a_client_wrote_is_not_repeated() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(Outer, {"name": "n", "parts": [{"size": "my secret"}]})
    assert "secret" not in caught.value.message


def test_a_missing_field_is_named() -> None:
    error = missing("a.0.b")
    assert (error.param, error.code) == ("a.0.b", "missing_required_parameter")


def test_a_part_of_a_body_is_named_from_the_top() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(Outer, {"name": "n", "parts": [{"size": "1"}]}, at="input.3")
    assert caught.value.param == "input.3.parts.0.size"
    with pytest.raises(InvalidRequest) as caught:
        check(Outer, {}, at="input.3")
    assert caught.value.param == "input.3.name"


@pytest.mark.parametrize("unit", [b"{}", b"0", b'[""]'])
def test_a_body_of_too_many_values_is_refused(unit: bytes) -> None:
    body = b'{"x":[' + b",".join([unit] * MAX_VALUES) + b"]}"
    with pytest.raises(InvalidRequest, match=f"more than {MAX_VALUES} values"):
        load_object(body)
    load_object(b'{"x":[' + b",".join([b"0"] * (MAX_VALUES - 1)) + b"]}")
