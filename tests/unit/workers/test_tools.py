"""Native tool calls by policy, each answered once."""

from typing import Any

import pytest

from gateway.jobs.messages import Submit, ToolReply
from tests.fakes.worker import FakeClient
from workers.pushes import ToolAsk
from workers.tools import ToolDesk

CALL = ToolAsk("t-1", "find", None)


def desk(policy: Any) -> tuple[ToolDesk, FakeClient]:
    client = FakeClient()
    submit = Submit(instance="inst-0", upstream_request_id="r", deadline_ms=0, tool_roundtrip=policy)
    return ToolDesk(client, submit), client


async def test_approving_sends_the_event_s_result_or_an_empty_one() -> None:
    tools, client = desk("approve")
    await tools.ask(CALL, "s")
    await tools.ask(ToolAsk("t-2", "grep", ["a"]), "s")
    await tools.ask(CALL, "s")
    assert client.approvals == [("r", "s", "t-1", True), ("r", "s", "t-2", True)]
    assert client.results == [("r", "t-1", "find", {}), ("r", "t-2", "grep", ["a"])]


@pytest.mark.parametrize(("policy", "approvals"), [("reject", [("r", "s", "t-1", False)]), ("stop", [])])
async def test_other_policies_send_no_result(policy: str, approvals: list[Any]) -> None:
    tools, client = desk(policy)
    await tools.ask(CALL, "s")
    await tools.ask(CALL, "s")
    assert (client.approvals, client.results) == (approvals, [])


async def test_lv_54_a_call_without_an_id_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """LV-54. Given: an event without any id. Expected: warning, dropped, no approve."""
    tools, client = desk("approve")
    await tools.ask(ToolAsk("", "find", None), "s")
    assert (client.approvals, client.results) == ([], [])
    assert "turn.tool_without_id" in caplog.text


async def test_a_client_s_answer_counts_once() -> None:
    tools, client = desk("stop")
    await tools.reply(ToolReply(tool_call_id="t-1", name="find", approve=False), "s")
    await tools.reply(ToolReply(tool_call_id="t-1", name="find", approve=True, result={"n": 1}), "s")
    assert client.approvals == [("r", "s", "t-1", False)]
    assert client.results == []
