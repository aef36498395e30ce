import asyncio
from typing import Any

import pytest
import structlog

from gateway.protocols.answers import Answer
from gateway.protocols.middleware import HideQueryKey, RequestContext, clean_request_id


class App:
    """Remembers what it was told and answers with its own headers."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages
        self.scope: Any = None
        self.bound: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        self.bound = structlog.contextvars.get_contextvars()
        for message in self.messages:
            await send(message)


START = {"type": "http.response.start", "status": 200, "headers": [(b"connection", b"keep-alive")]}
BODY = {"type": "http.response.body", "body": b"x", "more_body": False}


def defect(path: str) -> Answer:
    return Answer(500, f"a defect at {path}".encode())


async def run(app: App, *, given: bytes | None = None, draining: bool = False, **scope: Any) -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the middleware does not read")

    headers = [] if given is None else [(b"x-request-id", given)]
    whole = {"type": "http", "http_version": "1.1", "headers": headers, **scope}
    # A task of its own, as servers give to every request.
    async with asyncio.TaskGroup() as tasks:
        context = RequestContext(app, draining=lambda: draining, defect=defect)
        tasks.create_task(context(whole, receive, send))
    return sent


async def test_the_clients_request_id_is_echoed_and_bound() -> None:
    app = App(START, BODY)
    start, body = await run(app, given=b"abc-1")
    assert (b"x-request-id", b"abc-1") in start["headers"]
    assert body is BODY
    assert app.scope["request_id"] == "abc-1"
    assert app.bound == {"request_id": "abc-1"}
    assert structlog.contextvars.get_contextvars() == {}


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ([], "http", ["http.response.start", "http.response.body"]),
        ([START], "http", ["http.response.start"]),
        ([], "websocket", []),
    ],
    ids=["nothing", "a head", "a socket"],
)
async def test_a_defect_is_raised_on_and_answered_where_nothing_was(
    said: list[Any], kind: str, told: list[str]
) -> None:
    sent: list[Any] = []

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        for message in said:
            await send(message)
        raise RuntimeError

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the middleware does not read")

    scope = {"type": kind, "http_version": "1.1", "path": "/v1/x", "headers": [(b"x-request-id", b"abc")]}
    context = RequestContext(broken, draining=lambda: False, defect=defect)
    with pytest.raises(RuntimeError):
        await context(scope, receive, send)
    assert [message["type"] for message in sent] == told
    if not said and told:
        assert (sent[0]["status"], sent[1]["body"]) == (500, b"a defect at /v1/x")
        assert (b"x-request-id", b"abc") in sent[0]["headers"]


async def test_a_request_without_an_id_gets_one_of_its_own() -> None:
    first, second = App(START), App(START)
    await run(first)
    await run(second)
    assert first.scope["request_id"].startswith("req_")
    assert first.scope["request_id"] != second.scope["request_id"]


@pytest.mark.parametrize(
    ("given", "clean"),
    [
        (b"a\r\nb", "ab"),
        (b" a b ", "a b"),
        ("灵a".encode(), "a"),
        (b"x" * 500, "x" * 128),
        (b"\x7f\x1fz", "z"),
    ],
)
def test_a_request_id_is_printable_and_bounded(given: bytes, clean: str) -> None:
    assert clean_request_id(given) == clean


@pytest.mark.parametrize("given", [b"", b"   ", b"\r\n", "灵".encode()])
def test_an_id_of_which_nothing_is_left_is_replaced(given: bytes) -> None:
    assert clean_request_id(given).startswith("req_")


@pytest.mark.parametrize(
    ("draining", "version", "connection"),
    [(False, "1.1", b"keep-alive"), (True, "1.1", b"close"), (True, "2", b"keep-alive")],
)
async def test_clients_are_asked_to_leave_while_draining(
    draining: bool, version: str, connection: bytes
) -> None:
    (start,) = await run(App(START), draining=draining, http_version=version)
    assert [value for name, value in start["headers"] if name == b"connection"] == [connection]


async def test_a_websocket_is_answered_with_its_id_and_nothing_about_the_connection() -> None:
    (accept,) = await run(App({"type": "websocket.accept"}), given=b"w", draining=True, type="websocket")
    assert accept["headers"] == [(b"x-request-id", b"w"), (b"request-id", b"w")]


async def test_other_scopes_pass_untouched() -> None:
    message = {"type": "lifespan.startup.complete"}
    app = App(message)
    assert await run(app, type="lifespan") == [message]
    assert "request_id" not in app.scope


@pytest.mark.parametrize(
    ("query", "given", "left", "key"),
    [
        (b"key=k%2D1&alt=sse", [], b"alt=sse", b"k-1"),
        (b"alt=sse&key=a&key=b", [], b"alt=sse", b"a"),
        (b"key=a", [(b"x-goog-api-key", b"own")], b"", b"own"),
        (b"monkey=a", [], b"monkey=a", None),
        (b"", [], b"", None),
    ],
)
async def test_a_key_in_the_address_is_moved_into_its_header(
    query: bytes, given: list[tuple[bytes, bytes]], left: bytes, key: bytes | None
) -> None:
    app = App()
    scope = {"type": "http", "query_string": query, "headers": given}
    await HideQueryKey(app)(scope, None, None)  # type: ignore[arg-type]
    assert app.scope["query_string"] == left
    assert dict(app.scope["headers"]).get(b"x-goog-api-key") == key
    assert scope["query_string"] == query
