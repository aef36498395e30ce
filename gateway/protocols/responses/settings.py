"""Settings of a Responses request: read, refused or told as lost. Pure.

Numbers out of their ranges are refused as OpenAI refuses them. Words that only newer clients know (an effort,
a tier) are taken as they are: what an upstream does not honour is a loss, and a refusal would lock them out.
"""

from collections.abc import Iterator
from typing import cast

from gateway.kernel.json import JsonObject
from gateway.protocols.bodies import missing
from gateway.protocols.openai.limits import check_range
from gateway.protocols.responses.objects import ENCRYPTED_REASONING
from gateway.turn.losses import Loss
from gateway.turn.request import OutputFormat, ReasoningRequest, Sampling
from gateway.wire.responses import ResponsesRequest


def read_sampling(request: ResponsesRequest) -> Sampling:
    """Raises InvalidRequest naming the field that is out of its range."""
    check_range(request.temperature, "temperature", 0, 2)
    check_range(request.top_p, "top_p", 0, 1)
    check_range(request.presence_penalty, "presence_penalty", -2, 2)
    check_range(request.frequency_penalty, "frequency_penalty", -2, 2)
    check_range(request.max_output_tokens, "max_output_tokens", 1)
    check_range(request.max_tool_calls, "max_tool_calls", 1)
    check_range(request.top_logprobs, "top_logprobs", 0, 20)
    return Sampling(
        temperature=request.temperature,
        top_p=request.top_p,
        max_output_tokens=request.max_output_tokens,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
    )


def read_reasoning(request: ResponsesRequest) -> ReasoningRequest | None:
    wanted = request.reasoning
    if wanted is None:
        return None
    return ReasoningRequest(effort=wanted.effort, summary=wanted.summary or wanted.generate_summary)


def read_output_format(request: ResponsesRequest) -> OutputFormat | None:
    wanted = request.text.format if request.text else None
    if wanted is None:
        return None
    if wanted.type != "json_schema":
        return OutputFormat(kind=wanted.type)
    if not wanted.name:
        raise missing("text.format.name")
    if wanted.schema_ is None:
        raise missing("text.format.schema")
    return OutputFormat(
        kind="json_schema",
        name=wanted.name,
        description=wanted.description,
        schema=cast(JsonObject, wanted.schema_),
        strict=wanted.strict,
    )


def request_losses(request: ResponsesRequest) -> Iterator[Loss]:
    if request.store:
        yield Loss("store", "not-stored")
    if request.truncation == "auto":
        yield Loss("truncation", "unsupported")
    if request.service_tier not in (None, "auto", "default"):
        yield Loss("service_tier", "unsupported")
    if request.text is not None and request.text.verbosity not in (None, "medium"):
        yield Loss("text.verbosity", "unsupported")
    for name in ("top_logprobs", "max_tool_calls"):
        if getattr(request, name):
            yield Loss(name, "unsupported")
    for index, wanted in enumerate(request.include or ()):
        if wanted != ENCRYPTED_REASONING:
            yield Loss(f"include.{index}", "unsupported")
