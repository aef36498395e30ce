"""POST /v1/responses/compact through the application."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.app import build_app
from gateway.kernel.errors import COMPACTION_UNSUPPORTED, InvalidRequest
from gateway.kernel.json import dumps
from gateway.turn.events import ItemDone, ItemStarted, TurnCompleted
from gateway.turn.frame import Burst, Frame
from gateway.turn.items import OpaqueItem
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from tests.support.edge import STARTED, FakeDeps, FakeEngine, Reply, call, saying

TOKEN: dict[str, Any] = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}
RAW = dumps({"id": "resp_up", "object": "response.compaction", "output": [TOKEN]})


async def ask(engine: FakeEngine, path: str = "/v1/responses/compact", **fields: Any) -> Reply:
    body = dumps({"model": "m", "input": "hello", **fields})
    return await call(build_app(FakeDeps(engine)), "POST", path, body=body)


def answering(raw: bytes | None) -> FakeEngine:
    item = OpaqueItem(dialect="responses", type="compaction", payload=TOKEN)
    events = (
        STARTED,
        ItemStarted(0, "opaque", "cmp_1"),
        ItemDone(0, item),
        TurnCompleted("stop", Usage(input_tokens=3)),
    )

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield [Frame(events, raw, "responses", 1, whole=raw is not None)]

    return FakeEngine(script)


@pytest.mark.parametrize("path", ["/v1/responses/compact", "/responses/compact"])
async def test_the_upstreams_answer_is_the_answer(path: str) -> None:
    engine = answering(RAW)
    reply = await ask(engine, path)
    assert (reply.status, reply.body) == (200, RAW)
    (turn,) = engine.turns
    assert (turn.operation, turn.stream) == ("compact", False)


async def test_an_answer_that_is_only_known_by_its_items_is_told_the_same_way() -> None:
    reply = await ask(answering(None))
    assert reply.json["object"] == "response.compaction"
    assert reply.json["output"] == [TOKEN]
    assert reply.json["usage"]["input_tokens"] == 3


async def test_rp_97_no_streams() -> None:
    """RP-97. Given `"stream":true`, expect 400; `"stream":false` is forwarded without `stream`."""
    engine = answering(RAW)
    reply = await ask(engine, stream=True)
    assert (reply.status, reply.json["error"]["param"]) == (400, "stream")
    assert reply.json["error"]["message"] == "Streaming not supported for compact responses"
    assert engine.turns == []
    assert (await ask(engine, stream=False)).status == 200
    assert "stream" not in engine.turns[0].raw.body


async def test_where_nobody_compacts_the_endpoint_is_not_found() -> None:
    async def refuse(_: Turn) -> AsyncIterator[Burst]:
        raise InvalidRequest("Nobody can", param="model", code=COMPACTION_UNSUPPORTED)
        yield []

    reply = await ask(FakeEngine(refuse))
    assert (reply.status, reply.json["error"]["code"]) == (404, "compaction_unsupported")
    assert reply.json["error"]["type"] == "invalid_request_error"


async def test_other_errors_are_those_of_responses() -> None:
    assert (await ask(FakeEngine(), model=5)).status == 400
    assert (await ask(FakeEngine(saying(STARTED)))).status == 500
    got = await call(build_app(FakeDeps()), "GET", "/v1/responses/compact")
    assert (got.status, got.headers["allow"]) == (405, "POST")
