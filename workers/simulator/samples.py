"""A value for a JSON Schema, as a model would answer one: a small one that is valid. Pure.

Understands what clients really send: types, enums, constants, bounds, references, alternatives. It is no
validator: of contradictory schemas it makes something.
"""

from typing import Any

_MAX_DEPTH = 32


def sample(schema: Any, text: str) -> Any:
    """`text` fills the strings that nothing else decides."""
    return _Sampler(schema, text).value(schema, 0)


class _Sampler:
    def __init__(self, root: Any, text: str) -> None:
        self._root = root
        self._text = text

    def value(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if isinstance(reference := schema.get("$ref"), str):
            return self.value(self._resolve(reference), depth + 1)
        for key in ("anyOf", "oneOf", "allOf"):
            if schema.get(key):
                return self.value(schema[key][0], depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = kind[0] if kind else "null"
        match str(kind).lower():
            case "object":
                return {
                    name: self.value(child, depth + 1)
                    for name, child in (schema.get("properties") or {}).items()
                }
            case "array":
                return [self.value(schema.get("items", {}), depth + 1)] * max(1, schema.get("minItems", 1))
            case "integer" | "number":
                return self._number(schema)
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._text[: schema.get("maxLength", len(self._text))]

    @staticmethod
    def _number(schema: dict[str, Any]) -> Any:
        """The least allowed, else 1: bounds that only a description tells seldom begin below."""
        if "minimum" in schema:
            return schema["minimum"]
        if "exclusiveMinimum" in schema:
            return schema["exclusiveMinimum"] + 1
        return min(1, schema.get("maximum", 1))

    def _resolve(self, reference: str) -> Any:
        found = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            found = found.get(step, {}) if isinstance(found, dict) and step else found
        return found
