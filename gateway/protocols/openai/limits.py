"""Ranges, lengths and words of settings, refused in OpenAI's own words and codes. Pure."""

from collections.abc import Sequence
from typing import Final

from gateway.kernel.errors import InvalidRequest

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
VERBOSITIES: Final = ("low", "medium", "high")
SERVICE_TIERS: Final = ("auto", "default", "flex", "scale", "priority", "fast")


def check_range(value: float | None, param: str, low: int, high: int | None = None) -> None:
    """Raises InvalidRequest unless low <= value <= high; nothing is checked of None."""
    if value is None:
        return
    if value < low:
        raise _out_of_range(value, param, "below_min", f"below minimum value. Expected a value >= {low}")
    if high is not None and value > high:
        raise _out_of_range(value, param, "above_max", f"above maximum value. Expected a value <= {high}")


def _out_of_range(value: float, param: str, side: str, what: str) -> InvalidRequest:
    kind, told = ("integer", str(value)) if isinstance(value, int) else ("decimal", f"{value:g}")
    return InvalidRequest(
        f"Invalid '{param}': {kind} {what}, but got {told} instead.", param=param, code=f"{kind}_{side}_value"
    )


def check_length(values: Sequence[object], param: str, high: int) -> None:
    """Of a list or a text. Raises InvalidRequest when it is longer than `high`."""
    if len(values) <= high:
        return
    kind, one = ("string", "a string") if isinstance(values, str) else ("array", "an array")
    raise InvalidRequest(
        f"Invalid '{param}': {kind} too long. Expected {one} with maximum length {high}, "
        f"but got {one} with length {len(values)} instead.",
        param=param,
        code=f"{kind}_above_max_length",
    )


def check_word(value: str | None, param: str, words: Sequence[str]) -> None:
    if value is not None and value not in words:
        supported = ", ".join(f"'{word}'" for word in words[:-1]) + f", and '{words[-1]}'"
        raise InvalidRequest(
            f"Invalid value: '{value[:40]}'. Supported values are: {supported}.",
            param=param,
            code="invalid_value",
        )


def unsupported(param: str, why: str) -> InvalidRequest:
    """For what is right in OpenAI's API, cannot be had here, and would be missed by who asks for it."""
    return InvalidRequest(
        f"Unsupported parameter: '{param}' is not supported here: {why}.",
        param=param,
        code="unsupported_parameter",
    )
