"""Scripted pushes go out as they are written."""

from tests.unit.workers.simulator.harness import Client, Message, Simulator

FINISH: Message = {
    "method": "chat/finish",
    "params": {"reason": "success", "statusCode": 200, "fullAnswer": "Jacka"},
}


async def test_lv_22_a_script_is_played_literally(sim: Simulator, peer: Client) -> None:
    """Given deltas "Ja", "", "cka" and a finish; expected exactly these pushes."""
    deltas = [{"method": "chat/answer", "params": {"text": text}} for text in ("Ja", "", "cka")]
    sim.turn(script=[*deltas, FINISH])
    request_id = await peer.ask("x", sessionId="s-22")
    finish = await peer.finish(request_id)
    assert finish == {"requestId": request_id, "sessionId": "s-22", **FINISH["params"]}
    assert [push["method"] for push in peer.pushes] == ["chat/answer"] * 3 + ["chat/finish"]
    assert peer.text(request_id) == "Jacka"


async def test_lv_55_null_removes_a_field(sim: Simulator, peer: Client) -> None:
    """Given a tool event without requestId; expected it without one on the wire."""
    event = {"method": "tool/call/sync", "params": {"requestId": None, "toolCallId": "t-1"}}
    sim.turn(script=[event, FINISH])
    await peer.finish(await peer.ask("x", sessionId="s-55"))
    assert peer.pushes[0]["params"] == {"sessionId": "s-55", "toolCallId": "t-1"}


async def test_a_step_may_be_a_notification(sim: Simulator, peer: Client) -> None:
    sim.turn(script=[{"method": "error/notificationError", "notify": True, "params": {"m": 1}}, FINISH])
    await peer.finish(await peer.ask("x"))
    assert "id" not in peer.pushes[0]
    assert peer.pushes[0]["params"]["m"] == 1


async def test_a_script_can_wait_for_the_client(sim: Simulator, peer: Client) -> None:
    waits = [{"wait": "approve", "toolCallId": "t-1"}, {"wait": "result", "toolCallId": "t-1"}]
    sync = {"method": "tool/call/sync", "params": {"toolCallId": "t-1", "toolCallStatus": "PENDING"}}
    sim.turn(script=[sync, *waits, {"wait_ms": 1}, FINISH])
    request_id = await peer.ask("x")
    await peer.until(lambda: peer.of(request_id, "tool/call/sync"), "sync")
    # A result may be there before the approval.
    await peer.result("tool/invokeResult", {"toolCallId": "t-1", "success": True, "result": {}})
    assert peer.of(request_id, "chat/finish") == []
    await peer.result("tool/call/approve", {"toolCallId": "t-1", "requestId": request_id, "approval": True})
    await peer.finish(request_id)


async def test_a_wait_that_is_not_answered_ends_the_script(sim: Simulator, peer: Client) -> None:
    sim.turn(script=[{"wait": "approve", "toolCallId": "t-1"}, FINISH], tool_timeout_ms=20)
    request_id = await peer.ask("x")
    sim.wait_log("script ended: the client did not answer")
    assert peer.of(request_id) == []


async def test_the_session_of_a_scripted_finish_goes_on(sim: Simulator, peer: Client) -> None:
    script = [
        {"method": "chat/answer", "params": {"text": "gone"}},
        {"method": "chat/answer", "params": {"text": "kept", "overwrite": True}},
        {"method": "chat/finish", "params": {"sessionId": "s-script"}, "after_ms": 1},
    ]
    sim.turn(script=script)
    await peer.finish(await peer.ask("first words", sessionId="s-other"))
    sim.turn()
    assert "first words\nturns=2" in await peer.answer(
        "what did I say first?", sessionId="s-script", isReply=True
    )
    session = await peer.result("chat/getSessionById", {"sessionId": "s-other"})
    assert session["chatRecords"][0]["answer"] == "kept"
