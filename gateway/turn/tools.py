"""Tools a client offers and the choice it makes among them."""

import hashlib
from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from gateway.kernel.json import Json, JsonError, JsonObject, dumps_canonical, loads
from gateway.turn.items import ToolCall


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """As upstreams and ToolCall know it: with its namespace, where it has one."""
    namespace: str | None = None
    """The group that the client keeps it in."""
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


SEPARATOR = "__"
"""Between a namespace and a name, where both have to be one name."""


def qualified(namespace: str | None, name: str) -> str:
    """The one name of a tool in a namespace, for upstreams that know no namespaces."""
    return f"{namespace}{SEPARATOR}{name}" if namespace else name


def local_name(spec: ToolSpec) -> str:
    """The name within the namespace: what the client calls it."""
    return spec.name.removeprefix(f"{spec.namespace}{SEPARATOR}") if spec.namespace else spec.name


def function_parameters(spec: ToolSpec) -> JsonObject | None:
    """The schema under which an upstream that has only functions is offered the tool.

    A custom tool becomes a function whose one argument `input` is the tool's free text.
    """
    if spec.kind != "custom":
        return spec.parameters
    return {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}


def value_or_text(text: str) -> Json:
    """What the JSON says; the text itself where it is none."""
    try:
        return loads(text)
    except JsonError:
        return text


def arguments_object(call: ToolCall, read: Callable[[str], Json] = value_or_text) -> JsonObject:
    """The arguments where they have to be an object; what is none stands in its `input`, as
    `function_parameters` offers it. A call whose arguments are broken is then refused by whoever runs it, and
    the model gets to read why.

    `read`: the value of arguments that are not blank, and what to make of broken ones.
    """
    if call.kind == "custom":
        return {"input": call.arguments}
    if not call.arguments.strip():
        return {}
    value = read(call.arguments)
    return value if isinstance(value, dict) else {"input": value}


AUTO = ToolChoice("auto")
NONE = ToolChoice("none")

ToolProvider: TypeAlias = Literal["openai", "anthropic", "gemini"]


def fingerprint(config: JsonObject | None) -> str:
    """16 hex digits that change when the offered tools or the choice do; `-` when there are none."""
    if not isinstance(config, dict):
        return "-"
    return hashlib.sha1(dumps_canonical(config), usedforsecurity=False).hexdigest()[:16]
