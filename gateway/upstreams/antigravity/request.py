"""A turn to a Gemini request, plain or inside the envelope of Code Assist. Pure.

A client of the same dialect has its own body edited (edits.py); every other client's turn is built from its
items. The envelope carries the gateway's own name: it never passes for a vendor's client.
"""

from typing import Final, Literal, cast

import msgspec

from gateway.kernel.ids import derived_uuid
from gateway.kernel.json import Json, JsonObject
from gateway.turn.items import OpaqueItem
from gateway.turn.losses import Loss
from gateway.turn.request import Turn
from gateway.turn.tools import ToolSpec, function_parameters
from gateway.upstreams.antigravity import edits
from gateway.upstreams.antigravity.contents import build_history
from gateway.upstreams.antigravity.generation import (
    MAX_STOPS,
    formats_beside_tools,
    generation_config,
    thinks_at_all,
    tool_config,
)
from gateway.upstreams.antigravity.names import upstream_name
from gateway.upstreams.antigravity.schema import gemini_parameters

OUR_NAME: Final = "lingma-gateway"

Envelope = Literal["plain", "code_assist"]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How this upstream wants its requests, and which attempt this is."""

    model: str
    executor: str
    """Whose origins may be sent back."""
    envelope: Envelope = "plain"
    thinks: bool = True
    """The model takes settings for its thinking."""
    drop: tuple[str, ...] = ()
    """Fields that this upstream refuses."""
    signatures: bool = True
    """Send what the client gave back of them; False after the upstream has refused one."""

    @property
    def is_claude(self) -> bool:
        """Code Assist serves models of another family, which want some things otherwise."""
        return "claude" in self.model.lower()


def build_request(turn: Turn, shape: Shape) -> JsonObject:
    """The request without its envelope. Raises InvalidRequest for content that cannot be sent.

    Sessions are found in it as it is given here: what is put in front of the conversation is not yet there.
    """
    if turn.raw.dialect == "gemini":
        request = edits.edited(turn.raw.body, _edits(shape))
        if turn.effort_named and turn.reasoning is not None and shape.thinks:
            request = edits.thinking(request, turn.reasoning, shape.model)
    else:
        request = built(turn, shape)
        if shape.envelope == "code_assist":
            request = edits.edited(request, _code_assist(shape))
    return edits.without(request, shape.drop)


def _edits(shape: Shape) -> tuple[edits.Edit, ...]:
    chosen: tuple[edits.Edit, ...] = (edits.odds, edits.forms)
    if not shape.signatures:
        chosen += (edits.unsigned,)
    return chosen + _code_assist(shape) if shape.envelope == "code_assist" else chosen


def _code_assist(shape: Shape) -> tuple[edits.Edit, ...]:
    family = edits.validated if shape.is_claude else edits.limit
    return (edits.safety, edits.schemas, family)


def with_user_first(request: JsonObject, turn: Turn, shape: Shape) -> JsonObject:
    """Plain requests of Gemini's own clients are theirs to begin."""
    if shape.is_claude or (turn.raw.dialect == "gemini" and shape.envelope == "plain"):
        return request
    return edits.user_first(request)


def enveloped(
    turn: Turn, shape: Shape, request: JsonObject, *, project: str, session_id: str, attempt: int
) -> JsonObject:
    """As Code Assist wants it. The ids depend on the turn and the attempt alone."""
    picture = "image" in shape.model.lower()
    kind = "image_gen" if picture else "agent"
    body: JsonObject = {
        "model": shape.model,
        "userAgent": OUR_NAME,
        "requestType": kind,
        "project": project,
        "requestId": f"{kind}-{derived_uuid(turn.id, 'antigravity', attempt)}",
        "request": request if picture else {**request, "sessionId": session_id},
    }
    return body


# -- built from items -------------------------------------------------------------------------------------


def built(turn: Turn, shape: Shape) -> JsonObject:
    history = build_history(turn.items, executor=shape.executor, signatures=shape.signatures)
    request: JsonObject = {"contents": history.contents}
    if history.system is not None:
        request["systemInstruction"] = history.system
    if declared := [_declaration(tool) for tool in _offered(turn)]:
        request["tools"] = [{"functionDeclarations": cast(Json, declared)}]
        names = [str(function["name"]) for function in declared]
        if (choice := tool_config(turn.tool_choice, names)) is not None:
            request["toolConfig"] = choice
    if config := generation_config(turn, shape.model, thinks=shape.thinks, tools=bool(declared)):
        request["generationConfig"] = config
    return request


def _offered(turn: Turn) -> list[ToolSpec]:
    """Of names that are offered twice the last. Whom the client lets choose among some is offered those."""
    functions = {upstream_name(tool.name): tool for tool in turn.tools if tool.kind != "hosted"}
    choice = turn.tool_choice
    if choice.mode == "auto" and choice.names:
        return [tool for tool in functions.values() if tool.name in choice.names]
    return list(functions.values())


def _declaration(tool: ToolSpec) -> JsonObject:
    function: JsonObject = {"name": upstream_name(tool.name), "description": _description(tool)}
    parameters = gemini_parameters(function_parameters(tool))
    return function if parameters is None else {**function, "parameters": parameters}


def _description(tool: ToolSpec) -> str:
    """With the grammar of a custom tool, which a function has no place for."""
    nested = (tool.raw or {}).get("custom", tool.raw)
    grammar = nested.get("format") if isinstance(nested, dict) else None
    said = tool.description or tool.name
    definition = grammar.get("definition") if isinstance(grammar, dict) else None
    if tool.kind != "custom" or not isinstance(definition, str):
        return said
    return f"{said}\n\nThe input keeps to this grammar:\n{definition}"


# -- what is lost -----------------------------------------------------------------------------------------


def losses_of(turn: Turn, shape: Shape) -> list[Loss]:
    """What this upstream's model will not honour; known before anything is sent."""
    losses: list[Loss] = []
    in_envelope = shape.envelope == "code_assist"
    if in_envelope and not shape.is_claude and turn.sampling.max_output_tokens is not None:
        losses.append(Loss("max_output_tokens", "unsupported"))
    if turn.raw.dialect == "gemini":
        if in_envelope and not {"safetySettings", "safety_settings"}.isdisjoint(turn.raw.body):
            losses.append(Loss("safetySettings", "unsupported"))
        return losses + [Loss(name, "unsupported") for name in shape.drop if turn.raw.body.get(name)]
    losses += [Loss(f"tools.{tool.name}", "hosted-elsewhere") for tool in turn.tools if tool.kind == "hosted"]
    if turn.parallel_tool_calls is False:
        losses.append(Loss("parallel_tool_calls", "unsupported"))
    if len(turn.sampling.stop) > MAX_STOPS:
        losses.append(Loss("stop", "more-than", f"{MAX_STOPS}"))
    if turn.reasoning is not None and not (shape.thinks and thinks_at_all(shape.model)):
        losses.append(Loss("reasoning", "unsupported"))
    wanted = turn.output_format
    if (
        wanted is not None
        and wanted.kind != "text"
        and _offered(turn)
        and not formats_beside_tools(shape.model)
    ):
        losses.append(Loss("output_format", "not-beside-tools"))
    losses += [
        Loss(f"messages.{number}", "not-in-gemini", item.type)
        for number, item in enumerate(turn.items)
        if isinstance(item, OpaqueItem)
    ]
    return losses
