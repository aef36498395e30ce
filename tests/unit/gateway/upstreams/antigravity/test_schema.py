"""What is left of JSON Schema, judged by the fake upstream, which refuses what Google's service refuses."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.json import dumps
from gateway.upstreams.antigravity.schema import MAX_SCHEMAS, gemini_parameters, gemini_schema
from tests.fakes.antigravity_fields import FUNCTION, SCHEMA, Checker, Reader

KINDS: list[Any] = [{"type": kind} for kind in ("STRING", "NUMBER", "BOOLEAN", "OBJECT")]
ANYTHING: Any = {"anyOf": KINDS}


def accepted(schema: Any) -> Any:
    """The schema itself, when the upstream takes it."""
    reader, checker = Reader(), Checker("gemini-3-pro")
    read = reader.read(schema, SCHEMA, "generation_config.response_schema")
    assert reader.violations == []
    checker._schema(read, "generation_config.response_schema")
    assert checker.problems == []
    return schema


def clean(schema: Any) -> Any:
    before = dumps(schema)
    cleaned = accepted(gemini_schema(schema))
    assert dumps(schema) == before
    return cleaned


STRING = {"type": "STRING"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, STRING),
        ({"type": "STRING", "nullable": True}, {"type": "STRING", "nullable": True}),
        ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
        ({"type": "null"}, {"type": "STRING", "nullable": True}),
        ({"type": ["string", "integer"]}, {"anyOf": [STRING, {"type": "INTEGER"}]}),
        ({"const": "a"}, {"type": "STRING", "enum": ["a"]}),
        ({"const": 5}, {"type": "INTEGER", "description": "Always 5."}),
        (
            {"enum": [1, 2], "description": "n"},
            {"type": "INTEGER", "description": "n One of: 1, 2."},
        ),
        ({"enum": ["a", "", None]}, {"type": "STRING", "enum": ["a"], "nullable": True}),
        ({"type": "string", "enum": ["a", 1]}, {"type": "STRING", "enum": ["a", "1"]}),
        ({"type": "string", "format": "uri", "pattern": "a+"}, {"type": "STRING", "pattern": "a+"}),
        ({"type": "string", "pattern": "(?=a)"}, STRING),
        ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "INTEGER", "minimum": 1}),
        ({"type": "number", "exclusiveMaximum": 1}, {"type": "NUMBER", "maximum": 1}),
        ({"type": "array"}, {"type": "ARRAY", "items": ANYTHING}),
        (
            {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
            {"type": "ARRAY", "items": {"anyOf": [STRING, {"type": "INTEGER"}]}},
        ),
        ({"items": {"type": "string"}, "minItems": 1}, {"type": "ARRAY", "items": STRING, "minItems": 1}),
        ({"type": "string", "properties": {"a": {}}, "required": ["a"], "items": {}}, STRING),
        ({"$schema": "x", "type": "string", "default": "a", "examples": ["a"], "$comment": "c"}, STRING),
        ({}, ANYTHING),
        ({"not": {"type": "string"}}, ANYTHING),
        (
            {"description": "d", "anyOf": [{"type": "string"}, {"type": "null"}]},
            {"type": "STRING", "description": "d", "nullable": True},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "boolean"}], "description": "d", "title": "t"},
            {"anyOf": [{**STRING, "description": "d"}, {"type": "BOOLEAN", "description": "d"}]},
        ),
        ({"anyOf": [{"const": "a"}, {"const": "b"}]}, {"type": "STRING", "enum": ["a", "b"]}),
        ({"anyOf": [{"anyOf": [{"type": "string"}]}, {"type": "string"}]}, STRING),
    ],
)
def test_what_the_upstream_has_a_word_for_is_kept(schema: Any, expected: Any) -> None:
    assert clean(schema) == expected


def test_properties_may_be_called_like_keywords() -> None:
    names = ("const", "$ref", "type", "anyOf", "not", "enum", "format")
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    assert list(clean(schema)["properties"]) == list(names)


def test_what_is_required_is_there() -> None:
    schema: Any = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b", "a", "a"]}
    assert clean(schema)["required"] == ["a"]
    assert "required" not in clean({**schema, "required": ["b"]})


def test_references_are_replaced_by_what_they_lead_to() -> None:
    schema: Any = {
        "type": "object",
        "properties": {
            "one": {"$ref": "#/$defs/Name", "description": "mine"},
            "two": {"$ref": "#/definitions/a~1b"},
            "gone": {"$ref": "#/$defs/Nobody"},
            "far": {"$ref": "https://example.com/schema"},
        },
        "$defs": {"Name": {"type": "string", "description": "theirs"}},
        "definitions": {"a/b": {"type": "integer"}},
    }
    properties = clean(schema)["properties"]
    assert properties["one"] == {"type": "STRING", "description": "mine"}
    assert properties["two"] == {"type": "INTEGER"}
    assert properties["gone"] == properties["far"] == ANYTHING


def test_a_reference_that_leads_back_ends() -> None:
    node: Any = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "n": {"type": "integer"}}}
    cleaned = clean({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    assert cleaned["properties"]["next"] == {"type": "OBJECT"}
    assert cleaned["properties"]["n"] == {"type": "INTEGER"}
    assert clean({"$ref": "#"}) == {"type": "OBJECT"}
    assert clean({"allOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"allOf": [{"$ref": "#/$defs/A"}]}}}) == {
        "type": "OBJECT"
    }


def test_references_that_multiply_are_cut() -> None:
    """Each definition holds the next one twice: written out they would be 2^40 schemas."""
    last = 40
    definitions: Any = {
        f"D{at}": {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/D{at + 1}"} for side in ("left", "right")},
        }
        for at in range(last)
    }
    definitions[f"D{last}"] = {"type": "string"}
    cleaned = clean({"$ref": "#/$defs/D0", "$defs": definitions})
    assert str(cleaned).count("type") <= 2 * MAX_SCHEMAS + 2


def test_depth_is_cut() -> None:
    schema: Any = {"type": "string"}
    for _ in range(120):
        schema = {"type": "object", "properties": {"a": schema}}
    assert str(clean(schema)).count("properties") < 100


def test_conjunctions_are_one_schema() -> None:
    schema: Any = {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
        ],
        "description": "both",
    }
    assert clean(schema) == {
        "type": "OBJECT",
        "description": "both",
        "properties": {"a": {"type": "STRING"}, "b": {"type": "INTEGER"}},
        "required": ["a", "b"],
    }


def test_alternatives_of_an_object_keep_what_is_beside_them() -> None:
    schema: Any = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }
    assert clean(schema)["properties"].keys() == {"a", "b"}
    apart: Any = {
        "type": "object",
        "anyOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"b": {"type": "string"}}}],
    }
    assert [list(one["properties"]) for one in clean(apart)["anyOf"]] == [["a"], ["b"]]


# -- parameters -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "schema", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}, {"type": "string"}]
)
def test_a_function_without_parameters_has_no_schema(schema: Any) -> None:
    assert gemini_parameters(schema) is None


def test_a_union_of_objects_is_one_object() -> None:
    schema: Any = {
        "anyOf": [
            {"type": "object", "properties": {"a": {"type": "string"}, "k": {}}, "required": ["a", "k"]},
            {"type": "object", "properties": {"b": {"type": "string"}, "k": {}}, "required": ["k"]},
            {"type": "string"},
        ]
    }
    parameters: Any = gemini_parameters(schema)
    assert (list(parameters["properties"]), parameters["required"]) == (["a", "k", "b"], ["k"])


KEYWORDS = st.sampled_from(
    [
        "type",
        "format",
        "pattern",
        "minLength",
        "minimum",
        "exclusiveMinimum",
        "enum",
        "const",
        "nullable",
        "description",
        "default",
        "additionalProperties",
        "required",
        "$ref",
        "x-other",
        "minItems",
    ]
)
VALUES = st.one_of(
    st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null", "OBJECT", "uri"]),
    st.lists(st.sampled_from(["string", "null", "integer", "object", "a", ""]), max_size=3),
    st.sampled_from(["#/$defs/A", "#/$defs/B", "#", "int32", "date-time", "^a"]),
    st.integers(-3, 3),
    st.booleans(),
    st.none(),
    st.floats(-2, 2, allow_nan=False),
)
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(KEYWORDS, VALUES, max_size=4),
    lambda inner: st.builds(
        lambda base, more: base | more,
        st.dictionaries(KEYWORDS, VALUES, max_size=3),
        st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(st.sampled_from(["a", "b", "type", "c"]), inner, max_size=3),
                "items": st.one_of(inner, st.lists(inner, max_size=2), st.booleans()),
                "anyOf": st.lists(inner, max_size=3),
                "oneOf": st.lists(inner, max_size=2),
                "allOf": st.lists(inner, max_size=2),
                "prefixItems": st.lists(inner, max_size=2),
            },
        ),
    ),
    max_leaves=12,
)


@given(SCHEMAS, SCHEMAS, SCHEMAS)
@settings(max_examples=100, deadline=None)
def test_the_upstream_takes_what_becomes_of_any_schema(schema: Any, one: Any, other: Any) -> None:
    clean({**schema, "$defs": {"A": one, "B": other}})
    parameters = gemini_parameters({**schema, "$defs": {"A": one, "B": other}})
    if parameters is not None:
        function = {"name": "f", "description": "d", "parameters": parameters}
        reader, checker = Reader(), Checker("gemini-3-pro")
        checker._tools([{"functionDeclarations": [reader.read(function, FUNCTION)]}])
        assert (reader.violations, checker.problems) == ([], [])


def test_small_schemas_do_not_become_large_ones() -> None:
    """References that double at every step: as many as it was written with, times twenty."""
    steps = {
        f"s{n}": {
            "type": "object",
            "properties": {"a": {"$ref": f"#/$defs/s{n + 1}"}} | {"b": {"$ref": f"#/$defs/s{n + 1}"}},
        }
        for n in range(12)
    }
    grown = gemini_schema({"$ref": "#/$defs/s0", "$defs": steps})
    assert dumps(grown).count(b'"type"') < 4000, "all of them would be 8191"


def test_conjunctions_are_bounded_and_what_they_require_is_said_once() -> None:
    parts: Any = [
        {"required": [f"r{n}", "same"], "properties": {f"r{n}": {"type": "string"}}} for n in range(9)
    ]
    schema: Any = {"type": "object", "properties": {"same": {"type": "string"}}, "allOf": parts}
    assert gemini_schema(schema)["required"] == ["r0", "same", *(f"r{n}" for n in range(1, 9))]
