"""Random JSON: of any kind, and by a JSON schema. Everything comes from the dice that are handed in."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

Dice = random.Random

TEXTS = (
    "",
    " ",
    "hi",
    "say hello",
    "0",
    "null",
    "user",
    "auto",
    "灵码 👩\u200d👩\u200d👧 e\u0301",
    "\u0000\u0001\u007f\u0085\u2028\u2029\ufeff\ufffe",
    "line\nbreak\r\n\ttab",
    "data: x\n\nevent: y\n\n",
    "\ud800",  # half a character: legal in JSON's escapes, in no other encoding
    "<think>not a thought</think>",
    "```toolCall::x::y::PENDING\n```",
    "../../etc/passwd",
    "%s%n{0}${x}{{y}}",
    "' OR 1=1 --",
    "a" * 300,
    "https://example.com/a.png",
    "data:image/png;base64,iVBORw0KGgo=",
    "data:;base64,",
    "file:///etc/passwd",
    "aGVsbG8=",
    '{"q": 1}',
    "[1, 2",
    "2026-11-21T00:00:00Z",
    "call_1",
    "org_auto",
)

NUMBERS = (
    0,
    -0.0,
    1,
    -1,
    2,
    0.5,
    1.0,
    100,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    1e308,
    -1e-320,
    float("nan"),
    float("inf"),
    float("-inf"),
)

KEYS = (
    "",
    "x",
    "type",
    "role",
    "content",
    "text",
    "id",
    "name",
    "__proto__",
    "constructor",
    "$ref",
    "a.b",
    "灵码",
    "\u0000",
    "k" * 200,
)


def anything(dice: Dice, depth: int = 3) -> Any:
    """Any JSON value, mostly small."""
    kind = dice.randrange(8 if depth > 0 else 5)
    match kind:
        case 0:
            return None
        case 1:
            return dice.random() < 0.5
        case 2:
            return dice.choice(NUMBERS)
        case 3 | 4:
            return dice.choice(TEXTS)
        case 5 | 6:
            return {dice.choice(KEYS): anything(dice, depth - 1) for _ in range(dice.randrange(4))}
        case _:
            return [anything(dice, depth - 1) for _ in range(dice.randrange(4))]


def nested(dice: Dice, levels: int) -> Any:
    """A value that is nothing but depth."""
    value: Any = dice.choice(TEXTS)
    for _ in range(levels):
        value = [value] if dice.random() < 0.5 else {dice.choice(("a", "content", "parts", "items")): value}
    return value


class Schema:
    """Values by a JSON schema: complete, though not always legal where the schema says little."""

    def __init__(self, schema: Mapping[str, Any], words: Mapping[str, Sequence[str]]) -> None:
        """`words`: for fields of these names, texts that mean something there."""
        self._schema = schema
        self._definitions = schema.get("$defs", {})
        self._words = words

    def value(self, dice: Dice, depth: int = 7) -> Any:
        return self._value(self._schema, dice, depth, "")

    def _value(self, schema: Any, dice: Dice, depth: int, name: str) -> Any:
        if not isinstance(schema, dict):
            return anything(dice, 2)
        if "$ref" in schema:
            return self._value(self._definitions[schema["$ref"].rpartition("/")[2]], dice, depth, name)
        for choice in ("anyOf", "oneOf"):
            if choice in schema:
                return self._value(self._branch(schema[choice], dice, depth), dice, depth, name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return dice.choice(schema["enum"])
        match schema.get("type"):
            case "object":
                return self._object(schema, dice, depth)
            case "array":
                return self._array(schema, dice, depth, name)
            case "string":
                return self._text(dice, name)
            case "integer":
                return dice.choice((0, 1, 2, 16, 1024, 100_000, -1))
            case "number":
                return dice.choice((0, 0.5, 1, 2.0, 1.5))
            case "boolean":
                return dice.random() < 0.5
            case "null":
                return None
            case _:
                return anything(dice, min(2, depth))

    def _branch(self, branches: Sequence[Any], dice: Dice, depth: int) -> Any:
        """Near the ground the simplest one."""
        if depth > 0:
            return dice.choice(branches)
        simple = [branch for branch in branches if branch.get("type") in ("null", "string", "integer")]
        return dice.choice(simple or branches)

    def _object(self, schema: Mapping[str, Any], dice: Dice, depth: int) -> Any:
        properties = schema.get("properties", {})
        required = schema.get("required", ())
        if not properties:
            return anything(dice, 1) if depth <= 0 else {dice.choice(KEYS): anything(dice, 1)}
        kept = 0.0 if depth <= 0 else dice.choice((0.05, 0.2, 0.5))
        return {
            name: self._value(inner, dice, depth - 1, name)
            for name, inner in properties.items()
            if name in required or dice.random() < kept
        }

    def _array(self, schema: Mapping[str, Any], dice: Dice, depth: int, name: str) -> Any:
        count = dice.choice((1, 1, 1, 2, 3)) if depth > 0 else dice.choice((0, 1))
        return [self._value(schema.get("items"), dice, depth - 1, name) for _ in range(count)]

    def _text(self, dice: Dice, name: str) -> str:
        if name in self._words and dice.random() < 0.9:
            return dice.choice(self._words[name])
        return dice.choice(TEXTS)
