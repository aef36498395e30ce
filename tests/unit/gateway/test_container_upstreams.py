from pathlib import Path

import pytest

from gateway.container_upstreams import conversation_of, open_upstreams, routes_of
from gateway.engine.routing import Target
from gateway.kernel.clock import SystemClock
from gateway.settings_upstreams import ReplaySettings
from gateway.store.backends import open_memory
from gateway.upstreams.antigravity.executor import AntigravityExecutor
from gateway.upstreams.codex.executor import CodexExecutor
from gateway.upstreams.config import UpstreamsConfig, read_upstreams_file
from gateway.upstreams.http import UpstreamHttp
from tests.support.codex import chat

FILE = """
upstreams:
  - name: openai
    kind: codex
    base_url: http://127.0.0.1:1
    credentials: [{id: a, api_key_env: KEY}]
    models: [gpt]
  - name: gem
    kind: antigravity
    base_url: http://127.0.0.1:1
    credentials: [{id: a, api_key: k}]
    models: [gemini]
routes:
  - models: [best, other]
    candidates: [{upstream: openai, weight: 2}, {upstream: gem, model: gemini, rank: 1}]
"""


@pytest.fixture
def config(tmp_path: Path) -> UpstreamsConfig:
    file = tmp_path / "upstreams.yaml"
    file.write_text(FILE)
    return read_upstreams_file(file)


@pytest.mark.parametrize("enabled", [True, False])
async def test_each_kind_of_upstream_gets_its_executor(config: UpstreamsConfig, enabled: bool) -> None:
    clock = SystemClock()
    replay = ReplaySettings(enabled=enabled)
    async with (
        open_memory(clock) as stores,
        open_upstreams(config, replay, stores, clock, {"KEY": "k"}) as (openai, gem),
    ):
        assert isinstance(openai.executor, CodexExecutor)
        assert isinstance(gem.executor, AntigravityExecutor)
        assert [model.key for model in (*openai.models(), *gem.models())] == ["gpt", "gemini"]
        assert openai.accounts("gpt", "c").awake == ["a"]


async def test_upstreams_that_trust_the_same_certificates_share_a_client(
    config: UpstreamsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str | None] = []

    class Noted(UpstreamHttp):
        def __init__(self, *, ca_file: str | None = None) -> None:
            opened.append(ca_file)
            super().__init__()

    monkeypatch.setattr("gateway.container_upstreams.UpstreamHttp", Noted)
    own = [
        one.model_copy(update={"name": f"{one.name}-2", "ca_file": Path("/own.pem")})
        for one in config.upstreams
    ]
    four = UpstreamsConfig(upstreams=(*config.upstreams, *own))
    clock = SystemClock()
    async with (
        open_memory(clock) as stores,
        open_upstreams(four, ReplaySettings(), stores, clock, {"KEY": "k"}) as upstreams,
    ):
        assert len(upstreams) == 4
    assert opened == [None, "/own.pem"]


async def test_without_upstreams_nothing_is_opened() -> None:
    clock = SystemClock()
    async with (
        open_memory(clock) as stores,
        open_upstreams(UpstreamsConfig(), ReplaySettings(), stores, clock, {}) as upstreams,
    ):
        assert upstreams == ()


def test_a_route_names_the_model_that_was_asked_for_unless_it_says_another(config: UpstreamsConfig) -> None:
    routes = routes_of(config.routes)
    assert routes["best"] == [
        Target(upstream="openai", model="best", weight=2),
        Target(upstream="gem", model="gemini", rank=1),
    ]
    assert routes["other"][0].model == "other"


def test_a_conversation_is_known_by_its_user_or_else_by_how_it_begins() -> None:
    system, hi = {"role": "system", "content": "s"}, {"role": "user", "content": "hi"}
    first = conversation_of(chat(system, hi))
    later = chat(system, hi, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"})
    assert conversation_of(later) == first
    assert conversation_of(chat(system, {"role": "user", "content": "other"})) != first
    named = {conversation_of(chat(system, {"role": "user", "content": text}, user="u")) for text in "ab"}
    assert len(named) == 1
    assert conversation_of(chat(system)) == conversation_of(chat(system)) != ""
