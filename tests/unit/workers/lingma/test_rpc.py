import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest, UpstreamTimeout
from tests.fakes.lingma_server import SILENT, FakeLingma, fake_lingma, framed
from workers.lingma.errors import LingmaDisconnected, RpcError
from workers.lingma.framing import MAX_BODY_BYTES, encode
from workers.lingma.rpc import Incoming, Reply, RpcConnection, decode


class Client:
    """A connection to the fake and what came through it."""

    def __init__(self, fake: FakeLingma, **options: Any) -> None:
        self.fake = fake
        self.pushes: list[Incoming] = []
        self.bodies: list[bytes] = []
        self.claim = False
        self.lost: list[str] = []
        self.rpc = RpcConnection(fake.port, self._on_push, self.lost.append, **options)

    def _on_push(self, message: Incoming, body: bytes) -> bool:
        self.pushes.append(message)
        self.bodies.append(body)
        return self.claim

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[Client]:
    async with fake_lingma() as fake:
        client = Client(fake, **options)
        await client.rpc.open()
        await fake.wait_for(lambda: fake.connections)
        try:
            yield client
        finally:
            await client.rpc.aclose()


def answer(n: int, push_id: Any = None, method: str = "chat/answer", **params: Any) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "method": method, "params": {"requestId": "r", "text": str(n), **params}}
    return message if push_id is None else {**message, "id": push_id}


async def test_request_and_result() -> None:
    async with connected() as client:
        result = await client.rpc.request("auth/status", {}, timeout_s=5)
        assert json.loads(result)["status"] == 2


async def test_request_error_names_the_method() -> None:
    async with connected() as client:
        with pytest.raises(RpcError, match="nope: unknown method: nope") as caught:
            await client.rpc.request("nope", {}, timeout_s=5)
        assert caught.value.rpc_code == -32601


async def test_request_timeout() -> None:
    async with connected() as client:
        client.fake.handlers["auth/status"] = lambda _: SILENT
        with pytest.raises(UpstreamTimeout) as caught:
            await client.rpc.request("auth/status", {}, timeout_s=0.05)
        assert caught.value.phase == "rpc"


async def test_lv_8_push_with_the_id_of_our_pending_request() -> None:
    """LV-8: given a push with id 41 while our request 41 is pending, expect an ack `{"id":41,"result":null}`
    and our future open until a reply with id 41 and no method comes.
    """
    async with connected() as client:
        client.fake.handlers["slow"] = lambda _: SILENT
        client.rpc._next_id = 40
        waiting = asyncio.ensure_future(client.rpc.request("slow", {}, timeout_s=5))
        await client.fake.wait_for(lambda: client.fake.calls("slow"))
        assert client.fake.calls("slow")[0]["id"] == 41
        await client.fake.push(answer(1, push_id=41))
        await client.fake.wait_for(lambda: client.fake.acks)
        assert client.fake.acks == [{"jsonrpc": "2.0", "id": 41, "result": None}]
        assert not waiting.done()
        await client.fake.push({"jsonrpc": "2.0", "id": 41, "result": {"ok": 1}})
        assert json.loads(await waiting) == {"ok": 1}


@pytest.mark.parametrize("push_id", ["s-3", 7, "灵", 2**60, "41"])
async def test_lv_10_unknown_push_is_acked_with_the_same_id(push_id: Any) -> None:
    """LV-10: given an unknown push `foo/bar` with id "s-3" (string), expect an ack with that id and type."""
    async with connected() as client:
        await client.fake.push({"jsonrpc": "2.0", "id": push_id, "method": "foo/bar"})
        await client.fake.wait_for(lambda: client.fake.acks)
        assert client.fake.acks == [{"jsonrpc": "2.0", "id": push_id, "result": None}]


@pytest.mark.parametrize("params", [None, [1], {"requestId": None}, {"requestId": 5, "sessionId": "s"}])
async def test_odd_params_are_acked_and_passed_on(params: Any) -> None:
    async with connected() as client:
        await client.fake.push({"jsonrpc": "2.0", "id": 3, "method": "foo/bar", "params": params})
        await client.fake.wait_for(lambda: client.fake.acks)
        (push,) = client.pushes
        assert push.method == "foo/bar"
        assert push.params is None or push.params.requestId == ""


async def test_push_without_id_is_not_acked() -> None:
    async with connected() as client:
        await client.fake.push(answer(1), {**answer(2), "id": None}, answer(3, push_id=9))
        await client.fake.wait_for(lambda: client.fake.acks)
        assert [message["id"] for message in client.fake.acks] == [9]
        assert len(client.pushes) == 3


async def test_bodies_are_passed_on_as_they_came() -> None:
    async with connected() as client:
        body = '{ "method":"chat/answer",  "params":{"requestId":"r","text":"灵"} , "x":1.50}'.encode()
        await client.fake.send_raw(encode(body), text=False)
        await client.until(lambda: client.bodies)
        assert client.bodies == [body]


async def test_ack_leaves_before_anything_the_handler_sends() -> None:
    async with fake_lingma() as fake:
        rpc: RpcConnection

        def on_push(message: Incoming, body: bytes) -> bool:
            rpc.notify("chat/stop", b"{}")
            return False

        rpc = RpcConnection(fake.port, on_push)
        await rpc.open()
        await fake.wait_for(lambda: fake.connections)
        await fake.push(answer(1, push_id=5))
        await fake.wait_for(lambda: fake.messages)
        assert [message.get("method", "ack") for message in fake.messages] == ["ack", "chat/stop"]
        await rpc.aclose()


async def test_one_loop_turn_leaves_as_one_message() -> None:
    async with connected() as client:
        await client.fake.push(*(answer(n, push_id=n) for n in range(1, 21)))
        await client.fake.wait_for(lambda: len(client.fake.acks) == 20)
        assert [len(group) for group in client.fake.ws_messages] == [20]
        client.rpc.notify("a", b"{}")
        client.rpc.call("b", b"{}", None)
        client.rpc.notify("c", b"{}")
        await client.fake.wait_for(lambda: client.fake.calls("c"))
        assert [m["method"] for m in client.fake.ws_messages[1]] == ["a", "b", "c"]


async def test_without_coalescing_each_frame_is_a_message() -> None:
    async with connected(coalesce=False) as client:
        await client.fake.push(*(answer(n, push_id=n) for n in range(1, 4)))
        await client.fake.wait_for(lambda: len(client.fake.acks) == 3)
        assert [len(group) for group in client.fake.ws_messages] == [1, 1, 1]


async def test_tool_invoke_is_acked_unless_claimed() -> None:
    async with connected() as client:
        await client.fake.push(answer(1, push_id=1, method="tool/invoke"))
        await client.fake.wait_for(lambda: client.fake.acks)
        client.claim = True
        await client.fake.push(answer(2, push_id=2, method="tool/invoke"), answer(3, push_id=3))
        await client.fake.wait_for(lambda: len(client.fake.acks) == 2)
        client.rpc.respond(client.pushes[1].id, b'{"done":true}')
        await client.fake.wait_for(lambda: len(client.fake.acks) == 3)
        assert [(m["id"], m["result"]) for m in client.fake.acks] == [
            (1, None),
            (3, None),
            (2, {"done": True}),
        ]


async def test_disconnect_fails_every_pending_request() -> None:
    async with connected() as client:
        client.fake.handlers["slow"] = lambda _: SILENT
        replies: list[Reply] = []
        client.rpc.call("slow", b"{}", replies.append)
        waiting = asyncio.ensure_future(client.rpc.request("slow", {}, timeout_s=30))
        await client.fake.wait_for(lambda: len(client.fake.calls("slow")) == 2)
        await client.fake.drop()
        with pytest.raises(LingmaDisconnected):
            await waiting
        assert isinstance(replies[0].error, LingmaDisconnected)
        assert len(client.lost) == 1
        assert not client.rpc.is_open
        with pytest.raises(LingmaDisconnected):
            client.rpc.notify("x", b"{}")
        with pytest.raises(LingmaDisconnected):
            await client.rpc.request("x", {}, timeout_s=1)


async def test_broken_framing_ends_the_connection() -> None:
    async with connected() as client:
        await client.fake.send_raw(framed(answer(1)) + b'{"bare":1}\r\n\r\n')
        await client.until(lambda: client.lost)
        assert not client.rpc.is_open


async def test_unreadable_message_is_skipped() -> None:
    async with connected() as client:
        await client.fake.send_raw(encode(b"[1]") + encode(b"{") + encode(b"") + framed(answer(1, push_id=1)))
        await client.fake.wait_for(lambda: client.fake.acks)
        assert len(client.pushes) == 1
        assert client.rpc.is_open


async def test_reply_nobody_waits_for_is_ignored() -> None:
    async with connected() as client:
        await client.fake.push({"jsonrpc": "2.0", "id": 77, "result": 1}, answer(1, push_id=1))
        await client.fake.wait_for(lambda: client.fake.acks)
        assert client.rpc.is_open


async def test_lv_14_large_prompts_and_answers() -> None:
    """LV-14: given a 3 MiB prompt and a 2 MiB fullAnswer, expect no size-limit disconnect."""
    async with connected() as client:
        client.rpc.notify("chat/ask", json.dumps({"questionText": "q" * (3 * 2**20)}).encode())
        await client.fake.wait_for(lambda: client.fake.calls("chat/ask"))
        await client.fake.push(answer(1, push_id=1, method="chat/finish", fullAnswer="a" * (2 * 2**20)))
        await client.fake.wait_for(lambda: client.fake.acks)
        assert len(client.bodies[0]) > 2 * 2**20
        assert client.rpc.is_open


async def test_message_beyond_the_limit_is_refused_here() -> None:
    async with connected() as client:
        with pytest.raises(InvalidRequest):
            client.rpc.notify("chat/ask", b'"' + b"x" * MAX_BODY_BYTES + b'"')
        assert client.rpc.is_open


async def test_frames_cut_anywhere_across_messages() -> None:
    async with connected() as client:
        stream = framed(answer(1, push_id=1, text="灵码")) + framed(answer(2, push_id=2))
        for start in range(0, len(stream), 3):
            await client.fake.send_raw(stream[start : start + 3], text=False)
        await client.fake.wait_for(lambda: len(client.fake.acks) == 2)
        assert [json.loads(body)["params"]["text"] for body in client.bodies] == ["灵码", "2"]


def test_decode_keeps_ids_as_written() -> None:
    message = decode(b'{"id": "a\\u0041" ,"method":"m"}')
    assert message is not None
    assert bytes(message.id) == b'"a\\u0041"'
    assert decode(b"nonsense") is None
    assert decode(b"[]") is None
    loose = decode(b'{"method":"m","params":{"requestId":7,"sessionId":"s"}}')
    assert loose is not None
    assert loose.params is not None
    assert (loose.params.requestId, loose.params.sessionId) == ("", "s")
