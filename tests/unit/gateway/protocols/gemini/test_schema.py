from typing import Any

import pytest

from gateway.protocols.gemini.schema import json_schema


def test_types_are_written_small_at_every_depth() -> None:
    google: Any = {
        "type": "OBJECT",
        "properties": {
            "names": {"type": "ARRAY", "items": {"type": "STRING"}},
            "kind": {"anyOf": [{"type": "INTEGER"}, {"type": "NULL"}]},
        },
        "required": ["names"],
        "additionalProperties": {"type": "NUMBER"},
    }
    assert json_schema(google) == {
        "type": "object",
        "properties": {
            "names": {"type": "array", "items": {"type": "string"}},
            "kind": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "required": ["names"],
        "additionalProperties": {"type": "number"},
    }


def test_the_given_schema_is_not_changed() -> None:
    google: Any = {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}}
    json_schema(google)
    assert google == {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}}


def test_properties_keep_their_names_whatever_these_are() -> None:
    google: Any = {
        "properties": {
            "type": {"type": "STRING"},
            "any_of": {"type": "STRING"},
            "nullable": {"type": "BOOLEAN"},
        },
        "required": ["type", "any_of"],
    }
    assert json_schema(google) == {
        "properties": {
            "type": {"type": "string"},
            "any_of": {"type": "string"},
            "nullable": {"type": "boolean"},
        },
        "required": ["type", "any_of"],
    }


def test_values_are_no_schemas() -> None:
    google: Any = {
        "type": "STRING",
        "enum": ["STRING", "OBJECT"],
        "default": {"type": "STRING"},
        "example": {"nullable": True},
    }
    assert json_schema(google) == {**google, "type": "string"}


@pytest.mark.parametrize(
    ("google", "read"),
    [
        ({"type": "STRING", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "STRING", "enum": ["a"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"anyOf": [{"type": "STRING"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        ({"type": "NULL", "nullable": True}, {"type": "null"}),
        ({"nullable": True}, {}),
        ({"type": "STRING", "nullable": False}, {"type": "string"}),
        ({"type": "TYPE_UNSPECIFIED", "title": "x"}, {"title": "x"}),
        ({"type": ["STRING", "null"]}, {"type": ["string", "null"]}),
        ({"type": "ARRAY", "minItems": "2", "max_items": 5}, {"type": "array", "minItems": 2, "maxItems": 5}),
        ({"minLength": "many"}, {"minLength": "many"}),
        ({"type": "OBJECT", "propertyOrdering": ["a"], "property_ordering": ["b"]}, {"type": "object"}),
        ({"any_of": [{"type": "STRING"}]}, {"anyOf": [{"type": "string"}]}),
        (
            {"defs": {"a": {"type": "STRING"}}, "ref": "#/$defs/a"},
            {"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"},
        ),
        ({"items": [{"type": "STRING"}, True]}, {"items": [{"type": "string"}, True]}),
    ],
)
def test_words_of_the_dialect(google: Any, read: Any) -> None:
    assert json_schema(google) == read


def test_json_schema_stays_as_it_is() -> None:
    schema: Any = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"a": {"type": "string", "format": "date", "minLength": 1}},
        "patternProperties": {"^x": {"type": "integer"}},
        "additionalProperties": False,
        "if": {"properties": {"a": {"const": "b"}}},
        "then": {"required": ["a"]},
    }
    assert json_schema(schema) == schema
