from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict

from gateway.kernel.json import dumps
from gateway.protocols.models import ModelEntry
from gateway.protocols.models_codex import BASE_INSTRUCTIONS, codex_catalogue
from gateway.wire.models import CodexModel


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Level(_Strict):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"]
    description: str


class Truncation(_Strict):
    mode: Literal["bytes", "tokens"]
    limit: int


class CatalogueEntry(_Strict):
    """What Codex 0.130 and 0.169 read. Fields without a default are those without which one of them rejects
    the whole catalogue; `upgrade` and the like may be null but must not hold anything else.
    """

    slug: str
    display_name: str
    supported_reasoning_levels: list[Level]
    shell_type: Literal["default", "local", "unified_exec", "disabled", "shell_command"]
    visibility: Literal["list", "hide", "none"]
    supported_in_api: bool
    priority: int
    base_instructions: str
    support_verbosity: bool
    truncation_policy: Truncation
    experimental_supported_tools: list[str]
    supports_reasoning_summaries: bool
    supports_parallel_tool_calls: bool

    description: str | None = None
    default_reasoning_level: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    upgrade: None = None
    default_verbosity: Literal["low", "medium", "high"] | None = None
    apply_patch_tool_type: Literal["freeform", "function"] | None = None
    context_window: int | None = None
    auto_compact_token_limit: int | None = None
    input_modalities: list[Literal["text", "image"]] = ["text", "image"]


PLAIN = ModelEntry(id="org_auto", display_name="Auto")
RICH = ModelEntry(id="vendor/k", reasoning=True, images=True, context_window=200_000)


def catalogue(*entries: ModelEntry) -> list[CodexModel]:
    return codex_catalogue(entries)


@pytest.mark.parametrize("entry", [PLAIN, RICH])
def test_an_entry_is_one_that_codex_reads(entry: ModelEntry) -> None:
    (model,) = catalogue(entry)
    CatalogueEntry.model_validate_json(dumps(model))


def test_the_first_model_is_the_default_of_the_client() -> None:
    assert [(model["slug"], model["priority"]) for model in catalogue(PLAIN, RICH)] == [
        ("org_auto", 0),
        ("vendor/k", 1),
    ]


def test_the_classic_tools_stay_on() -> None:
    (model,) = catalogue(RICH)
    assert model["shell_type"] == "shell_command"
    assert not {"use_responses_lite", "tool_mode"} & model.keys()


def test_a_model_that_reasons_is_offered_levels_and_another_is_not() -> None:
    plain, rich = catalogue(PLAIN, RICH)
    assert (plain["supported_reasoning_levels"], plain["default_reasoning_level"]) == ([], None)
    assert not plain["supports_reasoning_summaries"]
    assert rich["default_reasoning_level"] in [
        level["effort"] for level in rich["supported_reasoning_levels"]
    ]
    assert rich["supports_reasoning_summaries"]


def test_images_are_offered_only_where_they_arrive() -> None:
    plain, rich = catalogue(PLAIN, RICH)
    assert (plain["input_modalities"], rich["input_modalities"]) == (["text"], ["text", "image"])


def test_the_client_compacts_before_the_window_is_full() -> None:
    (model,) = catalogue(RICH)
    assert model["context_window"] == 200_000
    assert 100_000 < model["auto_compact_token_limit"] < 190_000


def test_a_model_without_a_display_name_is_called_by_its_id() -> None:
    assert catalogue(RICH)[0]["display_name"] == "vendor/k"


def test_the_instructions_are_a_whole_system_prompt() -> None:
    """They replace Codex's own: what the agent is, its tools, its limits and its answers must be in them."""
    for word in ("coding agent", "apply_patch", "AGENTS.md", "sandbox", "git reset", "plan", "language"):
        assert word in BASE_INSTRUCTIONS
    assert 2000 < len(BASE_INSTRUCTIONS) < 6000
    assert "\\" not in BASE_INSTRUCTIONS
    assert BASE_INSTRUCTIONS.isascii()
