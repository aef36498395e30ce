"""Tools a client offers and the choice it makes among them."""

import hashlib
from typing import Literal, TypeAlias

import msgspec

from gateway.kernel.json import JsonObject, dumps_canonical


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    """JSON Schema of the arguments; None when the client sent none."""
    kind: Literal["function", "custom", "hosted"] = "function"
    strict: bool | None = None
    raw: JsonObject | None = None
    """The definition as the client sent it."""


class ToolChoice(msgspec.Struct, frozen=True):
    mode: Literal["auto", "none", "required", "named"]
    names: tuple[str, ...] = ()
    """The forced name, or the names allowed when mode is auto or required. Empty means all."""


AUTO = ToolChoice("auto")
NONE = ToolChoice("none")

ToolProvider: TypeAlias = Literal["openai", "anthropic", "gemini"]


def fingerprint(config: JsonObject | None) -> str:
    """16 hex digits that change when the offered tools or the choice do; `-` when there are none."""
    if not isinstance(config, dict):
        return "-"
    return hashlib.sha1(dumps_canonical(config), usedforsecurity=False).hexdigest()[:16]
