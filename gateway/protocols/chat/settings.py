"""Settings of a Chat Completions request: read, refused or told as lost. Pure.

Nonsense is refused as OpenAI refuses it. Of what makes sense there and cannot be had here, that which changes
the form of the answer is refused too (several choices, log probabilities, audio alone): a client that waits
for it would fail later and worse. The rest is a loss, the client is told and served.
"""

import re
from collections.abc import Iterator
from typing import Final, cast

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.protocols.bodies import missing
from gateway.protocols.openai.limits import (
    EFFORTS,
    SERVICE_TIERS,
    VERBOSITIES,
    check_length,
    check_range,
    check_word,
    unsupported,
)
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, ReasoningRequest, Sampling
from gateway.wire.chat import ChatRequest

MAX_STOPS: Final = 4
_FORMAT_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_UNSUPPORTED: Final = ("logit_bias", "audio", "prediction", "web_search_options", "moderation", "store")
"""Fields that ask for something no turn can carry."""


def check_settings(request: ChatRequest) -> None:
    """Raises InvalidRequest naming the first field that means nothing or asks for another form of answer."""
    check_range(request.n, "n", 1, 128)
    if request.n is not None and request.n != 1:
        raise InvalidRequest(
            f"Unsupported value: 'n' does not support {request.n} here. Only 1 choice is generated.",
            param="n",
            code="unsupported_value",
        )
    check_range(request.top_logprobs, "top_logprobs", 0, 20)
    for param in ("logprobs", "top_logprobs"):
        if getattr(request, param):
            raise unsupported(param, "no model behind this gateway tells log probabilities")
    if request.modalities and "text" not in request.modalities:
        raise InvalidRequest(
            "Unsupported value: 'modalities' must contain 'text' here. Nothing else is generated.",
            param="modalities",
            code="unsupported_value",
        )
    if request.stream_options is not None and not request.stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    for bias in (request.logit_bias or {}).values():
        check_range(bias, "logit_bias", -100, 100)
    check_word(request.verbosity, "verbosity", VERBOSITIES)
    check_word(request.service_tier, "service_tier", SERVICE_TIERS)


def read_sampling(request: ChatRequest) -> Sampling:
    """Raises InvalidRequest naming the field that is out of its range."""
    check_range(request.temperature, "temperature", 0, 2)
    check_range(request.top_p, "top_p", 0, 1)
    check_range(request.presence_penalty, "presence_penalty", -2, 2)
    check_range(request.frequency_penalty, "frequency_penalty", -2, 2)
    check_range(request.max_tokens, "max_tokens", 1)
    check_range(request.max_completion_tokens, "max_completion_tokens", 1)
    newer = request.max_completion_tokens
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        max_output_tokens=request.max_tokens if newer is None else newer,
        stop=_stops(request.stop),
        seed=request.seed,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
    )


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    """An empty text, which forms send for "none", stops nothing and is left out."""
    stops = tuple(text for text in ([stop] if isinstance(stop, str) else stop or ()) if text)
    check_length(stops, "stop", MAX_STOPS)
    return stops


def read_reasoning(request: ChatRequest) -> ReasoningRequest | None:
    check_word(request.reasoning_effort, "reasoning_effort", EFFORTS)
    return ReasoningRequest(effort=request.reasoning_effort) if request.reasoning_effort else None


def read_output_format(request: ChatRequest) -> OutputFormat | None:
    wanted = request.response_format
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        return OutputFormat(kind=wanted.type)
    schema = wanted.json_schema
    if schema is None:
        raise missing("response_format.json_schema")
    if schema.name is None:
        raise missing("response_format.json_schema.name")
    check_length(schema.name, "response_format.json_schema.name", 64)
    if not _FORMAT_NAME.fullmatch(schema.name):
        raise InvalidRequest(
            "Invalid 'response_format.json_schema.name': string does not match pattern. "
            f"Expected a string that matches the pattern '^{_FORMAT_NAME.pattern}$'.",
            param="response_format.json_schema.name",
            code="invalid_value",
        )
    if schema.schema_ is None and schema.strict:
        raise missing("response_format.json_schema.schema")
    return OutputFormat(
        kind="json_schema",
        name=schema.name,
        description=schema.description,
        schema=cast(JsonObject | None, schema.schema_),
        strict=schema.strict,
    )


def request_losses(request: ChatRequest) -> Iterator[Loss]:
    for name in _UNSUPPORTED:
        if getattr(request, name):
            yield Loss(name, "unsupported")
    if any(modality != "text" for modality in request.modalities or ()):
        yield Loss("modalities", "unsupported")
    if request.verbosity not in (None, "medium"):
        yield Loss("verbosity", "unsupported")
    if request.service_tier not in (None, "auto", "default"):
        yield Loss("service_tier", "unsupported")
