import asyncio
from typing import Any

import httpx2
import pytest

from gateway.access.keys import ApiKey, KeyRing
from gateway.access.tiers import Tiers
from gateway.app import build_app
from gateway.kernel.clock import FakeClock
from gateway.kernel.json import dumps
from gateway.protocols.chat.parse import parse_chat
from gateway.protocols.chat.routes import CHAT
from gateway.protocols.endpoint import Edge, TurnEndpoint
from gateway.protocols.http import EdgeLimits
from tests.support.edge import Driver, FakeDeps, FakeEngine, Reply, call, chat_body, serving

PATH = "/v1/chat/completions"


async def post(deps: FakeDeps, *, body: bytes | None = None, **headers: str) -> Reply:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(build_app(deps), "POST", PATH, body=body or chat_body(), headers=names)


async def test_lv_84_a_good_bearer_passes_and_others_are_401() -> None:
    """Given `Bearer good`: it passes; bad or missing is 401 `invalid_api_key`."""
    deps = FakeDeps(keys="good")
    assert (await post(deps, authorization="Bearer good")).status == 200
    for reply in (await post(deps, authorization="Bearer bad"), await post(deps)):
        assert (reply.status, reply.json["error"]["code"]) == (401, "invalid_api_key")
    assert len(deps.engine.turns) == 1


async def unread_at_the_answer(driver: Driver) -> int:
    unread = -1

    def note(message: dict[str, Any]) -> None:
        nonlocal unread
        if message["type"] == "http.response.start":
            unread = len(driver.unread)

    driver.on_send = note
    await driver.run()
    return unread


async def test_a_request_without_a_key_is_refused_before_its_body_is_read() -> None:
    driver = Driver(build_app(FakeDeps(keys="good")), "POST", PATH, body=chat_body())
    assert await unread_at_the_answer(driver) == 1
    assert driver.reply.status == 401


async def test_the_turn_knows_whom_it_acts_for() -> None:
    deps = FakeDeps(keys="k-a")
    deps.tiers = Tiers(
        KeyRing([ApiKey(digest=ApiKey.of("k-a").digest, tenant="blue", max_in_flight=2, models=("m",))])
    )
    reply = await post(deps, authorization="Bearer k-a", x_request_id="req-7")
    (turn,) = deps.engine.turns
    assert (turn.tenant, turn.key_max_in_flight, turn.request_id) == ("blue", 2, "req-7")
    assert turn.key_id not in ("-", "")
    assert turn.created_at_ms == deps.clock.now_ms()
    assert reply.headers["x-turn-id"] == turn.id
    assert reply.headers["x-request-id"] == "req-7"


async def test_without_keys_the_turn_is_the_open_tenants() -> None:
    deps = FakeDeps()
    await post(deps, authorization="Bearer whatever")
    (turn,) = deps.engine.turns
    assert (turn.tenant, turn.key_id) == ("3bc15c8aae3e", "-")


async def test_a_model_that_the_key_may_not_use_is_not_found() -> None:
    deps = FakeDeps()
    deps.tiers = Tiers(KeyRing([ApiKey(digest=ApiKey.of("k").digest, models=("other",))]))
    reply = await post(deps, authorization="Bearer k")
    assert (reply.status, reply.json["error"]["code"]) == (400, "model_not_found")
    assert deps.engine.turns == []
    await post(deps, body=chat_body(model="other(high)"), authorization="Bearer k")
    assert [turn.model for turn in deps.engine.turns] == ["other(high)"], "a wish is no other model"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": [{"role": "user", "content": 5}]}', "messages.0.content"),
        (chat_body(model=""), "model"),
    ],
)
async def test_a_bad_request_is_400_and_names_the_field(body: bytes, param: str | None) -> None:
    deps = FakeDeps()
    reply = await post(deps, body=body)
    assert (reply.status, reply.json["error"]["param"]) == (400, param)
    assert reply.json["error"]["type"] == "invalid_request_error"
    assert deps.engine.turns == []


async def test_a_body_over_the_limit_is_413_before_its_rest_is_read() -> None:
    deps = FakeDeps(limits=EdgeLimits(max_body_bytes=10))
    chunks = [b"x" * 8, b"y" * 8, b"z" * 8]
    driver = Driver(build_app(deps), "POST", PATH, body=chunks, headers={"transfer-encoding": "chunked"})
    assert await unread_at_the_answer(driver) == 1
    assert (driver.reply.status, driver.reply.headers["connection"]) == (413, "close")
    assert driver.reply.json["error"]["code"] == "request_too_large"
    assert driver.unread == []


async def test_a_client_that_leaves_while_it_sends_gets_nothing() -> None:
    deps = FakeDeps()
    driver = Driver(build_app(deps), "POST", PATH)
    driver.unread = [{"type": "http.request", "body": b"{", "more_body": True}]
    driver.gone.set()
    assert (await driver.run()).status == 0
    assert deps.engine.turns == []


async def test_on_http2_refused_bodies_do_not_hurt_their_neighbours() -> None:
    """One connection carries the requests of many clients when it comes from an ingress."""
    deps = FakeDeps(keys="good", limits=EdgeLimits(max_body_bytes=1000))
    large = chat_body(user="x" * 1_000_000)
    good = {"authorization": "Bearer good"}
    async with (
        serving(build_app(deps)) as url,
        httpx2.AsyncClient(base_url=url, http1=False, http2=True, timeout=10) as client,
    ):
        replies = await asyncio.gather(
            client.post(PATH, content=large, headers=good),
            client.post(PATH, content=large),
            client.post("/nope", content=large),
            client.post(PATH, content=chat_body(), headers=good),
            client.get("/v1/models", headers=good),
        )
    assert [reply.status_code for reply in replies] == [413, 401, 404, 200, 200]
    assert {reply.http_version for reply in replies} == {"HTTP/2"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1/responses", {"input": "hi"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "hi"}]}),
        ("/v1beta/models/{model}:generateContent", {"contents": "hi"}),
    ],
)
async def test_a_model_name_has_a_longest_length(path: str, body: dict[str, Any]) -> None:
    deps = FakeDeps()

    async def post_model(length: int) -> Reply:
        name = "m" * length
        asked = dumps(body if "{model}" in path else {"model": name, **body})
        return await call(build_app(deps), "POST", path.format(model=name), body=asked)

    assert (await post_model(256)).status == 200
    turns = len(deps.engine.turns)
    refused = await post_model(257)
    assert refused.status == 400
    assert "'model' must not be longer than 256 characters" in refused.body.decode()
    assert len(deps.engine.turns) == turns


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_other_methods_are_405_and_told_what_is_allowed(method: str) -> None:
    reply = await call(build_app(FakeDeps()), method, PATH)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert reply.json["error"]["code"] == "method_not_allowed"


async def test_head_is_allowed_where_get_is() -> None:
    app = build_app(FakeDeps())
    assert (await call(app, "HEAD", "/v1/models")).status == 200
    assert (await call(app, "POST", "/v1/models")).headers["allow"] == "GET, HEAD"


async def test_what_the_route_found_in_the_path_reaches_the_parser() -> None:
    seen: list[Any] = []

    def parse(body: bytes, context: Any) -> Any:
        seen.append(dict(context.path_params))
        return parse_chat(body, context)

    edge = Edge(engine=FakeEngine(), tiers=Tiers(KeyRing()), clock=FakeClock(), limits=EdgeLimits())
    endpoint = TurnEndpoint(edge, CHAT, parse)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path_params"] = {"model": "m"}
        await endpoint(scope, receive, send)

    await call(app, "POST", "/x", body=chat_body())
    assert seen == [{"model": "m"}]
