"""JSON on orjson. The only module that knows which library does it."""

from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

if TYPE_CHECKING:
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    Json = Any  # libraries that read annotations at run time do not know recursive types
JsonObject: TypeAlias = dict[str, Json]

JsonError = orjson.JSONDecodeError


def is_rich(text: bytes, values: int) -> bool:
    """Whether JSON may hold many more values than that, each of which costs a hundred times its text: judged
    by brackets and commas, of which texts hold some, too, and images none. Cheap beside reading it.
    """
    if len(text) <= values:
        return False
    return text.count(b"{") + text.count(b"[") > 10 * values or text.count(b",") > 40 * values


def loads(data: bytes | str) -> Json:
    """Parse UTF-8 JSON. Raises JsonError (a ValueError) on anything else."""
    value: Json = orjson.loads(data)
    return value


def dumps(value: object) -> bytes:
    """Compact UTF-8 JSON, members in insertion order."""
    return orjson.dumps(value)


def dumps_canonical(value: object) -> bytes:
    """Compact JSON with sorted members: equal values give equal bytes."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def fragment(text: str) -> object:
    """JSON text that dumps() writes as it is, unchecked."""
    return orjson.Fragment(text)
