"""Answers of a running simulator: order of pushes, sessions, faults, stop."""

import asyncio
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tests.unit.workers.simulator.harness import PATIENCE_S, Client, Simulator, client, simulator


async def test_the_golden_exchange(peer: Client) -> None:
    """The order, fields and ids of a whole answer."""
    reply = await peer.call(
        "chat/ask",
        {
            "requestId": "9f0c",
            "sessionId": "5b2e",
            "sessionType": "chat",
            "chatTask": "FREE_INPUT",
            "mode": "chat",
            "stream": True,
            "source": 1,
            "isReply": False,
            "taskDefinitionType": "system",
            "questionText": "Say ping",
        },
    )
    assert reply["result"] == {"success": True, "errorCode": "", "errorMessage": ""}
    await peer.finish("9f0c")
    assert [push["id"] for push in peer.pushes] == list(range(71, 78))
    steps = [push["params"] for push in peer.pushes if push["method"] == "chat/process_step_callback"]
    assert [(step["requestId"], step["sessionId"], step["step"], step["status"]) for step in steps] == [
        ("9f0c", "5b2e", "step_start", "done"),
        ("9f0c", "5b2e", "step_end", "done"),
    ]
    title = peer.pushes[2]
    assert (title["method"], title["params"]) == (
        "session/title/update",
        {"sessionId": "5b2e", "sessionTitle": "Say ping"},
    )
    answers = peer.of("9f0c", "chat/answer")
    assert [answer["params"]["text"] for answer in answers] == ["pi", "", "ng"]
    first = dict(answers[0]["params"])
    assert abs(first.pop("timestamp") / 1000 - time.time()) < 60
    assert first == {
        "requestId": "9f0c",
        "sessionId": "5b2e",
        "text": "pi",
        "overwrite": False,
        "isFiltered": False,
        "extra": {"sessionType": "chat"},
    }
    assert peer.pushes[-1] == {
        "jsonrpc": "2.0",
        "id": 77,
        "method": "chat/finish",
        "params": {
            "requestId": "9f0c",
            "sessionId": "5b2e",
            "reason": "success",
            "statusCode": 200,
            "fullAnswer": "ping",
        },
    }


async def test_a_follow_up_has_what_was_said_before(peer: Client) -> None:
    session = uuid.uuid4().hex
    model = {"extra": {"modelConfig": {"key": "kmodel"}}}
    assert await peer.answer("apples", sessionId=session, **model) == (
        f"You said: apples\nturns=1 isReply=false session={session} model=kmodel"
    )
    said = await peer.answer("What did I say first?", sessionId=session, isReply=True, **model)
    assert said == f"You said first: apples\nturns=2 isReply=true session={session} model=kmodel"
    titles = [push for push in peer.pushes if push["method"] == "session/title/update"]
    assert len(titles) == 1
    custom = {"customModel": {"provider": "openai", "model": "own"}, **model}
    assert "model=own" in await peer.answer("status", sessionId=session, isReply=True, **custom)


async def test_a_transcript_counts_its_user_turns(peer: Client) -> None:
    session = uuid.uuid4().hex
    prompt = "system: brief\n\nuser: A\n\nassistant: R\n\nuser: what did I say first?"
    assert await peer.answer(prompt, sessionId=session) == (
        f"You said first: A\nturns=2 isReply=false session={session} model=org_auto"
    )
    titles = [push["params"] for push in peer.pushes if push["method"] == "session/title/update"]
    assert titles == [{"sessionId": session, "sessionTitle": "what did I say first?"}]


async def test_lv_34_the_session_goes_on_under_the_id_of_the_finish(sim: Simulator, peer: Client) -> None:
    """Given turn 1 asked as s-1 and finished as s-9; expected turn 2 as s-9 with isReply to say turns=2."""
    sim.turn(finish_session="s-9")
    finish = await peer.finish(await peer.ask("A", sessionId="s-1"))
    assert finish["sessionId"] == "s-9"
    sim.turn()
    assert await peer.answer("B", sessionId="s-9", isReply=True) == (
        "You said: B\nturns=2 isReply=true session=s-9 model=org_auto"
    )


@pytest.mark.parametrize(
    ("mode", "pushes_keep_id", "finish_keeps_id"),
    [("new", False, False), ("new_late", True, False), ("silent", True, True)],
)
async def test_lv_38_a_follow_up_to_an_unknown_session_is_without_history(
    sim: Simulator, peer: Client, mode: str, pushes_keep_id: bool, finish_keeps_id: bool
) -> None:
    """Given a follow-up to a session nobody knows; expected an answer that shows no history."""
    sim.turn(unknown_session=mode)
    asked = uuid.uuid4().hex
    request_id = await peer.ask("hello", sessionId=asked, isReply=True)
    finish = await peer.finish(request_id)
    shown = {push["params"]["sessionId"] for push in peer.of(request_id)[:-1]}
    assert len(shown) == 1
    assert (shown == {asked}, finish["sessionId"] == asked) == (pushes_keep_id, finish_keeps_id)
    assert f"turns=1 isReply=true session={finish['sessionId']}" in finish["fullAnswer"]


async def test_an_unknown_session_may_be_an_error(sim: Simulator, peer: Client) -> None:
    sim.turn(unknown_session="error")
    finish = await peer.finish(await peer.ask("hello", sessionId="gone", isReply=True))
    assert (finish["statusCode"], finish["reason"], finish["fullAnswer"]) == (500, "session not found", "")


async def test_sessions_outlive_a_restart_when_told_to(work_dir: Path) -> None:
    for number, reply in ((1, False), (2, True)):
        with simulator(work_dir, env={"LINGMA_SIM_PERSIST": "1"}) as sim:
            async with client(sim) as peer:
                said = await peer.answer("hello", sessionId="s-1", isReply=reply)
                assert f"turns={number} " in said


@pytest.mark.parametrize(
    ("form", "opening", "closing"), [("inline", "<think>", "</think>"), ("fence", "```think::", "```")]
)
async def test_thoughts_may_be_part_of_the_answer(
    sim: Simulator, peer: Client, form: str, opening: str, closing: str
) -> None:
    sim.turn(thinking=form)
    said = await peer.answer("think of 7, then say 7")
    assert said.startswith(opening)
    assert closing in said
    assert said.rstrip().endswith("7")


async def test_lv_25_thoughts_are_pushed_before_the_answer(peer: Client) -> None:
    """Given thoughts and an answer; expected think start…, think done, then the answer 7."""
    request_id = await peer.ask("think of it, then say 7")
    await peer.finish(request_id)
    thoughts = [push["params"] for push in peer.of(request_id, "chat/think")]
    assert {thought["step"] for thought in thoughts[:-1]} == {"start"}
    assert (thoughts[-1]["step"], thoughts[-1]["text"]) == ("done", "")
    methods = [push["method"] for push in peer.of(request_id)]
    assert methods.index("chat/answer") > methods.index("chat/think")
    assert peer.text(request_id) == "7"


async def test_counting_slowly_takes_twenty_milliseconds_a_number(peer: Client) -> None:
    request_id = await peer.ask("count slowly from 1 to 10")
    await peer.finish(request_id)
    answers = [push["params"] for push in peer.of(request_id, "chat/answer")]
    assert [answer["text"].strip() for answer in answers] == [str(number) for number in range(1, 11)]
    assert answers[-1]["timestamp"] - answers[0]["timestamp"] >= 9 * 20 - 2


async def test_waiting_is_silence(peer: Client) -> None:
    started = time.monotonic()
    assert await peer.answer("wait 0.2 seconds") == "waited 0.2 seconds"
    assert time.monotonic() - started >= 0.2


async def test_a_fixed_answer_knows_the_question(sim: Simulator, peer: Client) -> None:
    sim.turn(answer="<{text}> {report}")
    assert await peer.answer("say x", sessionId="s") == (
        "<say x> turns=1 isReply=false session=s model=org_auto"
    )


async def test_tokens_are_exactly_so_many_deltas(sim: Simulator, peer: Client) -> None:
    sim.turn(tokens=150, delta_gap_ms=0, ttft_ms=0)
    request_id = await peer.ask("say x")
    await peer.finish(request_id)
    assert len(peer.of(request_id, "chat/answer")) == 150


async def test_lv_11_an_ask_without_reply_streams_all_the_same(sim: Simulator, peer: Client) -> None:
    """Given no response to chat/ask; expected the deltas at their usual time."""
    sim.turn(ask_reply="no")
    assert await peer.answer("say hi") == "hi"
    assert peer._replies == {}


async def test_lv_12_an_ask_may_be_refused_in_its_reply(sim: Simulator, peer: Client) -> None:
    """Given `success:false`, code Q1, message quota; expected that reply and nothing after it."""
    sim.turn(ask_reply="error")
    refused = {"success": False, "errorCode": "Q1", "errorMessage": "quota"}
    assert await peer.result("chat/ask", {"requestId": "r-12", "questionText": "x"}) == refused
    sim.turn(ask_reply="rpc_error", ask_error_message="no quota")
    error = (await peer.call("chat/ask", {"requestId": "r-12", "questionText": "x"}))["error"]
    assert error == {"code": -32603, "message": "no quota"}
    sim.turn(ask_reply="is_success")
    reply = await peer.result("chat/ask", {"requestId": "r-13", "questionText": "say x"})
    assert reply == {"isSuccess": True, "requestId": "r-13", "status": "success"}
    await peer.finish("r-13")
    assert peer.of("r-12") == []


async def test_an_ask_sent_as_notification_is_refused_by_its_finish(sim: Simulator, peer: Client) -> None:
    sim.turn(ask_reply="error")
    await peer.notify("chat/ask", {"requestId": "r-n", "questionText": "x"})
    finish = await peer.finish("r-n")
    assert (finish["statusCode"], finish["reason"]) == (500, "quota")


async def test_lv_13_pushes_for_other_requests_can_be_sent(sim: Simulator, peer: Client) -> None:
    """Given a push for request zz; expected it to arrive beside the real answer."""
    stray = {"method": "chat/answer", "params": {"requestId": "zz", "text": "?"}}
    sim.turn(script=[stray, {"method": "chat/finish", "params": {"statusCode": 200}}])
    await peer.finish(await peer.ask("x"))
    assert peer.text("zz") == "?"


@pytest.mark.parametrize("field", ["text", "content", "chatContext"])
async def test_the_prompt_may_stand_in_several_fields(peer: Client, field: str) -> None:
    value: object = {"text": "say found"} if field == "chatContext" else "say found"
    await peer.result("chat/ask", {"requestId": f"r-{field}", field: value})
    await peer.finish(f"r-{field}")
    assert peer.text(f"r-{field}") == "found"


async def test_an_ask_without_a_prompt_is_an_error(peer: Client) -> None:
    error = (await peer.call("chat/ask", {"requestId": "r", "questionText": " "}))["error"]
    assert error == {"code": -32602, "message": "questionText is empty"}


async def test_a_stop_cancels_within_50_milliseconds(sim: Simulator, peer: Client) -> None:
    took = []
    for question in ("wait 60 seconds", "count slowly from 1 to 9999", "wait 60 seconds"):
        request_id = await peer.ask(question)
        await peer.until(lambda: peer.of(request_id), "a first push")  # noqa: B023
        started = time.monotonic()
        assert await peer.result("chat/stop", {"requestId": request_id, "sessionId": ""}) == {}
        finish = await peer.finish(request_id)
        took.append(time.monotonic() - started)
        assert (finish["reason"], finish["statusCode"]) == ("cancelled", 200)
        assert finish["fullAnswer"] == peer.text(request_id)
        assert [entry["method"] for entry in sim.records(request_id)] == ["chat/ask", "chat/stop"]
    assert min(took) < 0.05
    assert len(peer.of(request_id, "chat/finish")) == 1


async def test_a_cancelled_turn_stays_in_its_session_with_what_was_said(peer: Client) -> None:
    request_id = await peer.ask("count slowly from 1 to 9999", sessionId="s-cut")
    await peer.until(lambda: len(peer.of(request_id, "chat/answer")) > 2, "deltas")
    await peer.notify("chat/stop", {"requestId": request_id})
    finish = await peer.finish(request_id)
    session = await peer.result("chat/getSessionById", {"sessionId": "s-cut"})
    assert [record["answer"] for record in session["chatRecords"]] == [finish["fullAnswer"]]
    assert "turns=2 " in await peer.answer("status", sessionId="s-cut", isReply=True)


async def test_a_stop_reaches_an_answer_without_pauses(sim: Simulator, peer: Client) -> None:
    sim.turn(delta_gap_ms=0, tokens=1_000_000)
    request_id = await peer.ask("x")
    await peer.until(lambda: len(peer.of(request_id, "chat/answer")) > 50, "deltas")
    await peer.notify("chat/stop", {"requestId": request_id})
    assert (await peer.finish(request_id))["reason"] == "cancelled"


async def test_a_whole_session_can_be_stopped_from_another_connection(sim: Simulator, peer: Client) -> None:
    ids = [await peer.ask("wait 60 seconds", sessionId="s-stop") for _ in range(2)]
    await peer.until(lambda: all(peer.of(request_id) for request_id in ids), "first pushes")
    async with client(sim) as other:
        assert await other.result("chat/stopSession", {"sessionId": "s-stop"}) == {}
    for request_id in ids:
        assert (await peer.finish(request_id))["reason"] == "cancelled"


async def test_stopping_what_does_not_run_is_no_error(peer: Client) -> None:
    assert await peer.result("chat/stop", {"requestId": "never", "sessionId": "s"}) == {}


async def test_concurrent_asks_run_side_by_side(peer: Client) -> None:
    slow = await peer.ask("wait 60 seconds")
    assert await peer.answer("say quick") == "quick"
    await peer.notify("chat/stop", {"requestId": slow})
    await peer.finish(slow)


async def test_asks_beyond_the_limit_queue_or_fail(sim: Simulator, peer: Client) -> None:
    sim.turn(concurrency=1)
    first = await peer.ask("wait 60 seconds")
    second = await peer.ask("say second")
    await peer.result("ping")  # served in order: the asks have read their knobs
    sim.turn(concurrency=1, over_limit="error")
    third = await peer.finish(await peer.ask("say third"))
    assert (third["statusCode"], third["reason"]) == (500, "too many concurrent requests")
    assert peer.of(second) == []
    await peer.notify("chat/stop", {"requestId": first})
    await peer.finish(second)
    assert peer.text(second) == "second"


async def test_lv_27_a_finish_408_comes_after_some_text(sim: Simulator, peer: Client) -> None:
    """Given fail finish_408; expected statusCode 408, reason timeout, after partial text."""
    sim.turn(fail="finish_408", fail_after=1)
    finish = await peer.finish(await peer.ask("say partial"))
    assert (finish["statusCode"], finish["reason"], finish["fullAnswer"]) == (408, "timeout", "pa")


async def test_an_answer_may_be_empty(sim: Simulator, peer: Client) -> None:
    sim.turn(fail="empty")
    request_id = await peer.ask("say x")
    finish = await peer.finish(request_id)
    assert (finish["statusCode"], finish["fullAnswer"]) == (200, "")
    assert peer.of(request_id, "chat/answer") == []


async def test_a_hung_ask_never_says_anything(sim: Simulator, peer: Client) -> None:
    sim.turn(fail="hang", concurrency=1)
    reply = await peer.result("chat/ask", {"requestId": "r-hang", "questionText": "say x"})
    assert reply["success"] is True
    assert await peer.result("chat/stop", {"requestId": "r-hang", "sessionId": ""}) == {}
    sim.turn(concurrency=1)
    assert await peer.answer("say alive") == "alive"
    assert peer.of("r-hang") == []


async def test_silence_may_begin_in_the_middle(sim: Simulator, peer: Client) -> None:
    sim.turn(fail="hang_after_n", fail_after=3)
    request_id = await peer.ask("count from 1 to 9")
    await peer.until(lambda: len(peer.of(request_id, "chat/answer")) == 3, "three deltas")
    await peer.notify("chat/stop", {"requestId": request_id})
    finish = await peer.finish(request_id)
    assert (finish["reason"], finish["fullAnswer"]) == ("cancelled", "1 2 3")


async def test_the_socket_may_close_in_the_middle(sim: Simulator) -> None:
    sim.turn(fail="close_ws", fail_after=2)
    async with client(sim) as peer:
        request_id = await peer.ask("count from 1 to 9")
        await peer.until(lambda: peer.closed, "close")
        assert peer.text(request_id) == "1 2"
        assert peer.of(request_id, "chat/finish") == []
    sim.turn()
    async with client(sim) as again:
        assert await again.answer("say back") == "back"


async def test_lv_19_the_process_may_die_in_the_middle(work_dir: Path) -> None:
    """Given a crash after 2 deltas; expected exactly those, then a dead process."""
    with simulator(work_dir) as sim:
        sim.turn(fail="crash_after_2")
        async with client(sim) as peer:
            request_id = await peer.ask("count from 1 to 9")
            assert await asyncio.to_thread(sim.process.wait, PATIENCE_S) == -9
            await peer.until(lambda: peer.text(request_id) == "1 2", "both deltas")
            assert peer.of(request_id, "chat/finish") == []


async def test_lv_21_five_megabytes_on_stderr_block_only_the_ask(work_dir: Path) -> None:
    """Given 5 MB to stderr; expected an answer only for a parent that reads, and no deadlock otherwise."""
    with simulator(work_dir, stderr=subprocess.PIPE) as sim:
        sim.turn(fail="stderr_flood")
        async with client(sim) as peer:
            request_id = await peer.ask("say done")
            # The pipe is full and stays so; the process goes on.
            assert await peer.result("ping") == {"success": True}
            assert peer.of(request_id, "chat/answer") == []
            assert sim.process.stderr is not None
            pipe, size = sim.process.stderr, 0
            while size < 5 * 1024 * 1024:
                size += len(await asyncio.to_thread(pipe.read1, 1 << 20))  # type: ignore[attr-defined]
            await peer.finish(request_id)
            assert peer.text(request_id) == "done"


async def test_the_log_has_the_lines_of_an_ask_and_not_its_text(sim: Simulator, peer: Client) -> None:
    request_id = await peer.ask("say xyzzy", sessionType="chat", mode="normal")
    await peer.finish(request_id)
    sim.wait_log(f"finish chat answer requestId: {request_id} cost: ")
    log = sim.log()
    assert "doAsk params.SessionType: chat, ChatMode: normal" in log
    assert f"Async chat, request id: {request_id}" in log
    assert f'"request_id":"{request_id}","total_tokens"' in log
    assert "xyzzy" not in log


async def test_the_evidence_shows_each_ask_as_it_came(sim: Simulator, peer: Client) -> None:
    request_id = await peer.ask("say x", sessionId="s-e", isReply=False, unknownField=[1])
    await peer.finish(request_id)
    (entry,) = sim.records(request_id)
    assert entry["params"] == {
        "requestId": request_id,
        "sessionId": "s-e",
        "isReply": False,
        "questionText": "say x",
        "unknownField": [1],
    }
    assert (entry["method"], entry["pid"]) == ("chat/ask", sim.process.pid)
    assert abs(entry["wall_ms"] / 1000 - time.time()) < 60
    assert entry["id"] is not None
    sim.turn(record=False)
    unrecorded = await peer.ask("say y")
    await peer.finish(unrecorded)
    assert sim.records(unrecorded) == []
