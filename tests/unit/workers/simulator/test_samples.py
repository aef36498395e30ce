from typing import Any

import pytest

from workers.simulator.samples import sample


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "said"),
        ({"type": "string", "maxLength": 2}, "sa"),
        ({"type": "STRING"}, "said"),
        ({"type": ["null", "string"]}, None),
        ({"type": "integer", "minimum": 1, "maximum": 100}, 1),
        ({"type": "number", "exclusiveMinimum": 2}, 3),
        ({"type": "integer"}, 1),
        ({"type": "number", "maximum": 0.5}, 0.5),
        ({"type": "boolean"}, True),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"properties": {"a": {"type": "string"}, "n": {"type": "integer"}}}, {"a": "said", "n": 1}),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 1),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "boolean"}}}, True),
        ({}, "said"),
        (None, None),
    ],
)
def test_a_schema_is_answered_by_a_small_value(schema: Any, value: Any) -> None:
    assert sample(schema, "said") == value


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    assert sample({"$ref": "#"}, "said") is None
