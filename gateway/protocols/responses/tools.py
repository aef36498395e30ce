"""Tools and tool choice of a Responses request, and the names that calls are told by. Pure.

A tool in a namespace is known upstream by one name made of both; `CallNames` finds the client's names again
when an upstream calls it. Tools that OpenAI hosts (web search, image generation) are kept as such: what an
upstream without them does about it is the upstream's decision.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from gateway.kernel.json import JsonError, JsonObject, loads
from gateway.protocols.bodies import check, missing
from gateway.protocols.openai.tools import choice_word, read_tool
from gateway.turn.items import ToolCall
from gateway.turn.losses import Loss
from gateway.turn.tools import AUTO, ToolChoice, ToolSpec, local_name, qualified
from gateway.wire.chat import Object, ToolDef
from gateway.wire.responses import ChoiceIn, NamespaceDef

_CALLABLE = frozenset({"function", "custom"})


def read_tools(tools: Sequence[Object], path: str) -> list[ToolSpec]:
    """`path` is where the list stands in the body; namespaces are flattened."""
    return [
        spec
        for index, tool in enumerate(tools)
        for spec in _read(cast(JsonObject, tool), f"{path}.{index}", None)
    ]


def _read(tool: JsonObject, path: str, namespace: str | None) -> Iterator[ToolSpec]:
    if tool.get("type") == "namespace":
        group = check(NamespaceDef, tool, at=path)
        for index, inner in enumerate(group.tools):
            yield from _read(cast(JsonObject, inner), f"{path}.tools.{index}", group.name)
        return
    definition = check(ToolDef, tool, at=path)
    if definition.type in _CALLABLE and not (definition.name or definition.function or definition.custom):
        raise missing(f"{path}.name")
    spec = read_tool(definition, tool, path)
    if namespace is None:
        yield spec
        return
    yield ToolSpec(
        name=qualified(namespace, spec.name),
        namespace=namespace,
        description=spec.description,
        parameters=spec.parameters,
        kind=spec.kind,
        strict=spec.strict,
        raw=spec.raw,
    )


def merged(specs: Sequence[ToolSpec]) -> tuple[ToolSpec, ...]:
    """One tool for each name: the one that was offered last, in the place of the first."""
    return tuple({spec.name: spec for spec in specs}.values())


def read_choice(choice: str | Object | None, specs: Sequence[ToolSpec], losses: list[Loss]) -> ToolChoice:
    """Raises InvalidRequest naming the field. Choosing a hosted tool is a loss: nothing here can call it."""
    if choice is None:
        return AUTO
    if isinstance(choice, str):
        return choice_word(choice, "tool_choice")
    wanted = check(ChoiceIn, cast(JsonObject, choice), at="tool_choice")
    names = CallNames(specs)
    if wanted.type == "allowed_tools":
        return _allowed(wanted, names)
    if wanted.type in _CALLABLE or wanted.type == "tool":
        name = _name(wanted)
        if not name:
            raise missing("tool_choice.name")
        return ToolChoice("named", (names.offered_as(name, wanted.namespace),))
    if wanted.type in ("auto", "none", "required", "any"):
        return choice_word(wanted.type, "tool_choice.type")
    losses.append(Loss("tool_choice", "unsupported"))
    return AUTO


def _allowed(wanted: ChoiceIn, names: "CallNames") -> ToolChoice:
    nested = wanted.allowed_tools
    tools = nested.tools if nested else wanted.tools
    mode = (nested.mode if nested else wanted.mode) or "auto"
    if tools is None:
        raise missing("tool_choice.tools")
    allowed = []
    for index, tool in enumerate(tools):
        name = _name(tool)
        if name is None and tool.type in _CALLABLE:
            raise missing(f"tool_choice.tools.{index}.name")
        allowed.append(names.offered_as(name or tool.type, tool.namespace))
    return ToolChoice(mode, tuple(allowed))


def _name(choice: ChoiceIn) -> str | None:
    nested = choice.function or choice.custom
    return nested.name if nested else choice.name


class CallName(NamedTuple):
    """A tool as the client knows it."""

    name: str
    namespace: str | None
    custom: bool


class CallNames:
    """The tools of a turn by the names that upstreams call them."""

    def __init__(self, specs: Sequence[ToolSpec]) -> None:
        self._specs: dict[str, ToolSpec] = {}
        for spec in specs:
            if spec.kind != "hosted":
                # A model may leave the namespace out; the whole name goes before.
                self._specs.setdefault(local_name(spec), spec)
        self._specs.update({spec.name: spec for spec in specs if spec.kind != "hosted"})

    def of(self, name: str) -> CallName:
        """A name that nobody offered is given as it is."""
        spec = self._specs.get(name)
        if spec is None:
            return CallName(name, None, False)
        return CallName(local_name(spec), spec.namespace, spec.kind == "custom")

    def offered_as(self, name: str, namespace: str | None) -> str:
        """The name under which upstreams are offered what the client calls so."""
        whole = qualified(namespace, name)
        spec = self._specs.get(whole)
        return whole if spec is None else spec.name


def free_text(call: ToolCall) -> str:
    """What a custom tool was called with, when the upstream could only be offered it as a function."""
    if call.kind == "custom":
        return call.arguments
    try:
        arguments = loads(call.arguments)
    except JsonError:
        return call.arguments
    if isinstance(arguments, dict) and list(arguments) == ["input"] and isinstance(arguments["input"], str):
        return arguments["input"]
    return call.arguments
