import asyncio
import json
from typing import Any

import pytest

from workers.lingma.errors import LingmaDisconnected, ReaderTooSlow
from workers.lingma.rpc import decode
from workers.lingma.subscriptions import Subscriptions


def push(registry: Subscriptions, method: str, **params: Any) -> bytes:
    body = json.dumps({"method": method, "params": params}).encode()
    message = decode(body)
    assert message is not None
    registry.route(message, body)
    return body


async def test_a_burst_comes_at_once() -> None:
    registry = Subscriptions(1000)
    subscription = registry.open("r")
    reading = asyncio.ensure_future(subscription.next(5))
    await asyncio.sleep(0)
    bodies = [push(registry, "chat/answer", requestId="r", text=str(n)) for n in range(3)]
    assert await reading == bodies


async def test_nothing_within_the_time_is_an_empty_burst() -> None:
    subscription = Subscriptions(1000).open("r")
    assert await subscription.next(0.01) == []
    assert await subscription.next(0) == []
    assert await subscription.next(-1) == []


async def test_cancelled_reading_loses_nothing() -> None:
    registry = Subscriptions(1000)
    subscription = registry.open("r")
    reading = asyncio.ensure_future(subscription.next(5))
    await asyncio.sleep(0)
    body = push(registry, "chat/answer", requestId="r")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await subscription.next(0) == [body]


async def test_finish_is_handed_over_and_ends() -> None:
    registry = Subscriptions(1000)
    subscription = registry.open("r")
    body = push(registry, "chat/finish", requestId="r")
    push(registry, "chat/answer", requestId="r", text="late")
    assert subscription.ended
    assert len(registry) == 0
    assert await subscription.next(5) == [body]
    assert await subscription.next(5) == []


async def test_error_comes_after_what_was_there_before_it() -> None:
    registry = Subscriptions(1000)
    subscription = registry.open("r")
    body = push(registry, "chat/answer", requestId="r")
    registry.end_all(LingmaDisconnected("gone"))
    subscription.end()
    assert await subscription.next(5) == [body]
    with pytest.raises(LingmaDisconnected):
        await subscription.next(5)


async def test_reader_that_waits_is_woken_by_an_end() -> None:
    registry = Subscriptions(1000)
    subscription = registry.open("r")
    reading = asyncio.ensure_future(subscription.next(60))
    await asyncio.sleep(0)
    subscription.close()
    async with asyncio.timeout(2):
        assert await reading == []


async def test_slow_reader_is_cut_off_and_gets_what_was_buffered() -> None:
    registry = Subscriptions(300)
    subscription = registry.open("r")
    bodies = [push(registry, "chat/answer", requestId="r", text="x" * 100) for _ in range(5)]
    assert subscription.ended
    assert await subscription.next(0) == bodies[:1]
    with pytest.raises(ReaderTooSlow):
        await subscription.next(0)


async def test_body_larger_than_the_buffer_reaches_a_reader_that_keeps_up() -> None:
    registry = Subscriptions(300)
    subscription = registry.open("r")
    body = push(registry, "chat/answer", requestId="r", text="x" * 1000)
    assert await subscription.next(0) == [body]


async def test_title_is_routed_by_session() -> None:
    registry = Subscriptions(1000)
    asked, pushed = registry.open("r1"), registry.open("r2")
    registry.learn_session(asked, b'{"sessionId":"s-1","questionText":"x"}')
    registry.learn_session(asked, b"[]")
    push(registry, "chat/process_step_callback", requestId="r2", sessionId="s-2")
    push(registry, "session/title/update", sessionId="s-1", sessionTitle="A")
    push(registry, "session/title/update", sessionId="s-2", sessionTitle="B")
    push(registry, "session/title/update", sessionId="s-3", sessionTitle="C")
    assert [json.loads(body)["params"]["sessionTitle"] for body in await asked.next(0)] == ["A"]
    assert json.loads((await pushed.next(0))[1])["params"]["sessionTitle"] == "B"


async def test_session_of_the_answer_replaces_that_of_the_ask() -> None:
    registry = Subscriptions(1000)
    subscription = registry.open("r")
    registry.learn_session(subscription, b'{"sessionId":"sent"}')
    push(registry, "chat/answer", requestId="r", sessionId="answered")
    assert subscription.session_id == "answered"
    push(registry, "session/title/update", sessionId="sent")
    assert len(await subscription.next(0)) == 1
    subscription.close()
    assert registry._by_session == {}


async def test_lv_55_tool_event_without_a_request_id() -> None:
    """LV-55: given an event with id t-1 but no requestId after one that had both, expect it routed to r."""
    registry = Subscriptions(10_000)
    subscription = registry.open("r")
    push(registry, "tool/call/sync", requestId="r", sessionId="s", toolCallId="t-1", name="find")
    body = push(registry, "tool/invoke", toolCallId="t-1", name="find")
    assert (await subscription.next(0))[1:] == [body]
    subscription.close()
    assert registry._by_tool == {}


async def test_lv_54_tool_event_without_any_id_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """LV-54: given an event without any id, expect a warning and nothing delivered."""
    registry = Subscriptions(10_000)
    subscription = registry.open("r")
    push(registry, "tool/call/sync", parameters={"q": 1})
    assert await subscription.next(0) == []
    assert [record.message for record in caplog.records] == ["lingma.tool_without_id"]


async def test_what_belongs_to_nobody_is_dropped() -> None:
    registry = Subscriptions(1000)
    subscription = registry.open("r")
    push(registry, "chat/answer")
    push(registry, "chat/answer", requestId="zz")
    push(registry, "tool/invoke", toolCallId="unknown")
    for body in (b'{"method":"foo"}', b'{"method":"foo","params":[]}'):
        message = decode(body)
        assert message is not None
        registry.route(message, body)
    assert await subscription.next(0) == []


async def test_a_thousand_asks_are_small() -> None:
    import tracemalloc

    registry = Subscriptions(1000)
    tracemalloc.start()
    try:
        kept = [registry.open(f"request-{n}") for n in range(1000)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(kept) < 1000
