"""JSON Schema to the part of it that Gemini's `parameters` and `responseSchema` know. Pure.

They are messages with fixed fields, not JSON Schema: an unknown keyword, a keyword beside a type that it does
not belong to, or two types at once make the upstream refuse the whole request. What it has no word for is
left out, so the result allows at least what the schema allows; values that only an `enum` of texts could say
are named in the description. References are replaced by what they lead to, up to the first that leads back.

A keyword is a keyword only where a schema stands: properties may be called `const` or `$ref`.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

from gateway.kernel.json import Json, JsonObject, dumps, dumps_canonical, loads

MAX_SCHEMAS: Final = 5000
"""In one; references to references can grow without end."""
_LEAST_SCHEMAS: Final = 200
_GROWTH: Final = 10
"""How many times as many as it has been written with: many small ones that grow are many large ones."""
MAX_DEPTH: Final = 60

_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_OF_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum"),
    "integer": ("minimum", "maximum"),
    "boolean": (),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
"""Keywords that are taken over as they are."""
_BOUNDS: Final = ("minimum", "maximum")
_FORMATS: Final[Mapping[str, frozenset[str]]] = {
    "string": frozenset({"enum", "date-time"}),
    "number": frozenset({"float", "double"}),
    "integer": frozenset({"int32", "int64"}),
}
_TELLING: Final = (
    ("properties", "object"),
    ("additionalProperties", "object"),
    ("items", "array"),
    ("prefixItems", "array"),
    ("pattern", "string"),
    ("minLength", "string"),
    ("maxLength", "string"),
    ("minimum", "number"),
    ("maximum", "number"),
)
"""Keywords that tell the type of a schema without one."""
_SHARED: Final[tuple[str, ...]] = ("type", "properties", "required")
_NOT_RE2: Final = ("(?=", "(?!", "(?<")
"""Looking ahead and behind, which Google's expressions cannot."""
_OBJECT: Final[JsonObject] = {"type": "OBJECT"}


def gemini_schema(schema: JsonObject) -> JsonObject:
    """The schema given is not changed, and neither may be the one that is returned."""
    try:
        return _remembered(dumps(schema))
    except TypeError:  # deeper than JSON is written; what is returned is not
        return _Cleaner(schema).clean(schema)


@lru_cache(maxsize=512)
def _remembered(schema: bytes) -> JsonObject:
    """Clients send the same tools with every turn, and some send dozens of large ones."""
    value = loads(schema)
    assert isinstance(value, dict)
    return _Cleaner(value).clean(value)


def gemini_parameters(schema: JsonObject | None) -> JsonObject | None:
    """None for a function without parameters: the upstream refuses an object without properties there."""
    if schema is None:
        return None
    clean = gemini_schema(schema)
    if isinstance(options := clean.get("anyOf"), list):
        clean = _one_object(options)
    return clean if clean.get("properties") else None


def _one_object(options: Iterable[Json]) -> JsonObject:
    """What is called takes one object: of a union, with the members of all, and required what all require."""
    objects = [option for option in options if isinstance(option, dict) and option.get("type") == "OBJECT"]
    properties: JsonObject = {}
    for one in objects:
        if isinstance(given := one.get("properties"), dict):
            properties.update(given)
    required = [one.get("required") for one in objects]
    every = [
        name for name in properties if all(isinstance(names, list) and name in names for names in required)
    ]
    merged: JsonObject = {"type": "OBJECT", "properties": properties}
    return {**merged, "required": list(every)} if every else merged


class _Cleaner:
    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._left = min(MAX_SCHEMAS, _LEAST_SCHEMAS + _GROWTH * _objects_in(root))

    def clean(self, schema: Json, refs: tuple[str, ...] = (), depth: int = 0) -> JsonObject:
        """refs: those that led here."""
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            return _OBJECT
        if not isinstance(schema, dict):
            return _anything({})
        flat, refs = self._flat(schema, refs)
        options = flat.get("anyOf", flat.get("oneOf"))
        types, nullable = _types(flat)
        if types == ["object"] and not flat.get("properties") and isinstance(options, list):
            types = []  # the options say what the object is
        if not types and isinstance(options, list) and options:
            bases = [_under(flat, option) for option in options]
            return _union(self._options(bases, refs, depth), flat, nullable=nullable)
        if not types:
            return _anything(flat)
        cleaned = [self._typed(flat, kind, refs, depth, nullable=nullable) for kind in types]
        return _union(cleaned, flat, nullable=nullable)

    def _options(self, options: Iterable[Json], refs: tuple[str, ...], depth: int) -> Iterator[JsonObject]:
        for option in options:
            if isinstance(option, dict) and option.get("type") in ("null", "NULL"):
                yield {"nullable": True}
            else:
                yield self.clean(option, refs, depth + 1)

    # -- references and conjunctions ----------------------------------------------------------------------

    def _flat(self, schema: JsonObject, refs: tuple[str, ...]) -> tuple[JsonObject, tuple[str, ...]]:
        """Without `$ref` and `allOf`. One that leads back to itself is an object of any kind."""
        flat = {name: value for name, value in schema.items() if name not in ("$ref", "allOf")}
        ref, every = schema.get("$ref"), schema.get("allOf")
        if isinstance(ref, str):
            if ref in refs:
                return {"type": "object", **flat}, refs
            target, refs = self._flat(self._target(ref), (*refs, ref))
            flat = _all(target, flat)
        parts: list[JsonObject] = []
        for part in every if isinstance(every, list) else []:
            self._left -= 1
            if isinstance(part, dict) and len(refs) <= MAX_DEPTH and self._left > 0:
                more, refs = self._flat(part, refs)
                parts.append(more)
        return _all(flat, *parts) if parts else flat, refs

    def _target(self, ref: str) -> JsonObject:
        value: Json = self._root
        if not ref.startswith("#"):
            return {}
        for step in ref.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    # -- one type -----------------------------------------------------------------------------------------

    def _typed(
        self, schema: JsonObject, kind: str, refs: tuple[str, ...], depth: int, *, nullable: bool
    ) -> JsonObject:
        out: JsonObject = {"type": kind.upper()}
        for name in ("title", "description"):
            if isinstance(text := schema.get(name), str):
                out[name] = text
        if nullable:
            out["nullable"] = True
        if isinstance(form := schema.get("format"), str) and form in _FORMATS.get(kind, ()):
            out["format"] = form
        for name in _OF_TYPE[kind]:
            figure = schema.get(name)
            if _is_number(figure) and (name in _BOUNDS or _is_count(figure)):
                out[name] = figure
        match kind:
            case "string":
                pattern = schema.get("pattern")
                if isinstance(pattern, str) and not any(sign in pattern for sign in _NOT_RE2):
                    out["pattern"] = pattern
            case "number" | "integer":
                _exclusive(schema, out, step=int(kind == "integer"))
            case "array":
                out["items"] = self.clean(_items(schema), refs, depth + 1)
            case "object":
                self._object(schema, out, refs, depth)
        _choices(schema, kind, out)
        return out

    def _object(self, schema: JsonObject, out: JsonObject, refs: tuple[str, ...], depth: int) -> None:
        given = schema.get("properties")
        if not isinstance(given, dict) or not given:
            return
        properties = {name: self.clean(value, refs, depth + 1) for name, value in given.items()}
        out["properties"] = dict(properties)
        for name in ("required", "propertyOrdering"):
            wanted = schema.get(name)
            if isinstance(wanted, list) and (
                known := [one for one in dict.fromkeys(map(str, wanted)) if one in given]
            ):
                out[name] = list(known)


# -- what a schema is -------------------------------------------------------------------------------------


def _types(schema: JsonObject) -> tuple[list[str], bool]:
    """Its types without null, and whether null is among them."""
    given = schema.get("type")
    names = [str(name).lower() for name in (given if isinstance(given, list) else [given])]
    choices = schema.get("enum")
    nullable = "null" in names or schema.get("nullable") is True
    nullable = nullable or (isinstance(choices, list) and None in choices)
    types = [name for name in dict.fromkeys(names) if name in _TYPES]
    if not types and "null" in names:
        types = ["string"]
    if not types:
        types = _told_by_values(schema)
    if not types:
        types = [kind for name, kind in _TELLING if name in schema][:1]
    return types, nullable


def _told_by_values(schema: JsonObject) -> list[str]:
    values = _values(schema)
    return list(dict.fromkeys(kind for value in values if (kind := _kind(value)) is not None))


def _values(schema: JsonObject) -> list[Json]:
    """What it must be one of; empty where it says nothing of the kind."""
    if "const" in schema:
        return [schema["const"]]
    choices = schema.get("enum")
    return choices if isinstance(choices, list) else []


def _kind(value: Json) -> str | None:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "number"
        case list():
            return "array"
        case dict():
            return "object"
        case None:
            return None


def _choices(schema: JsonObject, kind: str, out: JsonObject) -> None:
    """Texts are an `enum`, anything else is told in words: the upstream has enums of texts alone."""
    values = [value for value in _values(schema) if value is not None]
    if kind == "string":
        texts = [value if isinstance(value, str) else dumps(value).decode() for value in values]
        if named := [text for text in dict.fromkeys(texts) if text]:
            out["enum"] = list(named)
            for name in ("pattern", "minLength", "maxLength", "format"):
                out.pop(name, None)
        return
    fitting = [dumps(value).decode() for value in values if _kind(value) == kind or kind == "number"]
    if fitting:
        told = f"One of: {', '.join(fitting)}." if len(fitting) > 1 else f"Always {fitting[0]}."
        said = out.get("description")
        out["description"] = f"{said} {told}" if said else told


def _exclusive(schema: JsonObject, out: JsonObject, *, step: int) -> None:
    for name, bound, direction in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        figure = schema.get(name)
        if isinstance(figure, int | float) and _is_number(figure) and bound not in out:
            out[bound] = figure + direction * step


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Json) -> bool:
    return isinstance(value, int) and value >= 0


def _items(schema: JsonObject) -> Json:
    """One schema for all of them; a tuple's may be any of its own."""
    items = schema.get("items")
    if isinstance(items, dict):
        return items
    listed = items if isinstance(items, list) else schema.get("prefixItems")
    return {"anyOf": listed} if isinstance(listed, list) and listed else {}


def _anything(schema: JsonObject) -> JsonObject:
    """The upstream wants a type. A list would want to know what of, and is left out."""
    described = {"description": text} if isinstance(text := schema.get("description"), str) else {}
    kinds: list[Json] = [{"type": kind, **described} for kind in ("STRING", "NUMBER", "BOOLEAN", "OBJECT")]
    return {"anyOf": kinds}


# -- putting together -------------------------------------------------------------------------------------


def _all(*schemas: JsonObject) -> JsonObject:
    """What fulfils all of them, as far as one schema can say it; else the last is believed."""
    merged: JsonObject = {}
    properties: JsonObject = {}
    required: dict[Json, None] = {}
    for schema in schemas:
        merged |= schema
        if isinstance(given := schema.get("properties"), dict):
            properties |= given
        if isinstance(names := schema.get("required"), list):
            required |= dict.fromkeys(name for name in names if isinstance(name, str))
    if isinstance(merged.get("properties"), dict):
        merged["properties"] = properties
    if isinstance(merged.get("required"), list):
        merged["required"] = list(required)
    return merged


def _objects_in(value: Json) -> int:
    """Of all depths, without recursion."""
    level: list[Json] = [value]
    count = 0
    while level:
        count += sum(isinstance(one, dict) for one in level)
        level = [
            child
            for one in level
            for child in (one.values() if isinstance(one, dict) else one)  # type: ignore[union-attr]
            if isinstance(child, dict | list)
        ]
    return count


def _under(schema: JsonObject, option: Json) -> Json:
    """An option of an object with what stands beside the options."""
    shared: JsonObject = {name: schema[name] for name in _SHARED if name in schema}
    return _all(shared, option) if isinstance(option, dict) and shared else option


def _union(options: Iterable[JsonObject], schema: JsonObject, *, nullable: bool) -> JsonObject:
    """Nothing may stand beside `anyOf`: what does goes into each option."""
    found: list[JsonObject] = []
    for option in options:
        nullable = nullable or option.get("nullable") is True
        inner = option.get("anyOf")
        found += [
            {name: value for name, value in one.items() if name != "nullable"}
            for one in (inner if isinstance(inner, list) else [option])
            if isinstance(one, dict) and one.keys() != {"nullable"}
        ]
    if len(found) > 1:
        found = list({dumps_canonical(one): one for one in found}.values())
    kinds = _texts_as_one(found) or [{"type": "STRING"}]
    text = schema.get("description")
    for kind in kinds:
        if isinstance(text, str):
            kind.setdefault("description", text)
        if nullable:
            kind["nullable"] = True
    return kinds[0] if len(kinds) == 1 else {"anyOf": list(kinds)}


def _texts_as_one(options: list[JsonObject]) -> list[JsonObject]:
    """Choices of one text each, as unions of literals are written, are one choice of several."""
    listed = [choices for option in options if isinstance(choices := option.get("enum"), list)]
    if len(options) < 2 or len(listed) < len(options):
        return options
    texts: dict[Json, None] = dict.fromkeys(text for choices in listed for text in choices)
    return [{"type": "STRING", "enum": list(texts)}]
