from pathlib import Path
from typing import Any

import pytest

from gateway.upstreams.config import NOTHING, UpstreamsConfig, read_upstreams_file
from tests.fakes.codex_server import PLAIN_MODEL, REASONING_MODEL
from tests.support.codex import config_of

ONE = """
upstreams:
  - name: openai
    kind: codex
    base_url: https://api.example.com/v1/
    credentials:
      - {id: team, api_key_env: OPENAI_API_KEY, weight: 3}
      - {id: spare, api_key_file: /run/secrets/openai}
    models: [gpt-5.2, {id: gpt-5.2-codex, context_window: 400000}]
  - name: gem
    kind: antigravity
    base_url: [https://a.example.com, https://b.example.com]
    credentials: [{id: main, api_key: secret-value}]
    models: [gemini-3-pro]
routes:
  - models: best
    candidates:
      - {upstream: openai, model: gpt-5.2}
      - {upstream: gem, model: gemini-3-pro, rank: 1, weight: 2}
      - {upstream: lingma, rank: 2}
"""


def read(tmp_path: Path, text: str) -> UpstreamsConfig:
    file = tmp_path / "upstreams.yaml"
    file.write_text(text)
    return read_upstreams_file(file)


def test_a_file_is_read_with_its_short_forms(tmp_path: Path) -> None:
    config = read(tmp_path, ONE)
    openai, gem = config.upstreams
    assert openai.base_urls == ("https://api.example.com/v1",)
    assert gem.base_urls == ("https://a.example.com", "https://b.example.com")
    assert [model.id for model in openai.models] == ["gpt-5.2", "gpt-5.2-codex"]
    assert openai.models[1].context_window == 400_000
    (route,) = config.routes
    assert route.models == ("best",)
    assert [candidate.upstream for candidate in route.candidates] == ["openai", "gem", "lingma"]
    assert "secret-value" not in repr(config)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "# later\n") == NOTHING


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("kind: codex", "kind: codec", "upstreams.0.kind"),
        ("base_url: https://api.example.com/v1/", "base_url: api.example.com", "begins with http"),
        ("name: gem", "name: openai", "two upstreams have the name 'openai'"),
        ("name: gem", "name: lingma", "built-in upstream"),
        ("name: gem", "name: !!int secret-value", "no valid YAML"),
        ("name: gem", "name: !!timestamp secret-value", "no valid YAML"),
        ("name: gem", "name: " + "[" * 3000, "no valid YAML"),
        ("weight: 3", 'headers: {x-a: "a\\nsecret-value"}', "printable ASCII"),
        ("api.example.com/v1/", "user:secret-value@api.example.com/v1", "no user and no password"),
        ("api.example.com/v1/", "api.example.com/v1?key=secret-value", "no query"),
        ("api.example.com/v1/", "api.example.com:port/v1", "no address with a host"),
        ("api.example.com/v1/", "api.example.com/v1/responses", "ends before /responses"),
        ("https://api.example.com/v1/", "https://", "no address with a host"),
        ("kind: antigravity", "kind: codex", "for the kind antigravity"),
        ("kind: antigravity", "kind: antigravity\n    compaction: true", "for the kind codex"),
        ("kind: antigravity", "kind: antigravity\n    pseudonyms: true", "for the kind codex"),
        ("kind: antigravity", "kind: antigravity\n    envelope: code_assist", "needs its project"),
        ("id: spare", "id: team", "two credentials have the id 'team'"),
        (", api_key_env: OPENAI_API_KEY", "", "exactly one of"),
        ("{upstream: gem,", "{upstream: gone,", "'gone', which is not there"),
        ("{upstream: gem,", "{upstream: gem, credentials: [nobody],", "'nobody', which gem does not have"),
        ("weight: 3", "wieght: 3", "upstreams.0.credentials.0.wieght"),
        ("models: best", "models: [best, best]", "the model name 'best'"),
        ("upstreams:", "upstreams: [", "no valid YAML in line"),
        ("api_key: secret-value", "api_key: [secret-value]", "credentials.0.api_key"),
    ],
)
def test_what_is_wrong_is_named_by_its_place_and_never_shown(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    assert old in ONE
    with pytest.raises(ValueError, match=problem) as caught:
        read(tmp_path, ONE.replace(old, new, 1))
    assert "secret-value" not in str(caught.value)


@pytest.mark.parametrize("document", ["[1]", "7", "upstreams: 7", "upstreams: [{}]"])
def test_a_document_of_another_shape_is_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(ValueError, match=r"upstreams\.yaml"):
        read(tmp_path, document)


def test_models_that_nobody_has_described_reason() -> None:
    config = config_of("http://up")
    assert [config.reasons(name) for name in (REASONING_MODEL, PLAIN_MODEL, "new")] == [True, False, True]
