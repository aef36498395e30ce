"""Whether a client gave a call back as the model made it. Pure.

Arguments are compared as canonical JSON. Claude's clients fill in the defaults of a tool's schema before they
run it, and send the filled in call back: for them, members that equal their default are left aside.
"""

from collections.abc import Mapping
from typing import TypeAlias

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonError, JsonObject, loads
from gateway.replay.lookups import at
from gateway.upstreams.antigravity.history import canonical, name_of

Schemas: TypeAlias = Mapping[str, JsonObject]
"""Of tools, by their names."""

_SCHEMA_MEMBERS = ("input_schema", "parameters", "parametersJsonSchema")


def schemas_in(body: JsonObject) -> Schemas:
    """What a client's own request says of its tools, in Anthropic's or OpenAI's form."""
    tools = body.get("tools")
    schemas: dict[str, JsonObject] = {}
    for tool in tools if isinstance(tools, list) else []:
        for described in (tool, at(tool, "function")):
            if not isinstance(described, dict) or not (name := name_of(described)):
                continue
            found = (
                schema for member in _SCHEMA_MEMBERS if isinstance(schema := described.get(member), dict)
            )
            if (first := next(found, None)) is not None:
                schemas.setdefault(name, first)
    return schemas


def decoded(args: Json) -> Json:
    """Arguments that are JSON in a text, as what the text says."""
    if not isinstance(args, str):
        return args
    try:
        value = loads(args)
        canonical(value)
    except (JsonError, InvalidRequest):
        return args
    return value


def equal_but_for_defaults(one: Json, other: Json, schema: JsonObject) -> bool:
    canonical(schema)  # no deeper than what is walked here
    bare = _Bare()
    return bare.canonical(one, schema) == bare.canonical(other, schema)


class _Bare:
    """Values without the members that equal their default."""

    def __init__(self) -> None:
        self._defaults: dict[int, bytes] = {}
        """By the identity of schemas: defaults that hold defaults would else be worked out time and again."""

    def canonical(self, value: Json, schema: Json) -> bytes:
        return canonical(self._value(decoded(value), schema))

    def _value(self, value: Json, schema: Json) -> Json:
        match value:
            case dict():
                members = ((name, member, at(schema, "properties", name)) for name, member in value.items())
                bare = {name: (self._value(member, of), of) for name, member, of in members}
                return {
                    name: member for name, (member, of) in bare.items() if not self._is_default(member, of)
                }
            case list():
                of = at(schema, "items")
                return [self._value(item, of) for item in value]
            case _:
                return value

    def _is_default(self, bare: Json, schema: Json) -> bool:
        if not isinstance(schema, dict) or "default" not in schema:
            return False
        if id(schema) not in self._defaults:
            self._defaults[id(schema)] = canonical(self._value(schema["default"], schema))
        return canonical(bare) == self._defaults[id(schema)]
