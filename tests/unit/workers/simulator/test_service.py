"""Dispatch: introduction, unknown methods, several clients, what happens when one leaves."""

import pytest

from tests.unit.workers.simulator.harness import Client, Simulator, client, frame


async def test_lv_6_nothing_works_before_initialize(sim: Simulator) -> None:
    """Given auth/status first; expected error -32002; the knob switches that off."""
    async with client(sim, initialize=False) as early:
        error = (await early.call("auth/status"))["error"]
        assert error == {"code": -32002, "message": "not initialized"}
        await early.notify("chat/ask", {"requestId": "r", "questionText": "x"})
        result = await early.result("initialize", {"rootUri": "file:///srv/ws"})
        assert result == {"capabilities": {}, "serverInfo": {"name": "lingma", "version": "2.11.1"}}
        assert (await early.result("auth/status"))["status"] == 2
        assert early.pushes == []
    sim.turn(require_initialize=False)
    async with client(sim, initialize=False) as early:
        assert (await early.result("auth/status"))["status"] == 2


@pytest.mark.parametrize(
    "params",
    [{}, {"protocolVersion": 1, "clientCapabilities": {}, "timestamp": 1790000000000}, {"processId": None}],
)
async def test_every_shape_of_initialize_is_accepted(sim: Simulator, params: object) -> None:
    async with client(sim, initialize=False) as early:
        assert (await early.result("initialize", params))["serverInfo"]["name"] == "lingma"


async def test_lv_7_initialized_is_unknown_and_harmless(sim: Simulator, peer: Client) -> None:
    """Given the notification `initialized`; expected no reply, a log line, later calls fine."""
    await peer.notify("initialized")
    assert await peer.result("ping") == {"success": True}
    assert peer._replies == {}
    sim.wait_log("err occur in initialized, isReq: false, err: unknown method: initialized")


@pytest.mark.parametrize("method", ["session/new", "session/prompt", "session/set_model", "auth/pollToken"])
async def test_methods_of_other_dialects_are_unknown(peer: Client, method: str) -> None:
    error = (await peer.call(method))["error"]
    assert error == {"code": -32601, "message": f"unknown method: {method}"}


async def test_answers_go_to_the_client_that_asked(sim: Simulator, peer: Client) -> None:
    async with client(sim) as other:
        mine, theirs = await peer.ask("say mine"), await other.ask("say theirs")
        await peer.finish(mine)
        await other.finish(theirs)
        assert (peer.text(mine), other.text(theirs)) == ("mine", "theirs")
        assert peer.of(theirs) == other.of(mine) == []


async def test_login_changes_are_told_to_every_client(sim: Simulator, peer: Client) -> None:
    async with client(sim) as other, client(sim, initialize=False) as stranger:
        await peer.result("auth/device_login", {"token": "t-1", "username": "ann"})
        for speaker in (peer, other):
            await speaker.until(lambda: len(speaker.pushes) == 3, "three pushes")  # noqa: B023
            methods = [push["method"] for push in speaker.pushes]
            assert methods == ["config/changeEndpoint", "config/refreshModels", "auth/report"]
            assert speaker.pushes[-1]["params"]["name"] == "ann"
        assert stranger.pushes == []
        await peer.result("auth/logout")


async def test_an_ask_ends_with_its_connection(sim: Simulator, peer: Client) -> None:
    sim.turn(concurrency=1)
    async with client(sim) as other:
        request_id = await other.ask("wait 500 seconds")
        await other.until(lambda: other.of(request_id), "a first push")
    # The only slot is free again.
    assert await peer.answer("say next") == "next"
    sim.wait_log("is closed, ignore request")


async def test_a_stop_may_come_with_the_ask_in_one_message(peer: Client) -> None:
    ask = {"jsonrpc": "2.0", "method": "chat/ask", "params": {"requestId": "rq", "questionText": "say x"}}
    stop = {"jsonrpc": "2.0", "method": "chat/stop", "params": {"requestId": "rq"}}
    await peer.socket.send(frame(ask) + frame(stop))
    assert (await peer.finish("rq"))["reason"] == "cancelled"
    assert peer.of("rq", "chat/answer") == []
