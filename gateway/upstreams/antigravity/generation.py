"""Settings of a turn to Gemini's `generationConfig` and `toolConfig`. Pure.

How much a model thinks is said by a level from its third generation on, and by a budget of tokens before;
what clients of other protocols say of it is mapped as Google's own compatibility layer for OpenAI's clients
maps it. Budgets are brought into the range of their model, which is else a refused request.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.kernel.json import JsonObject
from gateway.turn.request import ReasoningRequest, Sampling, Turn
from gateway.turn.tools import ToolChoice
from gateway.upstreams.antigravity.names import upstream_name
from gateway.upstreams.antigravity.schema import gemini_schema

MAX_STOPS: Final = 5

_VERSION: Final = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_BUDGETS: Final[Mapping[str, int]] = {
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
}
_MAX_BUDGET: Final = 24576
_PRO_BUDGETS: Final = (128, 32768)
"""The largest models cannot do without thinking."""
_INT32: Final = 0x7FFF_FFFF


def generation_config(turn: Turn, model: str, *, thinks: bool, tools: bool = False) -> JsonObject:
    """Empty when the turn says nothing. thinks: the model takes settings for its thinking. tools: it is
    offered some.
    """
    config = _sampling(turn.sampling)
    wanted = turn.output_format
    if wanted is not None and wanted.kind != "text" and not (tools and not formats_beside_tools(model)):
        config["responseMimeType"] = "application/json"
        if wanted.schema is not None:
            config["responseSchema"] = gemini_schema(wanted.schema)
    if turn.reasoning is not None and thinks:
        shown = turn.raw.dialect != "responses" or turn.reasoning.summary is not None
        if (thinking := thinking_config(turn.reasoning, model, shown=shown)) is not None:
            config["thinkingConfig"] = thinking
    return config


def formats_beside_tools(model: str) -> bool:
    """Before the third generation, a request with functions may not ask for JSON."""
    version = _version(model)
    return version is None or version >= (3, 0)


def thinks_at_all(model: str) -> bool:
    version = _version(model)
    return version is None or version >= (2, 5)


def _sampling(sampling: Sampling) -> JsonObject:
    config: JsonObject = {}
    for name, value in (
        ("temperature", sampling.temperature),
        ("topP", sampling.top_p),
        ("topK", sampling.top_k),
        ("maxOutputTokens", sampling.max_output_tokens),
        # Some models refuse the field, and 0 is what clients send that do not mean it.
        ("presencePenalty", sampling.presence_penalty or None),
        ("frequencyPenalty", sampling.frequency_penalty or None),
    ):
        if value is not None:
            config[name] = value
    if sampling.stop:
        config["stopSequences"] = list(sampling.stop[:MAX_STOPS])
    if sampling.seed is not None:
        config["seed"] = sampling.seed & _INT32
    return config


def thinking_config(wanted: ReasoningRequest, model: str, *, shown: bool) -> JsonObject | None:
    """shown: the client wants to read the thoughts. None for a model that does not think."""
    if not thinks_at_all(model):
        return None
    version = _version(model)
    off = wanted.effort == "none"
    config: JsonObject = {"includeThoughts": True} if shown and not off else {}
    if wanted.budget_tokens is not None or version is None or version < (3, 0):
        if (budget := _budget(wanted, model)) is not None:
            config["thinkingBudget"] = budget
    elif (level := _level(wanted.effort, model, version)) is not None:
        config["thinkingLevel"] = level
    return config or None


def _version(model: str) -> tuple[int, int] | None:
    found = _VERSION.search(model.lower())
    return (int(found[1]), int(found[2] or 0)) if found else None


def _budget(wanted: ReasoningRequest, model: str) -> int | None:
    if wanted.budget_tokens is not None:
        budget = wanted.budget_tokens
    elif wanted.effort == "none":
        budget = 0
    elif wanted.effort is None:
        return None
    else:
        budget = _BUDGETS.get(wanted.effort, _MAX_BUDGET)
    if "pro" in model.lower():
        least, most = _PRO_BUDGETS
        return max(least, min(budget, most))
    return min(budget, _MAX_BUDGET)


def _level(effort: str | None, model: str, version: tuple[int, int]) -> str | None:
    """The first large model of the generation knows two levels alone."""
    pro = "pro" in model.lower()
    match effort:
        case None:
            return None
        case "none" | "minimal":
            return "LOW" if pro else "MINIMAL"
        case "low":
            return "LOW"
        case "medium":
            return "HIGH" if pro and version == (3, 0) else "MEDIUM"
        case _:
            return "HIGH"


def tool_config(choice: ToolChoice, offered: Sequence[str]) -> JsonObject | None:
    """offered: names as the upstream is told them. None where the model may do as it likes."""
    match choice.mode:
        case "auto":
            return None
        case "none":
            return {"functionCallingConfig": {"mode": "NONE"}}
        case "required" | "named":
            config: JsonObject = {"mode": "ANY"}
            names = [upstream_name(name) for name in choice.names]
            if allowed := [name for name in names if name in offered]:
                config["allowedFunctionNames"] = list(allowed)
            return {"functionCallingConfig": config}
