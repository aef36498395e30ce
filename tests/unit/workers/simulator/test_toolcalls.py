"""Open tool calls."""

import pytest

from workers.simulator.toolcalls import ToolCall, ToolDesk


def call(request_id: str, call_id: str = "t-1", session_id: str = "s") -> ToolCall:
    return ToolCall(call_id, request_id, session_id, "find", {})


async def test_the_request_decides_between_equal_ids() -> None:
    desk = ToolDesk()
    first, second = call("a"), call("b")
    desk.add(first)
    desk.add(second)
    assert desk.find("t-1", "b") is second
    assert desk.find("t-1", None) is first
    assert desk.find("t-2", "a") is None
    desk.remove(first)
    assert desk.find("t-1", "a") is second


async def test_only_the_first_answer_counts() -> None:
    tool = call("a")
    tool.approve(False)
    tool.approve(True)
    tool.tell({"n": 1})
    tool.tell({"n": 2})
    assert (await tool.approval, await tool.result) == (False, {"n": 1})


@pytest.mark.parametrize(("session_id", "count"), [("s", 2), ("t", 1), (None, 0)])
async def test_calls_of_a_session(session_id: str | None, count: int) -> None:
    desk = ToolDesk()
    for tool in (call("a"), call("b", "t-2"), call("c", "t-3", "t")):
        desk.add(tool)
    assert len(list(desk.of_session(session_id))) == count


async def test_a_sync_shows_the_error() -> None:
    tool = call("a")
    assert tool.sync(with_name=False, error="boom")["errorMsg"] == "boom"
    assert "name" not in tool.sync(with_name=False)
