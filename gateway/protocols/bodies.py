"""Request bodies: bytes to a JSON object to a checked model, with errors that name the place. Pure.

Every protocol's parser begins here, so that all say the same about a broken body.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.ids import TurnId
from gateway.kernel.json import Json, JsonError, JsonObject, is_rich, loads

MAX_DEPTH = 128
"""Levels of a body. Parsers read far deeper, but that could not be written again for an upstream."""

MAX_VALUES = 100_000
"""Members of objects and elements of arrays in a body. Each costs time on the loop that all turns share; a
long conversation with its tools has some ten thousand.
"""
MAX_CLIENT = 64

ModelT = TypeVar("ModelT", bound=BaseModel)


class TurnContext(msgspec.Struct, frozen=True, kw_only=True):
    """What the edge knows of a turn before its body is read; parsers put it into the Turn as it is."""

    id: TurnId
    tenant: str
    created_at_ms: int
    key_id: str = "-"
    key_max_in_flight: int = 0
    request_id: str = ""
    resumable: bool = False
    path_params: Mapping[str, str] = msgspec.field(default_factory=dict)
    """What the route's pattern found in the path."""
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By lower-case name; of several with one name the first. Credentials are not among them."""

    @property
    def client(self) -> str:
        """The first product of the User-Agent, lower case and without its version."""
        agent = self.headers.get("user-agent", "").split("/", 1)[0].split(" ", 1)[0]
        return agent[:MAX_CLIENT].lower()

    def fields(self) -> "TurnFields":
        """What every parser puts into its Turn as it is."""
        return {
            "id": self.id,
            "tenant": self.tenant,
            "created_at_ms": self.created_at_ms,
            "key_id": self.key_id,
            "key_max_in_flight": self.key_max_in_flight,
            "request_id": self.request_id,
            "client": self.client,
            "headers": self.headers,
            "resumable": self.resumable,
        }


class TurnFields(TypedDict):
    """Fields of a Turn that no body can set."""

    id: TurnId
    tenant: str
    created_at_ms: int
    key_id: str
    key_max_in_flight: int
    request_id: str
    client: str
    headers: Mapping[str, str]
    resumable: bool


def load_object(body: bytes) -> JsonObject:
    """Raises InvalidRequest when the body is no JSON object, saying where it breaks."""
    if is_rich(body, MAX_VALUES):
        raise InvalidRequest(f"The request body holds more than {MAX_VALUES} values")
    try:
        value = loads(body)
    except JsonError as error:
        raise InvalidRequest(_json_problem(body, error)) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"The request body must be a JSON object, not {_named(value)}")
    check_shape(value)
    return value


def check_shape(value: JsonObject) -> None:
    """Refuse what is too deep or holds too much: level by level, without recursion. Raises InvalidRequest."""
    level: list[Json] = [value]
    values = 0
    for _ in range(MAX_DEPTH):
        values += sum(map(len, level))  # type: ignore[arg-type]
        if values > MAX_VALUES:
            raise InvalidRequest(f"The request body holds more than {MAX_VALUES} values")
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)  # type: ignore[union-attr]
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise InvalidRequest(f"The request body is nested more than {MAX_DEPTH} levels deep")


def _json_problem(body: bytes, error: JsonError) -> str:
    if not body.strip():
        return "The request body is empty; expected a JSON object"
    try:
        body.decode()
    except UnicodeDecodeError as undecodable:
        return f"The request body is not valid UTF-8: byte {undecodable.start} cannot be decoded"
    return f"The request body is not valid JSON: {error}"


def check(model: type[ModelT], body: JsonObject, *, at: str = "") -> ModelT:
    """The body as a model. Raises InvalidRequest whose `param` is the path of the field at fault.

    `at` is where `body` stands in the request, when it is only a part of one.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _named_problem(body, error, at) from None


def missing(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{param}'", param=param, code="missing_required_parameter"
    )


def _named_problem(body: JsonObject, error: ValidationError, at: str) -> InvalidRequest:
    """The problem that lies deepest in the body: the others are branches of unions that were not meant."""
    problems = []
    for detail in error.errors(include_url=False):
        path = _real_path(body, detail["loc"], missing=detail["type"] == "missing")
        problems.append((path, detail))
    depth = max(len(path) for path, _ in problems)
    path, first = next(problem for problem in problems if len(problem[0]) == depth)
    param = ".".join([at, *path] if at else path)
    if first["type"] == "missing":
        return missing(param)
    value = first["input"]
    if first["type"] == "literal_error":
        given = f"'{value[:40]}'" if isinstance(value, str) else _named(value)
        return InvalidRequest(
            f"Invalid '{param}': expected {first['ctx']['expected']}, but got {given}",
            param=param,
            code="invalid_value",
        )
    wanted = " or ".join(dict.fromkeys(_wanted(detail) for p, detail in problems if p == path))
    return InvalidRequest(
        f"Invalid '{param}': expected {wanted}, but got {_named(value)}", param=param, code="invalid_type"
    )


def _real_path(body: Json, loc: Sequence[int | str], *, missing: bool) -> list[str]:
    """The location without the union branches that pydantic puts into it: what leads into the body."""
    path: list[str] = []
    current: object = body
    for at, step in enumerate(loc):
        if _has(current, step):
            current = current[step]  # type: ignore[index]
        elif not (missing and at == len(loc) - 1):
            continue
        path.append(str(step))
    return path


def _has(value: object, step: int | str) -> bool:
    if isinstance(value, dict):
        return step in value
    return isinstance(value, list) and isinstance(step, int) and step < len(value)


_TYPES = {
    "string_type": "a string",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
}


def _wanted(detail: ErrorDetails) -> str:
    return _TYPES.get(detail["type"], detail["msg"])


def _named(value: object) -> str:
    """A value by its JSON type only: messages of errors are logged, what clients write is not."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
