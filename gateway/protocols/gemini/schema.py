"""Google's schema dialect to JSON Schema. Pure.

The dialect writes types in capitals, nullability as a field of its own, whole numbers sometimes in quotes,
and keywords in either case. Clients also put such types into fields that are meant for JSON Schema proper, so
both are read alike; what is JSON Schema already stays as it is. Names of properties are never touched.
"""

from collections.abc import Callable
from typing import Final

from gateway.kernel.json import Json, JsonObject

_TYPES: Final = frozenset({"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"})
_KEYWORDS: Final = {
    "any_of": "anyOf",
    "one_of": "oneOf",
    "all_of": "allOf",
    "prefix_items": "prefixItems",
    "additional_properties": "additionalProperties",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
    "defs": "$defs",
    "ref": "$ref",
}
_DROPPED: Final = frozenset({"nullable", "propertyOrdering", "property_ordering"})
_COUNTS: Final = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}
)
_ONE: Final = frozenset({"items", "additionalProperties", "not", "if", "then", "else", "contains"})
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_MAPS: Final = frozenset({"properties", "$defs", "definitions", "patternProperties"})


def json_schema(schema: JsonObject) -> JsonObject:
    """The schema as JSON Schema says it; the one given is not changed."""
    out: JsonObject = {}
    for keyword, value in schema.items():
        if keyword in _DROPPED:
            continue
        name = _KEYWORDS.get(keyword, keyword)
        read = _read(name, value)
        if name == "type" and read is None:
            continue
        out[name] = read
    return _nullable(out) if schema.get("nullable") is True else out


def _read(name: str, value: Json) -> Json:
    if name == "type":
        return _type(value)
    if name in _COUNTS:
        return int(value) if isinstance(value, str) and value.isdecimal() else value
    if name in _ONE:
        return _each(value, _schema)
    if name in _LISTS and isinstance(value, list):
        return [_schema(item) for item in value]
    if name in _MAPS and isinstance(value, dict):
        return {key: _schema(item) for key, item in value.items()}
    return value


def _each(value: Json, read: Callable[[Json], Json]) -> Json:
    """Of one schema, or of each of a list: older JSON Schema has lists of them under `items`."""
    return [read(item) for item in value] if isinstance(value, list) else read(value)


def _schema(value: Json) -> Json:
    return json_schema(value) if isinstance(value, dict) else value


def _type(value: Json) -> Json:
    """None for Google's word for no type at all."""
    if isinstance(value, list):
        return [_type(item) for item in value]
    if not isinstance(value, str) or value == "TYPE_UNSPECIFIED":
        return None
    return value.lower() if value in _TYPES else value


def _nullable(schema: JsonObject) -> JsonObject:
    kind = schema.get("type")
    if isinstance(kind, str):
        widened: JsonObject = {**schema, "type": [kind, "null"] if kind != "null" else kind}
        choices = schema.get("enum")
        if isinstance(choices, list) and None not in choices:
            widened["enum"] = [*choices, None]
        return widened
    options = schema.get("anyOf")
    if isinstance(options, list):
        return {**schema, "anyOf": [*options, {"type": "null"}]}
    return schema
