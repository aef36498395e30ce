"""Members of JSON of unknown shape, read as forgivingly as HOME nodes read them. Pure.

What is missing, null or of another shape is an empty text; numbers and booleans are their text.
"""

from decimal import Decimal

from gateway.kernel.json import Json, JsonError, JsonObject, dumps, loads


def at(value: Json, *path: str) -> Json:
    """The member at the end of the path, None when a step of it is missing."""
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def text_of(value: Json) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return format(Decimal(repr(value)), "f").removesuffix(".0")
        case _:
            return dumps(value).decode()


def object_in(text: str) -> JsonObject:
    """The object that a text holds as JSON; an empty one when it holds none."""
    try:
        value = loads(text)
    except JsonError:
        return {}
    return value if isinstance(value, dict) else {}
