"""Checks of JSON values, with the vendor's own words for what does not pass."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]


class Refusal(Exception):
    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code, **more}
        }
        self.headers = dict(headers or {})


def refuse(message: str, param: str, code: str | None = "invalid_value") -> Refusal:
    return Refusal(400, message, param=param, code=code)


def at(path: str, step: str | int) -> str:
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def named(value: Any) -> str:
    return _NAMES[type(value)]


def of_type(*types: type) -> Check:
    def check(value: Any, path: str) -> None:
        if type(value) in types or (float in types and type(value) is int):
            return
        wanted = " or ".join(_NAMES[one] for one in types)
        raise refuse(
            f"Invalid type for '{path}': expected {wanted}, but got {named(value)} instead.",
            path,
            "invalid_type",
        )

    return check


def one_of(*values: Any) -> Check:
    def check(value: Any, path: str) -> None:
        if value not in values:
            told = ", ".join(f"'{one}'" for one in values if one is not None)
            raise refuse(f"Invalid value: '{value}'. Supported values are: {told}.", path)

    return check


def number(low: float, high: float = float("inf"), *, whole: bool = False) -> Check:
    def check(value: Any, path: str) -> None:
        of_type(int if whole else float)(value, path)
        kind = "integer" if whole else "decimal"
        if value < low:
            raise refuse(
                f"Invalid '{path}': {kind} below minimum value. Expected a value >= {low}, but got {value} "
                "instead.",
                path,
                f"{kind}_below_min_value",
            )
        if value > high:
            raise refuse(
                f"Invalid '{path}': {kind} above maximum value. Expected a value <= {high}, but got {value} "
                "instead.",
                path,
                f"{kind}_above_max_value",
            )

    return check


def text(most: int | None = None, pattern: str | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        of_type(str)(value, path)
        if most is not None and len(value) > most:
            raise refuse(
                f"Invalid '{path}': string too long. Expected a string with maximum length {most}, but got a "
                f"string with length {len(value)} instead.",
                path,
                "string_above_max_length",
            )
        if pattern is not None and not re.fullmatch(pattern, value):
            raise refuse(
                f"Invalid '{path}': string does not match pattern. Expected a string that matches the "
                f"pattern '^{pattern}$'.",
                path,
            )

    return check


def or_null(check: Check) -> Check:
    def nullable(value: Any, path: str) -> None:
        if value is not None:
            check(value, path)

    return nullable


def anything(value: Any, path: str) -> None:
    pass


def members(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    fields = {**required, **(optional or {})}

    def check(value: Any, path: str) -> None:
        of_type(dict)(value, path)
        for name in value:
            if name not in fields:
                raise refuse(f"Unknown parameter: '{at(path, name)}'.", at(path, name), "unknown_parameter")
        for name in required:
            if name not in value:
                raise refuse(
                    f"Missing required parameter: '{at(path, name)}'.",
                    at(path, name),
                    "missing_required_parameter",
                )
        for name, given in value.items():
            fields[name](given, at(path, name))

    return check


def list_of(each: Check) -> Check:
    def check(value: Any, path: str) -> None:
        of_type(list)(value, path)
        for index, item in enumerate(value):
            each(item, at(path, index))

    return check


def by_type(shapes: Mapping[str, Check], default: str | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        of_type(dict)(value, path)
        kind = value.get("type", default)
        if kind is None:
            raise refuse(
                f"Missing required parameter: '{at(path, 'type')}'.",
                at(path, "type"),
                "missing_required_parameter",
            )
        if kind not in shapes:
            told = ", ".join(f"'{one}'" for one in shapes)
            raise refuse(f"Invalid value: '{kind}'. Supported values are: {told}.", at(path, "type"))
        shapes[kind](value, path)

    return check
