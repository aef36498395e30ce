"""The wire of a running simulator: framing, ids of pushes, acknowledgements."""

import itertools
import json

import pytest

from tests.unit.workers.simulator.harness import Client, Simulator, client, frame


async def test_lv_5_bare_json_is_logged_and_the_connection_lives(sim: Simulator, peer: Client) -> None:
    """Given bare JSON; expected no reply, `Unknown message header` in the log, a framed ping works."""
    await peer.socket.send('{"jsonrpc":"2.0","id":77,"method":"ping"}')
    # Messages are served in order: a reply to the bare one would come first.
    assert await peer.result("ping") == {"success": True}
    assert 77 not in peer._replies
    sim.wait_log("Unknown message header")


async def test_lv_8_push_ids_may_collide_with_the_clients(sim: Simulator, peer: Client) -> None:
    """Given ids that count from 1 as the client's do; expected both directions to stay apart."""
    sim.turn(ids="dup-id")
    request_id = await peer.ask("say one two")
    await peer.finish(request_id)
    assert [push["id"] for push in peer.pushes] == list(range(1, len(peer.pushes) + 1))
    assert await peer.result("ping") == {"success": True}
    assert "Outbound" not in sim.log()


async def test_lv_9_strict_holds_the_next_push_for_the_ack(sim: Simulator) -> None:
    """Given strict: a client that acks gets all deltas without delay; without acks the second delta never
    comes before ack_timeout, and the answer goes on after it.
    """
    sim.turn(ids="strict", ack_timeout_ms=60_000)
    async with client(sim) as acking:
        request_id = await acking.ask("count from 1 to 20")
        await acking.finish(request_id)
        stamps = [push["params"]["timestamp"] for push in acking.of(request_id, "chat/answer")]
        gaps = sorted(later - earlier for earlier, later in itertools.pairwise(stamps))
        assert gaps[len(gaps) // 2] < 100
    sim.turn(ids="strict", ack_timeout_ms=150)
    async with client(sim, acks=False) as silent:
        request_id = await silent.ask("count from 1 to 2")
        await silent.finish(request_id)
        first, second = (push["params"]["timestamp"] for push in silent.of(request_id, "chat/answer"))
        assert second - first >= 149
    sim.wait_log("chat/answer failed: no response from client, timeout reached")


async def test_lv_10_an_ack_keeps_the_type_of_its_id(sim: Simulator, peer: Client) -> None:
    """Given a push `foo/bar` with id "s-3"; expected an ack with that string."""
    sim.turn(script=[{"method": "foo/bar", "id": "s-3", "params": {}}, {"method": "chat/finish"}])
    await peer.finish(await peer.ask("x"))
    assert [push["id"] for push in peer.pushes if push["method"] == "foo/bar"] == ["s-3"]
    sim.wait_log("response 's-3' to no open request")


async def test_missing_acks_hold_nothing_up_and_are_logged(sim: Simulator) -> None:
    sim.turn(ack_timeout_ms=50)
    async with client(sim, acks=False) as silent:
        request_id = await silent.ask("count from 1 to 30")
        await silent.finish(request_id)
        ids = [push["id"] for push in silent.pushes]
        assert ids == list(range(71, 71 + len(ids)))
        sim.wait_log(f"|Outbound| request {ids[-1]} chat/finish failed: no response from client, timeout")


async def test_without_ids_pushes_are_notifications(sim: Simulator, peer: Client) -> None:
    sim.turn(ids="off")
    assert await peer.answer("say hi") == "hi"
    assert all("id" not in push for push in peer.pushes)


@pytest.mark.parametrize("ws_type", ["text", "binary", "random"])
@pytest.mark.parametrize("fragment", ["random", "byte"])
async def test_lv_2_fragments_of_any_kind_join_to_the_answer(
    sim: Simulator, peer: Client, fragment: str, ws_type: str
) -> None:
    """Given frames cut over WebSocket messages, inside characters too; expected every message intact."""
    sim.turn(fragment=fragment, ws_type=ws_type, ttft_ms=0, delta_gap_ms=0)
    before = len(peer.kinds)
    first, second = await peer.ask("说 né 灵码网关"), await peer.ask("say 灵 and 码")
    await peer.finish(first)
    await peer.finish(second)
    assert (peer.text(first), peer.text(second)) == ("né 灵码网关", "灵 and 码")
    kinds = peer.kinds[before:]
    assert len(kinds) > 2 * len(peer.pushes)
    if ws_type != "random":
        assert (str in kinds) == (ws_type == "text")
    if fragment == "byte":
        assert bytes in kinds


async def test_a_stop_in_the_middle_of_fragments_spoils_no_frame(sim: Simulator, peer: Client) -> None:
    sim.turn(fragment="byte", delta_gap_ms=0)
    request_id = await peer.ask("count from 1 to 5000")
    await peer.until(lambda: peer.of(request_id, "chat/answer"), "a delta")
    await peer.notify("chat/stop", {"requestId": request_id})
    assert (await peer.finish(request_id))["reason"] == "cancelled"
    assert await peer.result("ping") == {"success": True}


async def test_a_burst_puts_several_frames_into_one_message(sim: Simulator, peer: Client) -> None:
    sim.turn(burst=8, tokens=64, ttft_ms=0)
    request_id = await peer.ask("x")
    before = len(peer.kinds)
    await peer.finish(request_id)
    assert len(peer.of(request_id, "chat/answer")) == 64
    assert len(peer.kinds) - before <= 8 + 3


async def test_a_body_that_is_no_json_is_an_error_and_no_end(peer: Client) -> None:
    await peer.socket.send(b"Content-Length: 3\r\n\r\n{]}")
    await peer.until(lambda: None in peer._replies, "parse error")
    assert peer._replies[None]["error"]["code"] == -32700
    await peer.socket.send(frame([1, 2]))
    assert await peer.result("ping") == {"success": True}


async def test_lv_14_megabytes_in_both_directions(sim: Simulator, peer: Client) -> None:
    """Given a 3 MiB prompt and a 2 MiB fullAnswer; expected no size limit."""
    answer = "é" * (1024 * 1024)
    sim.turn(script=[{"method": "chat/finish", "params": {"statusCode": 200, "fullAnswer": answer}}])
    prompt = "lorem ipsum " * (3 * 1024 * 1024 // 12)
    request_id = await peer.ask(prompt)
    assert (await peer.finish(request_id))["fullAnswer"] == answer
    assert [entry["params"]["questionText"] for entry in sim.records(request_id)] == [prompt]
    sim.turn(tokens=3)
    assert len((await peer.answer(prompt)).split()) == 3
    assert json.dumps(await peer.result("ping"))
