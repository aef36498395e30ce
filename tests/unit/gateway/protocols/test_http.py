import asyncio
import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.kernel.json import loads
from gateway.protocols.answers import Answer
from gateway.protocols.chat.routes import CHAT
from gateway.protocols.http import (
    MAX_LOSSES_BYTES,
    ON_DISCONNECT,
    ClientGone,
    Cut,
    EdgeLimits,
    Exchange,
    Refused,
    losses_header,
)
from gateway.turn.losses import Loss
from gateway.wire.sse import CONTENT_TYPE


class Wire:
    """Both directions of a connection, as lists."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.incoming = list(messages)
        self.sent: list[Any] = []
        self.stalled = False

    async def receive(self) -> dict[str, Any]:
        if not self.incoming:
            await asyncio.Event().wait()
        return self.incoming.pop(0)

    async def send(self, message: Any) -> None:
        if self.stalled:
            await asyncio.Event().wait()
        self.sent.append(message)


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def exchange(wire: Wire, *headers: tuple[bytes, bytes], version: str = "1.1", **limits: Any) -> Exchange:
    scope = {"type": "http", "http_version": version, "headers": list(headers), "request_id": "req-1"}
    return Exchange(scope, wire.receive, wire.send, EdgeLimits(**limits))


async def test_a_body_is_read_to_its_end() -> None:
    wire = Wire(body(b"a", more=True), body(b"", more=True), body(b"b"))
    assert await exchange(wire).read_body() == b"ab"


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    wire = Wire(body(b"ab", more=True), body(b"c"))
    assert await exchange(wire, (b"content-length", b"3"), max_body_bytes=3).read_body() == b"abc"


async def test_a_body_that_declares_too_much_is_refused_unread() -> None:
    wire = Wire(body(b"abcd"))
    with pytest.raises(Refused, match="larger than 3 bytes") as caught:
        await exchange(wire, (b"content-length", b"4"), max_body_bytes=3).read_body()
    assert (caught.value.status, caught.value.info.code) == (413, "request_too_large")
    assert len(wire.incoming) == 1


async def test_a_body_that_grows_too_large_is_refused_without_reading_the_rest() -> None:
    wire = Wire(body(b"ab", more=True), body(b"cd", more=True), body(b"ef"))
    with pytest.raises(Refused) as caught:
        await exchange(wire, max_body_bytes=3).read_body()
    assert caught.value.status == 413
    assert wire.incoming == [body(b"ef")]


@pytest.mark.parametrize(
    ("coding", "packed"), [(b"gzip", gzip.compress(b"hello", mtime=0)), (b"deflate", zlib.compress(b"hello"))]
)
async def test_a_compressed_body_is_unpacked(coding: bytes, packed: bytes) -> None:
    wire = Wire(body(packed[:4], more=True), body(packed[4:]))
    assert await exchange(wire, (b"content-encoding", coding)).read_body() == b"hello"


async def test_a_body_that_says_it_is_not_compressed_is_read_as_it_is() -> None:
    assert await exchange(Wire(body(b"x")), (b"content-encoding", b"identity")).read_body() == b"x"


async def test_a_body_that_unpacks_to_exactly_the_limit_is_read() -> None:
    packed = gzip.compress(b"\0" * 5000, mtime=0)
    one = exchange(Wire(body(packed)), (b"content-encoding", b"gzip"), max_body_bytes=5000)
    assert await one.read_body() == b"\0" * 5000


async def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    pulled = 0

    def pieces(_: str, data: bytes) -> Iterator[bytes]:
        nonlocal pulled
        for _ in range(1000):
            pulled += 1
            yield data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.protocols.http.unpack", pieces)
        one = exchange(Wire(body(b"abc")), (b"content-encoding", b"zstd"), max_body_bytes=10)
        with pytest.raises(Refused, match="larger than 10 bytes") as caught:
            await one.read_body()
    assert (caught.value.status, caught.value.info.code) == (413, "request_too_large")
    assert pulled == 4


async def test_a_real_bomb_is_too_large() -> None:
    packed = gzip.compress(b"\0" * 50_000_000, mtime=0)
    one = exchange(Wire(body(packed)), (b"content-encoding", b"gzip"), max_body_bytes=1_000_000)
    with pytest.raises(Refused) as caught:
        await one.read_body()
    assert caught.value.status == 413


async def test_a_compressed_body_that_is_too_large_as_it_comes_is_refused() -> None:
    packed = gzip.compress(bytes(range(256)))
    one = exchange(Wire(body(packed)), (b"content-encoding", b"gzip"), max_body_bytes=len(packed) - 1)
    with pytest.raises(Refused) as caught:
        await one.read_body()
    assert caught.value.status == 413


async def test_a_body_that_is_not_what_its_coding_says_is_refused() -> None:
    with pytest.raises(Refused, match="not valid gzip data") as caught:
        await exchange(Wire(body(b"{}")), (b"content-encoding", b"gzip")).read_body()
    assert (caught.value.status, caught.value.info.code) == (400, "invalid_content_encoding")


async def test_a_coding_that_nobody_can_undo_is_refused_unread_and_told_what_is_read() -> None:
    wire = Wire(body(b"x"))
    one = exchange(wire, (b"content-encoding", b"br"), (b"content-length", b"1"))
    with pytest.raises(Refused) as caught:
        await one.read_body()
    assert len(wire.incoming) == 1
    await one.refuse(CHAT, caught.value)
    assert wire.sent[0]["status"] == 415
    assert (b"accept-encoding", b"gzip, deflate, zstd") in wire.sent[0]["headers"]


async def test_other_work_goes_on_while_a_body_is_unpacked() -> None:
    steps = 0

    async def count() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    packed = gzip.compress(b"\0" * 5_000_000, mtime=0)
    async with asyncio.TaskGroup() as group:
        counting = group.create_task(count())
        await exchange(Wire(body(packed)), (b"content-encoding", b"gzip")).read_body()
        counting.cancel()
    assert steps > 10


async def test_a_body_that_stops_coming_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        await exchange(Wire(body(b"a", more=True)), body_silence_s=0.01).read_body()
    assert caught.value.status == 408


async def test_a_client_that_leaves_while_it_sends_is_gone() -> None:
    with pytest.raises(ClientGone):
        await exchange(Wire(body(b"a", more=True), {"type": "http.disconnect"})).read_body()


async def test_an_answer_has_its_length_and_type() -> None:
    wire = Wire()
    await exchange(wire).answer(Answer(418, b"tea", ((b"x-a", b"1"),)), [(b"x-b", b"2")])
    start, end = wire.sent
    assert start["status"] == 418
    assert start["headers"] == [
        (b"content-type", b"application/json"),
        (b"content-length", b"3"),
        (b"x-a", b"1"),
        (b"x-b", b"2"),
    ]
    assert end == {"type": "http.response.body", "body": b"tea", "more_body": False}


async def test_a_client_that_does_not_read_its_answer_is_given_up() -> None:
    wire = Wire()
    wire.stalled = True
    await exchange(wire, send_deadline_s=0.01).answer(Answer(200, b"{}"))
    assert wire.sent == []


async def test_a_refusal_is_told_with_its_own_status() -> None:
    wire = Wire()
    await exchange(wire).refuse(CHAT, Refused(413, "too much", "request_too_large"))
    assert wire.sent[0]["status"] == 413
    envelope: Any = loads(wire.sent[1]["body"])
    assert envelope["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(
    ("version", "header", "lingers", "closes"),
    [
        ("1.1", (b"content-length", b"6"), True, True),
        ("1.1", (b"transfer-encoding", b"chunked"), True, True),
        ("1.1", (b"content-length", b"0"), False, False),
        ("1.1", (b"accept", b"*/*"), False, False),
        ("2", (b"accept", b"*/*"), True, False),
    ],
)
async def test_an_answer_before_the_end_of_the_body_is_followed_by_the_rest_of_it(
    version: str, header: tuple[bytes, bytes], lingers: bool, closes: bool
) -> None:
    wire = Wire(body(b"ab", more=True), body(b"cd", more=True), body(b"ef"))
    await exchange(wire, header, version=version).answer(Answer(401, b"{}"))
    assert [message.get("body") for message in wire.sent[1:]] == ([b"{}", b""] if lingers else [b"{}"])
    assert wire.sent[-1]["more_body"] is False
    assert (wire.incoming == []) is lingers
    assert ((b"connection", b"close") in wire.sent[0]["headers"]) is closes


async def test_a_body_that_was_read_is_not_waited_for() -> None:
    wire = Wire(body(b"ab"))
    one = exchange(wire, (b"content-length", b"2"))
    await one.read_body()
    await one.answer(Answer(200, b"{}"))
    assert [message["type"] for message in wire.sent] == ["http.response.start", "http.response.body"]


async def test_a_body_whose_last_piece_was_too_much_is_not_waited_for() -> None:
    wire = Wire(body(b"ab", more=True), body(b"cd"))
    one = exchange(wire, (b"transfer-encoding", b"chunked"), max_body_bytes=3)
    with pytest.raises(Refused) as caught:
        await one.read_body()
    async with asyncio.timeout(0.5):
        await one.refuse(CHAT, caught.value)
    assert wire.sent[-1]["more_body"] is False
    assert (b"connection", b"close") not in wire.sent[0]["headers"]


@pytest.mark.parametrize(
    "incoming", [[body(b"ab", more=True)], [{"type": "http.disconnect"}], [body(b"a", more=True)] * 10_000]
)
async def test_the_rest_of_a_body_is_not_waited_for_without_end(
    incoming: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.protocols.http.LINGER_SILENCE_S", 0.01)
    monkeypatch.setattr("gateway.protocols.http.LINGER_S", 0.005)
    wire = Wire(*incoming)
    await exchange(wire, (b"content-length", b"6")).answer(Answer(401, b"{}"))
    assert wire.sent[-1]["more_body"] is False


@pytest.mark.parametrize(("version", "keep_alive"), [("1.1", True), ("1.0", False), ("2", False)])
def test_stream_headers_keep_proxies_from_holding_the_stream(version: str, keep_alive: bool) -> None:
    headers = dict(exchange(Wire(), version=version).stream_headers(CONTENT_TYPE))
    assert headers.pop(b"connection", None) == (b"keep-alive" if keep_alive else None)
    assert headers == {
        b"content-type": b"text/event-stream; charset=utf-8",
        b"cache-control": b"no-cache, no-transform",
        b"x-accel-buffering": b"no",
    }


# -- losses -----------------------------------------------------------------------------------------------


def test_losses_are_told_once_each_in_a_header() -> None:
    losses = [Loss("a", "x"), Loss("b.0", "y"), Loss("a", "x")]
    assert losses_header(losses) == ((b"x-gateway-losses", b"a:x, b.0:y"),)
    assert losses_header([]) == ()


def test_a_header_of_losses_holds_printable_ascii_only() -> None:
    ((_, value),) = losses_header([Loss("a\r\nset-cookie: 1", "灵")])
    assert value == b"a??set-cookie: 1:?"


def test_a_header_of_losses_is_bounded_and_counts_the_rest() -> None:
    ((_, value),) = losses_header([Loss(f"messages.{n}.content", "placeholder") for n in range(500)])
    assert len(value) < MAX_LOSSES_BYTES + 30
    kept = value.count(b"placeholder")
    assert value.endswith(f"and {500 - kept} more".encode())


# -- cutting ----------------------------------------------------------------------------------------------


def told_by_server(gone: list[Callable[[], None] | None]) -> Exchange:
    """An exchange whose server tells by itself, whoever stands in the list last."""
    wire = Wire()
    asked = exchange(wire)
    asked.scope[ON_DISCONNECT] = gone.append
    return asked


async def test_a_disconnect_cuts_the_block_short() -> None:
    cut = Cut(exchange(Wire(body(b""), {"type": "http.disconnect"})))
    async with asyncio.timeout(5), cut:
        await asyncio.Event().wait()
    assert cut.reason == "client_gone"


async def test_a_disconnect_that_the_server_tells_cuts_the_block_short() -> None:
    told: list[Callable[[], None] | None] = []
    cut = Cut(told_by_server(told))
    async with asyncio.timeout(5), cut:
        assert told[0] is not None
        told[0]()
        await asyncio.Event().wait()
    assert cut.reason == "client_gone"
    assert told[1:] == [None]


async def test_a_client_that_had_gone_before_the_block_cuts_it_short() -> None:
    asked = exchange(Wire())
    asked.scope[ON_DISCONNECT] = lambda tell: tell() if tell is not None else None
    cut = Cut(asked)
    async with asyncio.timeout(5), cut:
        await asyncio.Event().wait()
    assert cut.reason == "client_gone"


async def test_a_block_that_is_not_cut_ends_as_it_does() -> None:
    cut = Cut(exchange(Wire()))
    async with cut:
        await asyncio.sleep(0)
    assert cut.reason is None
    cut.now("too late")
    assert cut.reason is None


async def test_timeouts_and_cancellations_of_others_pass_through_the_block() -> None:
    cut = Cut(exchange(Wire()))
    with pytest.raises(TimeoutError, match="mine"):
        async with cut:
            raise TimeoutError("mine")

    async def cancelled() -> None:
        async with Cut(exchange(Wire())):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.get_running_loop().create_task(cancelled())


async def test_the_first_reason_stands() -> None:
    cut = Cut(exchange(Wire()))
    async with cut:
        cut.now("client_stalled")
        cut.now("client_gone")
        await asyncio.Event().wait()
    assert cut.reason == "client_stalled"
