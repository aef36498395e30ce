from typing import Any

import pytest

from gateway.app import build_app
from gateway.kernel.json import dumps
from tests.support.edge import FakeDeps, Reply, call

CONTENTS: Any = [{"role": "user", "parts": [{"text": "twelve bytes"}]}]


async def count(body: Any, deps: FakeDeps | None = None) -> Reply:
    return await call(build_app(deps or FakeDeps()), "POST", "/v1beta/models/m:countTokens", body=dumps(body))


@pytest.mark.parametrize(
    "body", [{"contents": CONTENTS}, {"generateContentRequest": {"model": "models/m", "contents": CONTENTS}}]
)
async def test_a_conversation_is_counted_without_running_it(body: Any) -> None:
    deps = FakeDeps()
    reply = await count(body, deps)
    assert (reply.status, reply.json) == (200, {"totalTokens": 7})
    assert deps.engine.turns == []


async def test_instruction_and_tools_count() -> None:
    more = {
        "contents": CONTENTS,
        "systemInstruction": {"parts": [{"text": "be kind"}]},
        "tools": [{"functionDeclarations": [{"name": "f", "description": "does something"}]}],
    }
    assert (await count(more)).json["totalTokens"] > 7


async def test_what_cannot_be_counted_is_refused() -> None:
    reply = await count({})
    assert reply.status == 400
    assert reply.json["error"]["details"][1]["fieldViolations"][0]["field"] == "contents"


async def test_losses_are_told() -> None:
    reply = await count({"contents": [{"parts": [{"text": "a"}, {"brandNew": {}}]}]})
    assert reply.headers["x-gateway-losses"] == "contents.0.parts.1:unknown-part"
