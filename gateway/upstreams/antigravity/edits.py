"""A Gemini client's own request, edited for the upstream. Pure.

Named edits in a fixed order, each of which gives back the very same object where it does not apply: whatever
the client says that nobody here knows goes upstream as it came, in the spelling that it has. What Google's
service is lenient about and its look-alikes are not (a bare text for contents, roles of other protocols) is
brought into its form, and so are calls and responses, which replay has to find.
"""

from collections.abc import Callable, Mapping
from typing import Final

from gateway.kernel.json import Json, JsonObject
from gateway.turn.request import ReasoningRequest
from gateway.upstreams.antigravity.contents import with_user_first
from gateway.upstreams.antigravity.generation import thinking_config
from gateway.upstreams.antigravity.history import without_signature
from gateway.upstreams.antigravity.schema import gemini_parameters, gemini_schema

Edit = Callable[[JsonObject], JsonObject]

ODDS: Final = frozenset(
    {
        "model",
        "stream",
        "session_id",
        "sessionId",
        "conversation_id",
        "prompt_cache_key",
        "metadata",
        "user",
    }
)
"""What clients say to gateways, and Google refuses: the model is in the address."""
_CONTENTS: Final = "contents"
_SYSTEM: Final = ("systemInstruction", "system_instruction")
_CONFIG: Final = ("generationConfig", "generation_config")
_SAFETY: Final = ("safetySettings", "safety_settings")
_LIMIT: Final = ("maxOutputTokens", "max_output_tokens")
_THINKING: Final = ("thinkingConfig", "thinking_config")
_SHOWN: Final = ("includeThoughts", "include_thoughts")
_TOOL_CONFIG: Final = ("toolConfig", "tool_config")
_CALLING: Final = ("functionCallingConfig", "function_calling_config")
_DECLARATIONS: Final = ("functionDeclarations", "function_declarations")
_PARAMETERS: Final = ("parametersJsonSchema", "parameters_json_schema")
_RESPONSE_SCHEMA: Final = ("responseJsonSchema", "response_json_schema")
_ROLES: Final[Mapping[str, str]] = {
    "assistant": "model",
    "tool": "user",
    "system": "user",
    "developer": "user",
}
_SPELLED: Final[Mapping[str, str]] = {
    "function_call": "functionCall",
    "function_response": "functionResponse",
}


def edited(body: JsonObject, edits: tuple[Edit, ...]) -> JsonObject:
    for edit in edits:
        body = edit(body)
    return body


# -- for every upstream -----------------------------------------------------------------------------------


def odds(body: JsonObject) -> JsonObject:
    dropped = ODDS & body.keys()
    return {name: value for name, value in body.items() if name not in dropped} if dropped else body


def forms(body: JsonObject) -> JsonObject:
    """Contents as a list of objects with lists of objects, and roles that the upstream knows."""
    given = body.get(_CONTENTS)
    listed: list[Json] = given if isinstance(given, list) else [given]
    body = _with(body, _CONTENTS, given, _changed(listed, _content, listed is not given))
    for name in _SYSTEM:
        system = body.get(name)
        lone = isinstance(system, dict) and system and not {"parts", "role"} & system.keys()
        if lone or isinstance(system, str | list):
            body = {**body, name: {"parts": _parts(system)}}
    if isinstance(tools := body.get("tools"), dict):
        body = {**body, "tools": [tools]}
    return body


def _content(content: Json) -> Json:
    if isinstance(content, str):
        return {"role": "user", "parts": [{"text": content}]}
    if not isinstance(content, dict):
        return content
    role = content.get("role")
    if isinstance(role, str) and (known := _ROLES.get(role.lower())) is not None:
        content = {**content, "role": known}
    parts = content.get("parts")
    return _with(content, "parts", parts, _parts(parts)) if "parts" in content else content


def _parts(parts: Json) -> list[Json]:
    listed: list[Json] = parts if isinstance(parts, list) else [parts]
    return _changed(listed, _part, listed is not parts)


def _part(part: Json) -> Json:
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, dict) and not _SPELLED.keys().isdisjoint(part):
        return {_SPELLED.get(name, name): value for name, value in part.items()}
    return part


def thinking(body: JsonObject, wanted: ReasoningRequest, model: str) -> JsonObject:
    """As the model's name asks for it, in the place of what the body says; whether they are shown stays."""
    place = next((name for name in _CONFIG if name in body), _CONFIG[0])
    config = body.get(place)
    config = {**config} if isinstance(config, dict) else {}
    told = [config.pop(name) for name in _THINKING if name in config]
    shown = any(isinstance(one, dict) and any(one.get(name) is True for name in _SHOWN) for one in told)
    if (asked := thinking_config(wanted, model, shown=shown)) is not None:
        config[_THINKING[0]] = asked
    return {**body, place: config} if config or place in body else body


def unsigned(body: JsonObject) -> JsonObject:
    """Without what the client gave back of signatures: the upstream has refused one of them."""

    def bare(content: Json) -> Json:
        parts = content.get("parts") if isinstance(content, dict) else None
        if not isinstance(parts, list) or not isinstance(content, dict):
            return content
        return _with(content, "parts", parts, _changed(parts, _unsigned))

    given = body.get(_CONTENTS)
    return _with(body, _CONTENTS, given, _changed(given, bare)) if isinstance(given, list) else body


def _unsigned(part: Json) -> Json:
    return without_signature(part) if isinstance(part, dict) else part


# -- for Code Assist --------------------------------------------------------------------------------------


def safety(body: JsonObject) -> JsonObject:
    return without(body, _SAFETY)


def limit(body: JsonObject) -> JsonObject:
    return _in(body, _CONFIG, lambda config: without(config, _LIMIT))


def schemas(body: JsonObject) -> JsonObject:
    """JSON Schema proper is not known there."""
    body = _in(body, _CONFIG, _response_schema)
    tools = body.get("tools")
    return _with(body, "tools", tools, _changed(tools, _tool)) if isinstance(tools, list) else body


def _response_schema(config: JsonObject) -> JsonObject:
    for name in _RESPONSE_SCHEMA:
        if isinstance(schema := config.get(name), dict):
            return {**without(config, _RESPONSE_SCHEMA), "responseSchema": gemini_schema(schema)}
    return config


def _tool(tool: Json) -> Json:
    if not isinstance(tool, dict):
        return tool
    for name in _DECLARATIONS:
        if isinstance(declared := tool.get(name), list):
            tool = _with(tool, name, declared, _changed(declared, _declaration))
    return tool


def _declaration(function: Json) -> Json:
    if not isinstance(function, dict):
        return function
    for name in _PARAMETERS:
        if isinstance(schema := function.get(name), dict):
            bare = without(function, _PARAMETERS)
            parameters = gemini_parameters(schema)
            return bare if parameters is None else {**bare, "parameters": parameters}
    return function


def validated(body: JsonObject) -> JsonObject:
    """How Claude's models are told there to keep to the schemas of their tools."""
    name = next((name for name in _TOOL_CONFIG if name in body), _TOOL_CONFIG[0])
    config = body.get(name)
    config = config if isinstance(config, dict) else {}
    inner_name = next((name for name in _CALLING if name in config), _CALLING[0])
    inner = config.get(inner_name)
    calling: JsonObject = {**(inner if isinstance(inner, dict) else {}), "mode": "VALIDATED"}
    return body if calling == inner else {**body, name: {**config, inner_name: calling}}


def user_first(body: JsonObject) -> JsonObject:
    given = body.get(_CONTENTS)
    return _with(body, _CONTENTS, given, with_user_first(given)) if isinstance(given, list) else body


# -- tools of the trade -----------------------------------------------------------------------------------


def _with(body: JsonObject, name: str, old: Json, new: Json) -> JsonObject:
    return body if new is old else {**body, name: new}


def without(body: JsonObject, names: tuple[str, ...]) -> JsonObject:
    if not any(name in body for name in names):
        return body
    return {name: value for name, value in body.items() if name not in names}


def _changed(values: list[Json], change: Callable[[Json], Json], anew: bool = False) -> list[Json]:
    """The list itself when nothing in it changes. anew: it is ours already."""
    changed = [change(value) for value in values]
    if not anew and all(new is old for new, old in zip(changed, values, strict=True)):
        return values
    return changed


def _in(body: JsonObject, names: tuple[str, ...], change: Callable[[JsonObject], JsonObject]) -> JsonObject:
    for name in names:
        if isinstance(value := body.get(name), dict):
            body = _with(body, name, value, change(value))
    return body
