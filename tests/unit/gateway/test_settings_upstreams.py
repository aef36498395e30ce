from pathlib import Path

import pytest

from gateway.environ import SettingsError
from gateway.settings import GatewaySettings, load

FILE = """
upstreams:
  - name: openai
    kind: codex
    base_url: https://api.example.com/v1
    credentials: [{id: one, api_key: secret-value}]
    models: [gpt-5.2]
routes:
  - models: best
    candidates: [{upstream: codex, model: gpt}]
"""


def loaded(**environ: str) -> GatewaySettings:
    settings, warnings = load(environ)
    assert warnings == []
    return settings


def test_nothing_is_configured_unless_it_is() -> None:
    settings = loaded()
    assert settings.upstreams.config().upstreams == ()
    assert (settings.replay.enabled, settings.replay.isolation, settings.replay.strict) == (
        True,
        "tenant",
        False,
    )


def test_variables_describe_one_upstream_of_each_kind() -> None:
    settings = loaded(
        CODEX_BASE_URL="https://api.example.com/v1",
        CODEX_API_KEYS="a, b",
        CODEX_MODELS="gpt-5.2,gpt-5.2-codex",
        ANTIGRAVITY_BASE_URL="https://gemini.example.com",
        ANTIGRAVITY_API_KEYS="g",
        ANTIGRAVITY_MODELS="gemini-3-pro",
        REPLAY_ISOLATION="Shared",
    )
    codex, antigravity = settings.upstreams.config().upstreams
    assert (codex.name, codex.kind, [c.id for c in codex.credentials]) == (
        "codex",
        "codex",
        ["key-1", "key-2"],
    )
    assert [model.id for model in codex.models] == ["gpt-5.2", "gpt-5.2-codex"]
    assert (antigravity.name, antigravity.kind) == ("antigravity", "antigravity")
    assert settings.replay.isolation == "shared"
    assert "'a'" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"CODEX_BASE_URL": "https://x"}, "CODEX_API_KEYS and CODEX_MODELS"),
        ({"CODEX_API_KEYS": "k"}, "CODEX_BASE_URL and CODEX_MODELS"),
        ({"ANTIGRAVITY_BASE_URL": "https://x", "ANTIGRAVITY_API_KEYS": "k"}, "ANTIGRAVITY_MODELS"),
        ({"UPSTREAMS_FILE": "/nowhere/upstreams.yaml"}, "UPSTREAMS_FILE"),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        load(environ)


def test_file_and_variables_add_up_and_must_agree(tmp_path: Path) -> None:
    file = tmp_path / "upstreams.yaml"
    file.write_text(FILE.replace("upstream: codex", "upstream: openai"))
    environ = {"CODEX_BASE_URL": "https://x", "CODEX_API_KEYS": "k", "CODEX_MODELS": "m"}
    config = loaded(UPSTREAMS_FILE=str(file), **environ).upstreams.config()
    assert [upstream.name for upstream in config.upstreams] == ["openai", "codex"]
    file.write_text(FILE.replace("name: openai", "name: codex"))
    with pytest.raises(SettingsError, match="two upstreams have the name 'codex'") as caught:
        load({"UPSTREAMS_FILE": str(file), **environ})
    assert "secret-value" not in str(caught.value)


def test_codex_own_variable_is_not_taken_for_ours() -> None:
    loaded(CODEX_HOME="~/.codex")
