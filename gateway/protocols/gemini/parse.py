"""A generateContent body, and the model and method of its address, to a Turn. Pure.

Called by protocols/endpoint.py, also for bodies whose tokens are only to be counted. What Gemini can say and
a turn cannot is recorded as a loss; cached content cannot be had here and is refused.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.protocols.bodies import TurnContext, check, load_object, missing
from gateway.protocols.gemini.contents import Conversation
from gateway.protocols.gemini.schema import json_schema
from gateway.protocols.gemini.tools import mentions_tools, read_tool_choice, read_tools
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, RawRequest, ReasoningRequest, Sampling, Turn
from gateway.wire.gemini import CountRequest, GenerateRequest, GenerationConfigIn, ThinkingConfigIn

STREAM: Final = "streamGenerateContent"

_CONFIG: Final = "generationConfig"
_UNSUPPORTED: Final = (
    "audioTimestamp",
    "enableAffectiveDialog",
    "enableEnhancedCivicAnswers",
    "imageConfig",
    "logprobs",
    "mediaResolution",
    "modelSelectionConfig",
    "responseFormat",
    "responseLogprobs",
    "routingConfig",
    "speechConfig",
    "translationConfig",
)
"""Settings that ask for something no turn can carry."""

_NO_CONFIG: Final = GenerationConfigIn()


def parse_generate(body: bytes, context: TurnContext) -> Turn:
    """Raises InvalidRequest naming the field at fault."""
    return _turn(load_object(body), context)


def parse_count(body: bytes, context: TurnContext) -> Turn:
    """As parse_generate, for countTokens: the request may stand in a member of its own."""
    raw = load_object(body)
    inner = check(CountRequest, raw).generate_content_request
    return _turn(raw if inner is None else cast(JsonObject, inner), context)


def _turn(body: JsonObject, context: TurnContext) -> Turn:
    # A null in one spelling of a name must not hide what stands under the other.
    raw: JsonObject = {name: value for name, value in body.items() if value is not None}
    request = check(GenerateRequest, raw)
    model = context.path_params["model"]
    if not model.strip():
        raise InvalidRequest("'model' must not be empty", param="model")
    if request.contents is None:
        raise missing("contents")
    if not request.contents:
        raise InvalidRequest("'contents' must not be empty", param="contents")
    if request.cached_content:
        raise InvalidRequest(
            "'cachedContent' is not available here: send the content itself",
            param="cachedContent",
            code="unsupported_value",
        )
    config = request.generation_config or _NO_CONFIG
    if config.candidate_count not in (None, 1):
        raise _invalid("candidateCount", "only 1 is supported")
    conversation = Conversation()
    if request.system_instruction is not None:
        instruction = raw.get("systemInstruction", raw.get("system_instruction"))
        conversation.system(request.system_instruction, instruction)
    conversation.contents(request.contents, raw["contents"])
    items = tuple(conversation.items)
    tools = read_tools(request, raw)
    output_format, format_losses = _output_format(config)
    return Turn(
        **context.fields(),
        model=model,
        items=items,
        raw=RawRequest(dialect="gemini", body=body),
        stream=context.path_params.get("method") == STREAM,
        tools=tools,
        tool_choice=read_tool_choice(request),
        tools_mentioned=mentions_tools(request, tools, items),
        sampling=_sampling(config),
        reasoning=_reasoning(config.thinking_config),
        output_format=output_format,
        losses=(*conversation.losses, *format_losses, *_losses(request, config, raw)),
    )


def _invalid(name: str, problem: str) -> InvalidRequest:
    param = f"{_CONFIG}.{name}"
    return InvalidRequest(f"Invalid '{param}': {problem}", param=param, code="unsupported_value")


def _sampling(config: GenerationConfigIn) -> Sampling:
    limit = config.max_output_tokens
    if limit is not None and limit < 1:
        raise _invalid("maxOutputTokens", "must be at least 1")
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=config.top_k,
        max_output_tokens=limit,
        stop=tuple(config.stop_sequences or ()),
        seed=config.seed,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
    )


def _reasoning(config: ThinkingConfigIn | None) -> ReasoningRequest | None:
    """A negative budget leaves the extent to the model. Thoughts that are to be shown may be a summary."""
    if config is None:
        return None
    budget = config.thinking_budget
    level = (config.thinking_level or "").lower().removeprefix("thinking_level_")
    effort = level if level not in ("", "unspecified") else None
    return ReasoningRequest(
        effort="none" if effort is None and budget == 0 else effort,
        budget_tokens=None if budget is None or budget < 0 else budget,
        summary="auto" if config.include_thoughts else None,
    )


def _output_format(config: GenerationConfigIn) -> tuple[OutputFormat | None, list[Loss]]:
    schema = config.response_json_schema
    if schema is None:
        schema = config.response_schema
    mime_type = (config.response_mime_type or "").split(";", 1)[0].strip().lower()
    if mime_type in ("", "text/plain", "application/json") and schema is not None:
        return OutputFormat(kind="json_schema", schema=json_schema(cast(JsonObject, schema))), []
    if mime_type == "application/json":
        return OutputFormat(kind="json_object"), []
    if mime_type in ("", "text/plain"):
        return None, []
    return None, [Loss(f"{_CONFIG}.responseMimeType", "unsupported")]


def _losses(request: GenerateRequest, config: GenerationConfigIn, raw: JsonObject) -> Iterator[Loss]:
    given = raw.get(_CONFIG, raw.get("generation_config"))
    settings = given if isinstance(given, dict) else {}
    for name in _UNSUPPORTED if settings else ():
        if settings.get(name) or settings.get(_snake(name)):
            yield Loss(f"{_CONFIG}.{name}", "unsupported")
    if any(modality.upper() != "TEXT" for modality in config.response_modalities or ()):
        yield Loss(f"{_CONFIG}.responseModalities", "unsupported")
    if request.safety_settings:
        yield Loss("safetySettings", "unsupported")


@lru_cache(maxsize=1024)
def _snake(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
