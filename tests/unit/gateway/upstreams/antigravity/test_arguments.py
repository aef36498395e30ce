import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject
from gateway.upstreams.antigravity.arguments import decoded, equal_but_for_defaults, schemas_in

SCHEMA: JsonObject = {
    "properties": {
        "path": {"type": "string"},
        "limit": {"default": 10},
        "flags": {"default": {"all": False}, "properties": {"all": {"default": False}, "deep": {}}},
        "list": {"items": {"properties": {"n": {"default": 1}}}},
    }
}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "a"}, {"path": "a"}),
        ({"path": "a", "limit": 10}, {"path": "a"}),
        ({"path": "a", "limit": 10.0}, {"path": "a"}),
        ({"path": "a"}, {"limit": 10, "path": "a"}),
        ({"flags": {"all": False}}, {}),
        ({"flags": {}}, {}),
        ({"flags": {"all": False, "deep": 1}}, {"flags": {"deep": 1}}),
        ({"list": [{"n": 1}, {"n": 2}]}, {"list": [{}, {"n": 2}]}),
        ('{"path":"a"}', {"path": "a", "limit": 10}),
    ],
)
def test_members_that_equal_their_default_are_left_aside(one: Json, other: Json) -> None:
    assert equal_but_for_defaults(one, other, SCHEMA)
    assert equal_but_for_defaults(other, one, SCHEMA)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"path": "a"}, {"path": "b"}),
        ({"limit": 11}, {}),
        ({"limit": "10"}, {}),
        ({"limit": True}, {}),
        ({"other": 10}, {}),
        ({"path": None}, {}),
        ({"flags": {"all": True}}, {}),
        ({"list": []}, {}),
        ([{"n": 1}], [{}]),
        ("x", {}),
    ],
)
def test_anything_else_makes_a_difference(one: Json, other: Json) -> None:
    assert not equal_but_for_defaults(one, other, SCHEMA)


def nested(value: Json, depth: int) -> Json:
    for _ in range(depth):
        value = {"a": value}
    return value


def test_defaults_in_defaults_in_defaults_are_worked_out_once() -> None:
    schema: JsonObject = {}
    for depth in range(60):
        schema = {"default": nested(1, depth), "properties": {"a": schema}}
    assert equal_but_for_defaults({"x": nested(2, 60)}, {"x": nested(2, 60)}, {"properties": {"x": schema}})
    assert not equal_but_for_defaults({"x": nested(2, 60)}, {"x": 3}, {"properties": {"x": schema}})


def test_a_schema_nested_too_deep_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        equal_but_for_defaults({}, {"a": 1}, {"properties": {"a": {"default": nested(1, 300)}}})


def test_arguments_in_a_text_are_read_where_they_are_json() -> None:
    assert decoded('{"a":1}') == {"a": 1}
    assert decoded("7") == 7
    assert decoded("{") == "{"
    assert decoded({"a": "1"}) == {"a": "1"}
    deep = "[" * 300 + "]" * 300
    assert decoded(deep) == deep


def test_schemas_are_found_in_the_forms_of_clients() -> None:
    body: JsonObject = {
        "tools": [
            {"name": " a ", "input_schema": {"n": 1}},
            {"type": "function", "function": {"name": "b", "parameters": {"n": 2}}},
            {"name": "c", "input_schema": None, "parametersJsonSchema": {"n": 3}},
            {"name": "a", "input_schema": {"n": 4}},
            {"name": "", "input_schema": {}},
            {"name": "d"},
            "x",
        ]
    }
    assert schemas_in(body) == {"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 3}}
    assert schemas_in({}) == schemas_in({"tools": {"name": "a"}}) == {}
