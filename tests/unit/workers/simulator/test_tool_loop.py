"""Native tools: the announced call, the approval, the result."""

import pytest

from tests.unit.workers.simulator.harness import Client, Message, Simulator

FIND = {"id": "t-1", "name": "find", "parameters": {"q": 1}}


def statuses(peer: Client, request_id: str) -> list[str]:
    return [push["params"]["toolCallStatus"] for push in peer.of(request_id, "tool/call/sync")]


async def approve(peer: Client, request_id: str, approval: bool = True) -> Message:
    params = {
        "type": "tool_call",
        "sessionId": "s",
        "requestId": request_id,
        "toolCallId": "t-1",
        "approval": approval,
    }
    return await peer.call("tool/call/approve", params)


async def pending(peer: Client, **params: object) -> str:
    request_id = await peer.ask("hello", **params)
    await peer.until(lambda: statuses(peer, request_id), "sync")
    return request_id


async def test_lv_53_a_call_is_approved_and_answered(sim: Simulator, peer: Client) -> None:
    """Given a pending call, an approval and a result; expected PENDING, RUNNING, invoke, FINISHED, answer."""
    sim.turn(tools=[FIND])
    request_id = await pending(peer, sessionId="s-53")
    assert peer.of(request_id, "tool/invoke") == []
    sync = peer.of(request_id, "tool/call/sync")[0]["params"]
    assert sync == {
        "sessionId": "s-53",
        "requestId": request_id,
        "projectPath": "",
        "toolCallId": "t-1",
        "name": "find",
        "toolCallStatus": "PENDING",
        "parameters": {"q": 1},
        "results": [],
        "errorCode": "",
        "errorMsg": "",
    }
    listed = await peer.result("tool/call/results", {"sessionId": "s-53"})
    assert (listed["totalCount"], listed["toolCalls"][0]["toolCallId"]) == (1, "t-1")
    assert (await approve(peer, request_id))["result"] == {}
    await peer.until(lambda: peer.of(request_id, "tool/invoke"), "invoke")
    invoke = peer.of(request_id, "tool/invoke")[0]["params"]
    assert (invoke["name"], invoke["parameters"], invoke["async"]) == ("find", {"q": 1}, True)
    assert "sessionId" not in invoke
    result = {"toolCallId": "t-1", "name": "find", "success": True, "errorMessage": "", "result": "ok"}
    assert await peer.result("tool/invokeResult", result) == {"errorCode": None, "errorMessage": None}
    await peer.finish(request_id)
    assert statuses(peer, request_id) == ["PENDING", "RUNNING", "FINISHED"]
    assert peer.of(request_id, "tool/call/sync")[-1]["params"]["results"] == [{"result": "ok"}]
    assert peer.text(request_id).startswith('find returned "ok"')
    assert [entry["method"] for entry in sim.records(request_id)] == ["chat/ask", "tool/call/approve"]
    assert (await peer.result("tool/call/results", {"sessionId": "s-53"}))["totalCount"] == 0


async def test_a_result_may_come_before_it_is_asked_for(sim: Simulator, peer: Client) -> None:
    sim.turn(tools=[FIND])
    request_id = await pending(peer)
    await peer.notify("tool/invokeResult", {"toolCallId": "t-1", "success": True, "result": {"n": 1}})
    await approve(peer, request_id)
    await peer.finish(request_id)
    assert peer.of(request_id, "tool/call/sync")[-1]["params"]["results"] == [{"n": 1}]


async def test_a_rejected_call_is_cancelled_and_the_answer_goes_on(sim: Simulator, peer: Client) -> None:
    sim.turn(tools=[FIND])
    request_id = await pending(peer)
    await approve(peer, request_id, approval=False)
    finish = await peer.finish(request_id)
    assert statuses(peer, request_id) == ["PENDING", "CANCELLED"]
    assert finish["fullAnswer"].startswith("find was rejected")
    assert "turns=1" in finish["fullAnswer"]


async def test_a_failed_tool_is_an_error(sim: Simulator, peer: Client) -> None:
    sim.turn(tools=[FIND])
    request_id = await pending(peer)
    await approve(peer, request_id)
    await peer.notify("tool/invokeResult", {"toolCallId": "t-1", "success": False, "errorMessage": "boom"})
    finish = await peer.finish(request_id)
    assert statuses(peer, request_id) == ["PENDING", "RUNNING", "ERROR"]
    assert finish["fullAnswer"].startswith("find failed: boom")


async def test_a_client_that_never_answers_times_out(sim: Simulator, peer: Client) -> None:
    sim.turn(tools=[FIND], tool_timeout_ms=50)
    request_id = await peer.ask("hello")
    finish = await peer.finish(request_id)
    assert statuses(peer, request_id) == ["PENDING", "ERROR"]
    assert finish["fullAnswer"].startswith("find timed out")
    assert (await approve(peer, request_id))["result"] == {}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"result": {"files": 2}}, 'find returned {"files": 2}'),
        ({"error": {"code": 1, "message": "no"}}, "find failed"),
    ],
)
async def test_a_synchronous_call_is_answered_by_its_response(
    sim: Simulator, peer: Client, response: Message, expected: str
) -> None:
    sim.turn(tools=[{**FIND, "async": False}])
    request_id = await pending(peer)
    await approve(peer, request_id)
    await peer.until(lambda: peer.of(request_id, "tool/invoke"), "invoke")
    await peer.send({"jsonrpc": "2.0", "id": peer.of(request_id, "tool/invoke")[0]["id"], **response})
    finish = await peer.finish(request_id)
    assert finish["fullAnswer"].startswith(expected)


async def test_a_bare_ack_of_a_synchronous_call_is_no_result(sim: Simulator, peer: Client) -> None:
    sim.turn(tools=[{**FIND, "async": False}])
    request_id = await pending(peer)
    await approve(peer, request_id)
    await peer.until(lambda: peer.of(request_id, "tool/invoke"), "invoke")
    push_id = peer.of(request_id, "tool/invoke")[0]["id"]
    await peer.send({"jsonrpc": "2.0", "id": push_id, "result": None})
    await peer.notify("tool/invokeResult", {"toolCallId": "t-1", "success": True, "result": 5})
    assert (await peer.finish(request_id))["fullAnswer"].startswith("find returned 5")


async def test_lv_26_cards_and_nameless_syncs(sim: Simulator, peer: Client) -> None:
    """Given card and name_in_sync false; expected `toolCall::` fences in the text and no name in the sync."""
    sim.turn(tools=[{**FIND, "card": True, "name_in_sync": False}], ids="off")
    request_id = await pending(peer)
    await approve(peer, request_id)
    await peer.notify("tool/invokeResult", {"toolCallId": "t-1", "success": True, "result": 1})
    await peer.finish(request_id)
    assert all("name" not in push["params"] for push in peer.of(request_id, "tool/call/sync"))
    assert "\n```toolCall::find::t-1::PENDING\n```\n" in peer.text(request_id)
    assert "\n```toolCall::find::t-1::FINISHED\n```\n" in peer.text(request_id)


async def test_a_user_can_ask_for_a_native_call(peer: Client) -> None:
    request_id = await peer.ask('use native tool grep_code with {"q": "x"}')
    await peer.until(lambda: statuses(peer, request_id), "sync")
    sync = peer.of(request_id, "tool/call/sync")[0]["params"]
    assert (sync["name"], sync["parameters"]) == ("grep_code", {"q": "x"})
    await peer.notify("chat/stop", {"requestId": request_id})
    assert (await peer.finish(request_id))["reason"] == "cancelled"


async def test_equal_call_ids_of_two_asks_stay_apart(sim: Simulator, peer: Client) -> None:
    sim.turn(tools=[FIND])
    first, second = await pending(peer), await pending(peer)
    await approve(peer, second, approval=False)
    assert (await peer.finish(second))["fullAnswer"].startswith("find was rejected")
    assert statuses(peer, first) == ["PENDING"]
    await approve(peer, first, approval=False)
    await peer.finish(first)
