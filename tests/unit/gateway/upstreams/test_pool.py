from typing import Any

import pytest

from gateway.engine.routing import Accounts, Resting
from gateway.kernel.clock import FakeClock
from gateway.store.keys import Keys
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV
from gateway.upstreams.config import UpstreamConfig, UpstreamsConfig
from gateway.upstreams.cooldowns import Account, Cooldowns
from gateway.upstreams.pool import HttpUpstream, accounts_of, credentials_of

CONFIG = UpstreamConfig.model_validate(
    {
        "name": "openai",
        "kind": "codex",
        "base_url": "http://127.0.0.1:1",
        "credentials": [{"id": "a", "api_key": "ka"}, {"id": "b", "api_key_env": "KB"}],
        "models": [{"id": "gpt", "name": "GPT", "context_window": 1000}, "mini"],
    }
)
EXECUTOR: Any = object()


def upstream() -> tuple[HttpUpstream, Cooldowns]:
    clock = FakeClock()
    kv = RequiredKV(Availability(MemoryKV(clock)))
    cooldowns = Cooldowns(kv, Keys(), clock, accounts_of([CONFIG]))
    return HttpUpstream(CONFIG, EXECUTOR, cooldowns), cooldowns


def test_it_offers_what_is_configured() -> None:
    pool, _ = upstream()
    gpt, mini = pool.models()
    assert (gpt.key, gpt.display_name, gpt.max_input_tokens, gpt.vision) == ("gpt", "GPT", 1000, True)
    assert (mini.key, mini.max_input_tokens) == ("mini", 0)
    assert pool.executor is EXECUTOR


async def test_a_conversation_keeps_its_credential_until_that_rests() -> None:
    pool, cooldowns = upstream()
    first, second = pool.accounts("gpt", "conversation").awake
    assert pool.accounts("gpt", "conversation") == Accounts([first, second])
    assert {pool.accounts("gpt", f"c{n}").awake[0] for n in range(50)} == {"a", "b"}
    await cooldowns.cool(Account("openai", first, "gpt"), 30, "model_unsupported")
    assert pool.accounts("gpt", "conversation") == Accounts([second])
    assert pool.accounts("mini", "conversation") == Accounts([first, second])
    await cooldowns.cool(Account("openai", second), 20, "rate_limited")
    assert pool.accounts("gpt", "conversation") == Accounts([])
    assert pool.resting("gpt") == Resting(pytest.approx(20), limited=False)
    await cooldowns.cool(Account("openai", first, "mini"), 30, "usage_limit")
    assert pool.resting("mini") == Resting(pytest.approx(20), limited=True)
    assert pool.is_awake(), "the first rests for some models alone"
    await cooldowns.cool(Account("openai", first), 10, "credential_refused")
    assert not pool.is_awake()


async def test_some_credentials_may_be_all_that_count() -> None:
    pool, cooldowns = upstream()
    assert pool.accounts("gpt", "conversation", ["b"]) == Accounts(["b"])
    await cooldowns.cool(Account("openai", "b"), 30, "rate_limited")
    assert pool.accounts("gpt", "conversation", ["b"]) == Accounts([])
    assert pool.resting("gpt", ["b"]) == Resting(pytest.approx(30), limited=True)
    assert pool.accounts("gpt", "conversation").awake == ["a"]


async def test_who_only_failed_is_asked_last_and_not_never() -> None:
    pool, cooldowns = upstream()
    first, second = pool.accounts("gpt", "conversation").awake
    await cooldowns.cool(Account("openai", first), 30, "failing", soft=True)
    assert pool.accounts("gpt", "conversation") == Accounts([second], [first])
    await cooldowns.cool(Account("openai", second), 30, "credential_refused")
    assert pool.accounts("gpt", "conversation") == Accounts([], [first])


def test_everything_that_may_cool_is_known_beforehand() -> None:
    assert set(accounts_of([CONFIG])) == {
        Account("openai", credential, model) for credential in ("a", "b") for model in ("", "gpt", "mini")
    }


def test_models_that_only_routes_name_may_cool_too() -> None:
    routes = UpstreamsConfig.model_validate(
        {
            "upstreams": [CONFIG.model_dump(by_alias=True)],
            "routes": [
                {"models": ["best"], "candidates": [{"upstream": "openai", "model": "new"}]},
                {"models": ["newer"], "candidates": [{"upstream": "openai"}, {"upstream": "lingma"}]},
            ],
        }
    ).routes
    found = {account.model for account in accounts_of([CONFIG], routes)}
    assert found == {"", "gpt", "mini", "new", "newer"}


def test_credentials_are_found_by_their_id() -> None:
    credentials = credentials_of(CONFIG, {"KB": "kb"})
    assert credentials["b"].headers(default="bearer") == {"Authorization": "Bearer kb"}
