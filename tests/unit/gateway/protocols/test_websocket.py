"""The shared edge of WebSockets in memory; on a real server it is in test_websocket.py of the protocols."""

import asyncio
from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.answers import Answer
from gateway.protocols.http import EdgeLimits
from gateway.protocols.websocket import (
    MAX_REFUSED,
    MAX_WAITING,
    TEXTS,
    TOO_LARGE,
    Inbox,
    Socket,
    bytes_of,
    is_foreign,
)

# -- pages of browsers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "host", "foreign"),
    [
        (None, "127.0.0.1:8317", False),
        ("http://127.0.0.1:8317", "127.0.0.1:8317", False),
        ("HTTP://LocalHost:8317", "localhost:8317", False),
        ("https://gw.example.com", "gw.example.com", False),
        ("https://gw.example.com", "gw.example.com:443", False),
        ("http://gw.example.com:80", "gw.example.com", False),
        ("http://[::1]:8317", "[::1]:8317", False),
        ("https://evil.example", "127.0.0.1:8317", True),
        ("http://127.0.0.1:3000", "127.0.0.1:8317", True),
        ("http://localhost:8317", "127.0.0.1:8317", True),
        ("https://gw.example.com.evil.example", "gw.example.com", True),
        ("https://evil.example#gw.example.com", "gw.example.com", True),
        ("null", "null", True),
        ("", "", True),
        ("http://", "", True),
        ("file://", "", True),
        ("chrome-extension://gw", "gw", True),
        ("http://gw.example.com", "", True),
    ],
)
def test_a_page_of_another_host_is_known(origin: str | None, host: str, foreign: bool) -> None:
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    assert is_foreign({"headers": headers}) is foreign


def test_one_good_origin_does_not_excuse_another() -> None:
    headers = [(b"host", b"gw"), (b"origin", b"http://gw"), (b"origin", b"http://evil")]
    assert is_foreign({"headers": headers})


# -- what waits -------------------------------------------------------------------------------------------


def code_of(taken: bytes | InvalidRequest) -> str | None:
    assert isinstance(taken, InvalidRequest)
    return taken.code


def test_messages_are_taken_in_their_order() -> None:
    inbox = Inbox(100)
    for data in (b"a", b"b", b"c"):
        inbox.put(data)
    assert (len(inbox), [inbox.take() for _ in range(3)], len(inbox)) == (3, [b"a", b"b", b"c"], 0)


@pytest.mark.parametrize("data", [None, b"x" * 11])
def test_what_is_too_large_is_refused_in_its_turn(data: bytes | None) -> None:
    inbox = Inbox(10)
    inbox.put(b"a")
    inbox.put(data)
    assert inbox.take() == b"a"
    assert code_of(inbox.take()) == "request_too_large"


def test_no_more_wait_together_than_one_may_hold() -> None:
    inbox = Inbox(10)
    inbox.put(b"x" * 10)
    inbox.put(b"y")
    assert inbox.take() == b"x" * 10
    assert code_of(inbox.take()) == "too_many_waiting_requests"
    inbox.put(b"z")
    assert inbox.take() == b"z"


def test_a_client_that_goes_on_and_on_overflows() -> None:
    inbox = Inbox(1000)
    for _ in range(MAX_WAITING):
        inbox.put(b"a")
    inbox.put(b"b")
    for _ in range(MAX_REFUSED - MAX_WAITING - 1):
        inbox.put(None)
    assert not inbox.overflows
    inbox.put(None)
    assert inbox.overflows
    inbox.clear()
    assert (len(inbox), inbox.overflows) == (0, False)


# -- the connection ---------------------------------------------------------------------------------------


class Wire:
    def __init__(self, *messages: dict[str, Any], extensions: Any = None) -> None:
        self.messages = list(messages)
        self.sent: list[dict[str, Any]] = []
        self.stuck = False
        self.scope = {"type": "websocket", "extensions": extensions or {}}

    def socket(self, **limits: Any) -> Socket:
        return Socket(self.scope, self.receive, self.send, EdgeLimits(**limits))

    async def receive(self) -> dict[str, Any]:
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if self.stuck:
            await asyncio.Event().wait()


async def test_what_arrives_is_messages_until_the_client_has_gone() -> None:
    said = {"type": "websocket.receive", "text": "é"}
    wire = Wire({"type": "websocket.connect"}, said, {"type": "websocket.disconnect", "code": 1006})
    socket = wire.socket()
    assert await socket.next_message() == said
    assert await socket.next_message() is None


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ({"text": "é", "bytes": None}, "é".encode()),
        ({"text": None, "bytes": b"\xff"}, b"\xff"),
        ({"text": "", "bytes": None}, b""),
        ({"text": None, "bytes": b"", TOO_LARGE: True}, None),
    ],
)
def test_text_and_binary_messages_are_bytes(message: dict[str, Any], data: bytes | None) -> None:
    assert bytes_of(message) == data


async def test_messages_leave_one_by_one_where_the_server_knows_no_better() -> None:
    wire = Wire()
    await wire.socket().send([b"a", "é".encode()])
    assert [message["text"] for message in wire.sent] == ["a", "é"]


async def test_messages_leave_together_where_it_does() -> None:
    wire = Wire(extensions={TEXTS: {}})
    await wire.socket().send([b"a", b"b"])
    await wire.socket().send([])
    assert wire.sent == [{"type": "websocket.send", TEXTS: ["a", "b"]}]


async def test_a_refusal_is_an_http_answer_where_the_server_can() -> None:
    wire = Wire(extensions={"websocket.http.response": {}})
    await wire.socket().refuse(Answer(401, b"{}", ((b"x-own", b"1"),)))
    start, body = wire.sent
    assert (start["status"], dict(start["headers"])[b"content-length"]) == (401, b"2")
    assert (b"x-own", b"1") in start["headers"]
    assert (body["body"], body["more_body"]) == (b"{}", False)


async def test_a_client_that_does_not_read_is_given_up() -> None:
    wire = Wire()
    wire.stuck = True
    socket = wire.socket(send_deadline_s=0.01)
    await socket.say(b"a")
    assert socket.gone.is_set()
    assert socket.stalled


async def test_who_has_left_is_not_called_stalled() -> None:
    socket = Wire().socket()
    socket.left()
    socket.give_up()
    assert not socket.stalled


async def test_a_goodbye_waits_for_its_answer() -> None:
    wire = Wire()
    socket = wire.socket()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        closing = group.create_task(socket.close(1012, "why"))
        while not wire.sent:
            await asyncio.sleep(0)
        assert wire.sent == [{"type": "websocket.close", "code": 1012, "reason": "why"}]
        assert not closing.done()
        socket.left()


async def test_a_goodbye_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.protocols.websocket.PARTING_S", 0.01)
    socket = Wire().socket()
    await socket.close(1000, "")
    assert socket.gone.is_set()
