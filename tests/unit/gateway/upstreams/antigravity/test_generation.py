from typing import Any

import pytest

from gateway.kernel.ids import TurnId
from gateway.turn.items import Dialect
from gateway.turn.request import OutputFormat, RawRequest, ReasoningRequest, Sampling, Turn
from gateway.turn.tools import ToolChoice
from gateway.upstreams.antigravity.generation import (
    formats_beside_tools,
    generation_config,
    thinking_config,
    thinks_at_all,
    tool_config,
)
from gateway.upstreams.antigravity.names import upstream_name
from tests.fakes.antigravity_fields import Checker

ODD = upstream_name("1st")

FLASH, PRO, FLASH_3, PRO_3, PRO_31 = (
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-3-flash",
    "gemini-3-pro-preview",
    "gemini-3.1-pro",
)


def turn(dialect: Dialect = "chat", **fields: Any) -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant="-",
        created_at_ms=0,
        model="m",
        items=(),
        raw=RawRequest(dialect, {}),
        **fields,
    )


def test_a_turn_without_settings_has_none() -> None:
    assert generation_config(turn(), PRO_3, thinks=True) == {}


def test_every_setting_has_its_field() -> None:
    sampling = Sampling(
        temperature=0.0,
        top_p=0.5,
        top_k=3,
        max_output_tokens=9,
        stop=("a", "b", "c", "d", "e", "f"),
        seed=2**40 + 7,
        presence_penalty=0.5,
        frequency_penalty=0.0,
    )
    assert generation_config(turn(sampling=sampling), PRO_3, thinks=True) == {
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 3,
        "maxOutputTokens": 9,
        "presencePenalty": 0.5,
        "stopSequences": ["a", "b", "c", "d", "e"],
        "seed": 7,
    }


def test_formats() -> None:
    schema: Any = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    wanted = turn(output_format=OutputFormat(kind="json_schema", schema=schema))
    assert generation_config(wanted, FLASH, thinks=True) == {
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
    }
    wanted = turn(output_format=OutputFormat(kind="json_object"))
    assert generation_config(wanted, FLASH, thinks=True) == {"responseMimeType": "application/json"}
    assert generation_config(wanted, FLASH, thinks=True, tools=True) == {}
    assert generation_config(wanted, PRO_3, thinks=True, tools=True) != {}
    assert generation_config(turn(output_format=OutputFormat()), FLASH, thinks=True) == {}
    assert formats_beside_tools("some-agent")


@pytest.mark.parametrize(
    ("model", "effort", "budget", "expected"),
    [
        (FLASH, "none", None, {"thinkingBudget": 0}),
        (FLASH, "minimal", None, {"thinkingBudget": 1024}),
        (FLASH, "low", None, {"thinkingBudget": 1024}),
        (FLASH, "medium", None, {"thinkingBudget": 8192}),
        (FLASH, "xhigh", None, {"thinkingBudget": 24576}),
        (FLASH, None, 31999, {"thinkingBudget": 24576}),
        (PRO, "none", None, {"thinkingBudget": 128}),
        (PRO, None, 31999, {"thinkingBudget": 31999}),
        (PRO, None, 99999, {"thinkingBudget": 32768}),
        (FLASH_3, "none", None, {"thinkingLevel": "MINIMAL"}),
        (FLASH_3, "medium", None, {"thinkingLevel": "MEDIUM"}),
        (FLASH_3, "high", 5000, {"thinkingBudget": 5000}),
        (PRO_3, "none", None, {"thinkingLevel": "LOW"}),
        (PRO_3, "low", None, {"thinkingLevel": "LOW"}),
        (PRO_3, "medium", None, {"thinkingLevel": "HIGH"}),
        (PRO_31, "medium", None, {"thinkingLevel": "MEDIUM"}),
        (PRO_3, "max", None, {"thinkingLevel": "HIGH"}),
        (PRO_3, None, None, {}),
        ("gpt-oss-agent", "high", None, {"thinkingBudget": 24576}),
        ("gemini-2.0-flash", "high", None, None),
        ("gemini-1.5-pro", None, 1024, None),
    ],
)
def test_how_much_to_think(
    model: str, effort: str | None, budget: int | None, expected: dict[str, Any] | None
) -> None:
    config = thinking_config(ReasoningRequest(effort=effort, budget_tokens=budget), model, shown=True)
    assert (config is None) == (expected is None) == (not thinks_at_all(model))
    if expected is not None:
        shown: dict[str, Any] = {} if effort == "none" else {"includeThoughts": True}
        assert config == (shown | expected or None)
        checker = Checker(model)
        checker._thinking(config, newer="gemini-3" in model)
        assert checker.problems == []


def test_thoughts_are_shown_to_who_can_show_them() -> None:
    asked = ReasoningRequest(effort="high")
    for dialect in ("chat", "messages"):
        config: Any = generation_config(turn(dialect, reasoning=asked), PRO_3, thinks=True)
        assert config["thinkingConfig"]["includeThoughts"] is True
    config = generation_config(turn("responses", reasoning=asked), PRO_3, thinks=True)
    assert config == {"thinkingConfig": {"thinkingLevel": "HIGH"}}
    summed = ReasoningRequest(effort="high", summary="auto")
    config = generation_config(turn("responses", reasoning=summed), PRO_3, thinks=True)
    assert config["thinkingConfig"]["includeThoughts"] is True
    assert generation_config(turn("chat", reasoning=asked), PRO_3, thinks=False) == {}
    assert thinking_config(ReasoningRequest(), PRO_3, shown=False) is None


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice("auto"), None),
        (ToolChoice("auto", ("a",)), None),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("required", ("a", "gone")), {"mode": "ANY", "allowedFunctionNames": ["a"]}),
        (ToolChoice("named", ("1st",)), {"mode": "ANY", "allowedFunctionNames": [ODD]}),
        (ToolChoice("named", ("gone",)), {"mode": "ANY"}),
    ],
)
def test_choices(choice: ToolChoice, expected: dict[str, Any] | None) -> None:
    config = tool_config(choice, ["a", ODD])
    assert config == (None if expected is None else {"functionCallingConfig": expected})
