from typing import Any

import pytest

from gateway.app import build_app
from gateway.turn.request import Turn
from tests.support.edge import Driver, FakeDeps, FakeEngine, call, chat, chat_body, serving
from tests.support.sockets import refusal


@pytest.mark.parametrize("path", ["/v1", "/v1/nope", "/v1/chat/completions/", "/v2/chat/completions"])
async def test_an_unknown_path_is_404_in_the_envelope(path: str) -> None:
    reply = await call(build_app(FakeDeps()), "POST", path, body=b"{}")
    assert reply.status == 404
    assert reply.json == {
        "error": {
            "message": f"Unknown path: POST {path}",
            "type": "invalid_request_error",
            "param": None,
            "code": "unknown_url",
        }
    }


@pytest.mark.parametrize("path", ["/v1/v1/responses", "/v1/chat/completions"])
async def test_a_websocket_where_none_is_is_refused_as_an_unknown_path(path: str) -> None:
    async with serving(build_app(FakeDeps())) as url:
        status, body, headers = await refusal(url, path=path)
    assert (status, body["error"]["code"]) == (404, "unknown_url")
    assert body["error"]["message"].startswith(f"Unknown path: a WebSocket at {path}")
    assert "x-request-id" in headers


async def test_an_unknown_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/nope", "headers": [], "http_version": "1.1", "root_path": ""}
    scope |= {"query_string": b""}
    await build_app(FakeDeps())(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


@pytest.mark.parametrize("path", ["/nope", "/v1/models", "/v1/chat/completions"])
async def test_every_answer_carries_the_request_id(path: str) -> None:
    reply = await call(build_app(FakeDeps()), "GET", path, headers={"x-request-id": "abc"})
    assert reply.headers["x-request-id"] == "abc"


async def test_answers_ask_clients_to_leave_while_draining() -> None:
    deps = FakeDeps()
    deps.is_draining = True
    assert (await chat(deps)).headers["connection"] == "close"
    assert (await chat(deps, stream=True)).headers["connection"] == "close"


async def test_a_defect_before_the_answer_is_500_in_the_envelope_and_raised() -> None:
    class Broken(FakeEngine):
        def run_turn(self, turn: Turn) -> Any:
            raise RuntimeError("secret detail")

    driver = Driver(
        build_app(FakeDeps(Broken())),
        "POST",
        "/v1/chat/completions",
        body=chat_body(),
        headers={"x-request-id": "abc"},
    )
    with pytest.raises(RuntimeError):
        await driver.run()
    assert driver.reply.status == 500
    assert driver.reply.json["error"]["code"] == "internal_error"
    assert b"secret" not in driver.reply.body
    assert driver.reply.headers["x-request-id"] == "abc"


async def test_the_server_span_goes_around_everything() -> None:
    class Instrumented(FakeDeps):
        def instrument(self, app: Any) -> Any:
            async def around(scope: Any, receive: Any, send: Any) -> None:
                assert "request_id" not in scope
                await app(scope, receive, send)
                assert "request_id" in scope

            return around

    assert (await chat(Instrumented())).status == 200


async def test_the_lifespan_is_answered() -> None:
    sent: list[Any] = []
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def receive() -> Any:
        return incoming.pop(0)

    await build_app(FakeDeps())({"type": "lifespan", "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(
    ("path", "hint", "anthropic"),
    [
        ("/v1/v1/messages", "should end before /v1", True),
        ("/v1beta/v1beta/files", "should end before /v1beta", False),
        ("/v1/v2/x", None, False),
    ],
)
async def test_a_version_that_is_there_twice_is_told(path: str, hint: str | None, anthropic: bool) -> None:
    reply = await call(build_app(FakeDeps()), "POST", path)
    assert reply.status == 404
    message = reply.json["error"]["message"]
    assert (hint in message) if hint else ("should end" not in message)
    assert (reply.json.get("type") == "error") is anthropic
