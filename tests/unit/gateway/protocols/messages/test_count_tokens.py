from typing import Any

import pytest
from anthropic.types import MessageTokensCount

from gateway.app import build_app
from gateway.kernel.json import dumps
from tests.support.edge import FakeDeps, Reply, call

TOOL = {"name": "find", "description": "finds things", "input_schema": {"type": "object"}}


async def count(deps: FakeDeps, **fields: Any) -> Reply:
    body = dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}], **fields})
    return await call(build_app(deps), "POST", "/v1/messages/count_tokens?beta=true", body=body)


async def test_lv_77_counting_runs_nothing() -> None:
    """Given count_tokens for two short messages: expect {"input_tokens": n>0}, no instance used, no slot
    used.
    """
    deps = FakeDeps()
    two = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    reply = await count(deps, messages=two)
    assert reply.status == 200
    assert reply.json.keys() == {"input_tokens"}
    assert MessageTokensCount.model_validate(reply.json).input_tokens > 0
    assert deps.engine.turns == []


@pytest.mark.parametrize(
    "more",
    [
        {"system": "You are a helpful assistant of many words."},
        {"system": [{"type": "text", "text": "You are a helpful assistant of many words."}]},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
    ],
)
async def test_all_that_is_read_counts(more: dict[str, Any]) -> None:
    less = (await count(FakeDeps())).json["input_tokens"]
    assert (await count(FakeDeps(), **more)).json["input_tokens"] > less


async def test_settings_that_cost_nothing_are_taken() -> None:
    reply = await count(FakeDeps(), thinking={"type": "enabled", "budget_tokens": 2048}, mcp_servers=[{}])
    assert reply.status == 200
    assert reply.headers["x-gateway-losses"] == "mcp_servers:unsupported"


async def test_with_context_management_the_count_before_it_is_told_too() -> None:
    counted = (await count(FakeDeps(), context_management={"edits": []})).json
    assert counted["context_management"] == {"original_input_tokens": counted["input_tokens"]}


async def test_a_broken_body_is_refused_like_a_turns() -> None:
    reply = await count(FakeDeps(), messages=[])
    assert reply.status == 400
    assert reply.json == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "'messages' must not be empty"},
    }


async def test_counting_takes_a_key() -> None:
    reply = await count(FakeDeps(keys="k"))
    assert (reply.status, reply.json["error"]["type"]) == (401, "authentication_error")
