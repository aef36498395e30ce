"""Tools and function calling modes of a Gemini request. Pure.

A tool object holds functions that the client runs and, each under its own member, tools that Google runs
itself. The mode ANY with one allowed name forces that function; with several, one of them.
"""

from collections.abc import Iterator, Sequence
from typing import Final, cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.protocols.gemini.schema import json_schema
from gateway.turn.items import Item, ToolCall, ToolResult
from gateway.turn.tools import AUTO, NONE, ToolChoice, ToolSpec
from gateway.wire.gemini import FunctionCallingConfigIn, GenerateRequest, ToolIn

MODE: Final = "toolConfig.functionCallingConfig.mode"
_DECLARATIONS: Final = ("functionDeclarations", "function_declarations")


def read_tools(request: GenerateRequest, raw: JsonObject) -> tuple[ToolSpec, ...]:
    """`raw` is the body that the request was made of."""
    given = raw.get("tools")
    originals = cast(list[JsonObject], given if isinstance(given, list) else [given])
    specs: list[ToolSpec] = []
    for tool, original in zip(request.tools or (), originals, strict=False):
        specs += _functions(tool, original)
        specs += [
            ToolSpec(name=name, kind="hosted", raw={name: value})
            for name, value in original.items()
            if name not in _DECLARATIONS and value is not None
        ]
    return tuple(specs)


def _functions(tool: ToolIn, original: JsonObject) -> Iterator[ToolSpec]:
    declared = next((original[name] for name in _DECLARATIONS if name in original), None)
    raws = cast(list[JsonObject], declared or [])
    for function, raw in zip(tool.function_declarations or (), raws, strict=True):
        schema = function.parameters_json_schema
        if schema is None:
            schema = function.parameters
        yield ToolSpec(
            name=function.name,
            description=function.description,
            parameters=None if schema is None else json_schema(cast(JsonObject, schema)),
            raw=raw,
        )


def read_tool_choice(request: GenerateRequest) -> ToolChoice:
    """Raises InvalidRequest naming the mode."""
    config = _config(request)
    if config is None:
        return AUTO
    names = tuple(config.allowed_function_names or ())
    match (config.mode or "").upper():
        case "" | "MODE_UNSPECIFIED" | "AUTO" | "VALIDATED":
            return ToolChoice("auto", names)
        case "ANY" if len(names) == 1:
            return ToolChoice("named", names)
        case "ANY":
            return ToolChoice("required", names)
        case "NONE":
            return NONE
        case _:
            raise InvalidRequest(
                f"Invalid '{MODE}': expected 'AUTO', 'ANY', 'NONE' or 'VALIDATED'",
                param=MODE,
                code="invalid_value",
            )


def mentions_tools(request: GenerateRequest, tools: Sequence[ToolSpec], items: Sequence[Item]) -> bool:
    """Whether the request names tools in any way: offered, chosen, called or answered."""
    if tools or _config(request) is not None:
        return True
    return any(isinstance(item, ToolCall | ToolResult) for item in items)


def _config(request: GenerateRequest) -> FunctionCallingConfigIn | None:
    return request.tool_config.function_calling_config if request.tool_config else None
