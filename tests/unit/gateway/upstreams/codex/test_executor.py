"""Attempts on the strict fake over a real socket: what is asked, what comes back, what is remembered."""

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.kernel.errors import COMPACTION_UNSUPPORTED, ErrorKind
from gateway.kernel.json import loads
from gateway.turn.items import Reasoning
from gateway.turn.losses import Loss
from gateway.turn.ports import AttemptFailed
from gateway.turn.request import Turn
from gateway.upstreams.codex.item_ids import sound_name
from gateway.upstreams.codex.replay_session import tenants_cache_key
from tests.fakes.codex_brain import Answer, CallTool, Compacted, Say, Think
from tests.fakes.codex_server import (
    PLAIN_MODEL,
    RATE_LIMITED,
    REASONING_MODEL,
    UNAUTHORISED,
    USAGE_LIMIT,
    CodexServer,
    Fault,
)
from tests.support.clients import until
from tests.support.codex import FIND, Bench, bench, chat, gemini, messages, responses

USER = {"role": "user", "content": "call find"}
CLAUDE_TOOL = {"name": "find", "description": "d", "input_schema": FIND}


def follow_up(call_id: str, *more: Any, **body: Any) -> Turn:
    """The request after the call, from a client that keeps no reasoning."""
    use = {"type": "tool_use", "id": call_id, "name": "find", "input": {}}
    result = {"type": "tool_result", "tool_use_id": call_id, "content": "seven"}
    asked = [USER, {"role": "assistant", "content": [use]}, {"role": "user", "content": [result, *more]}]
    return messages(*asked, tools=[CLAUDE_TOOL], **body)


async def first_turn(subject: Bench, **body: Any) -> str:
    """A conversation whose model has called a tool; gives the call's id."""
    result = await subject.ask(messages(USER, tools=[CLAUDE_TOOL], **body))
    (call,) = result.tool_calls
    return call.call_id


async def fails(subject: Bench, turn: Turn, **how: Any) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await subject.ask(turn, **how)
    return caught.value


# -- replay -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_what_a_client_does_not_keep_is_given_back_in_its_place(stream: bool) -> None:
    """The upstream demands it: without replay the second request is refused."""
    async with bench() as subject:
        call_id = await first_turn(subject, stream=stream)
        result = await subject.ask(follow_up(call_id, stream=stream))
        assert result.text == "Got seven"
        kinds = [item["type"] for item in subject.last["input"]]
        assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
        assert subject.server.requests[-1].missing == 0
        third = follow_up(call_id, {"type": "text", "text": "say bye"})
        body = third.raw.body
        said: Any = [*body["messages"][:2], {"role": "user", "content": [body["messages"][2]["content"][0]]}]  # type: ignore[index]
        said += [{"role": "assistant", "content": result.text}, {"role": "user", "content": "say bye"}]
        assert (await subject.ask(messages(*said, tools=[CLAUDE_TOOL]))).text == "bye"
        assert len(subject.server.requests[-1].blobs) == 2


async def test_a_client_that_keeps_its_reasoning_gets_none_twice() -> None:
    async with bench() as subject:
        result = await subject.ask(messages(USER, tools=[CLAUDE_TOOL]))
        thought = result.items[0]
        assert isinstance(thought, Reasoning)
        kept = {"type": "thinking", "thinking": thought.summary[0], "signature": thought.signature}
        use = {"type": "tool_use", "id": result.tool_calls[0].call_id, "name": "find", "input": {}}
        answer = {"type": "tool_result", "tool_use_id": use["id"], "content": "seven"}
        turn = messages(
            USER,
            {"role": "assistant", "content": [kept, use]},
            {"role": "user", "content": [answer]},
            tools=[CLAUDE_TOOL],
        )
        assert (await subject.ask(turn)).text == "Got seven"
        assert len(subject.server.requests[-1].blobs) == 1


async def test_chat_and_gemini_clients_take_part_unless_only_messages_may() -> None:
    tool = {"type": "function", "function": {"name": "find", "parameters": FIND}}
    hi = {"role": "user", "content": "call find"}

    def after(call_id: str) -> Turn:
        call = {"id": call_id, "type": "function", "function": {"name": "find", "arguments": "{}"}}
        answered = {"role": "tool", "tool_call_id": call_id, "content": "seven"}
        return chat(hi, {"role": "assistant", "tool_calls": [call]}, answered, tools=[tool])

    async with bench() as subject:
        (call,) = (await subject.ask(chat(hi, tools=[tool]))).tool_calls
        assert (await subject.ask(after(call.call_id))).text == "Got seven"
    async with bench(all_clients=False) as subject:
        (call,) = (await subject.ask(chat(hi, tools=[tool]))).tool_calls
        assert (await fails(subject, after(call.call_id))).error.kind == ErrorKind.INVALID_REQUEST
        assert len(subject.kv) == 0


async def test_gemini_clients_are_given_back_theirs() -> None:
    declared = [{"functionDeclarations": [{"name": "find", "parametersJsonSchema": FIND}]}]
    ask: Any = {"role": "user", "parts": [{"text": "call find"}]}
    async with bench() as subject:
        (call,) = (await subject.ask(gemini(ask, tools=declared))).tool_calls
        made = {"functionCall": {"id": call.call_id, "name": "find", "args": {}}}
        came = {"functionResponse": {"id": call.call_id, "name": "find", "response": {"output": "seven"}}}
        turn = gemini(
            ask, {"role": "model", "parts": [made]}, {"role": "user", "parts": [came]}, tools=declared
        )
        assert "seven" in (await subject.ask(turn)).text
        assert len(subject.server.requests[-1].blobs) == 1


async def test_rp_33_clients_of_responses_carry_their_own() -> None:
    """RP-33. Given a Responses request with `prompt_cache_key`: no read, no write."""
    async with bench() as subject:
        subject.kv.down = True
        turn = responses("say hi", prompt_cache_key="pk")
        assert (await subject.ask(turn)).text == "hi"
        assert subject.last["prompt_cache_key"] == tenants_cache_key("pk", turn.tenant)
        assert len(subject.kv) == 0


async def test_rp_34_without_a_session_nothing_is_remembered() -> None:
    """RP-34. Given a Messages request without any session hint: the body unchanged, nothing stored."""
    async with bench() as subject:
        await subject.ask(messages(USER, tools=[CLAUDE_TOOL], headers={}))
        assert len(subject.kv) == 0


async def test_tenants_are_apart_unless_they_share() -> None:
    for isolation, missing in (("tenant", 1), ("shared", 0)):
        async with bench(CodexServer(demand=False), isolation=isolation) as subject:
            call_id = await first_turn(subject)
            body = follow_up(call_id).raw.body
            other = messages(*body["messages"], tools=[CLAUDE_TOOL], tenant="other")  # type: ignore[misc]
            await subject.ask(other)
            assert subject.server.requests[-1].missing == missing


async def test_rp_54_an_empty_output_is_remembered_in_the_order_of_its_items() -> None:
    """RP-54. Given `output_item.done` of the call before that of the reasoning, then `response.completed`
    with `output:[]`, expect reasoning, call.
    """
    async with bench() as subject:
        pieces = (Think(), CallTool("find"))
        subject.server.queue.append(Answer(pieces=pieces, output="empty", interleaved=True))
        call_id = await first_turn(subject, stream=True)
        await subject.ask(follow_up(call_id))
        assert [item["type"] for item in subject.last["input"]][1:3] == ["reasoning", "function_call"]


@pytest.mark.parametrize("end", ["max_output_tokens", "cut", "eof"])
async def test_rp_55_an_answer_that_was_not_completed_is_not_remembered(end: Any) -> None:
    """RP-55. Given the same items and `response.incomplete`, or a stream that is cut: nothing is stored."""
    async with bench() as subject:
        subject.server.queue.append(Answer(pieces=(Think(), CallTool("find")), end=end))
        result = await subject.ask(messages(USER, tools=[CLAUDE_TOOL], stream=True))
        assert (result.error is None) == (end == "max_output_tokens")
        assert len(subject.kv) == 0


async def test_rp_56_an_answer_of_words_leaves_what_was_remembered() -> None:
    """RP-56. Given a completed output with only a message: the entry is untouched."""
    async with bench() as subject:
        call_id = await first_turn(subject)
        subject.server.queue.append(Answer(pieces=(Say("only words"),)))
        await subject.ask(messages({"role": "user", "content": "another"}))
        await subject.ask(follow_up(call_id))
        assert len(subject.server.requests[-1].blobs) == 1


async def test_rp_57_rejected_reasoning_is_forgotten() -> None:
    """RP-57. Given 400 `invalid_encrypted_content`: the entry is deleted, and the client, should it be told,
    sees 400 `thinking_signature_invalid`. One attempt makes one call; another, without anything sealed, may
    follow where something was.
    """
    async with bench(CodexServer(demand=False)) as subject:
        call_id = await first_turn(subject)
        subject.server.vault.stale = True
        failed = await fails(subject, follow_up(call_id))
        assert (failed.again, failed.error.code) == ("fresh", "thinking_signature_invalid")
        assert failed.error.kind == ErrorKind.INVALID_REQUEST
        assert len(subject.server.requests) == 2
        result = await subject.ask(follow_up(call_id), fresh=True)
        assert result.text == "Got seven"
        assert subject.server.requests[-1].blobs == []
        subject.server.vault.stale = False
        await subject.ask(follow_up(call_id))
        assert subject.server.requests[-1].blobs == [], "what was rejected is not given back"


async def test_rejected_reasoning_of_the_clients_own_is_left_out_once() -> None:
    async with bench(CodexServer(demand=False)) as subject:
        first = responses("say hi", store=False)
        thought = (await subject.ask(first)).items[0]
        assert thought.origin is not None
        assert thought.origin.raw is not None
        items: Any = [
            {"role": "user", "content": "say hi"},
            loads(thought.origin.raw),
            {"role": "user", "content": "say ho"},
        ]
        subject.server.vault.demand = False
        subject.server.vault.stale = True
        turn = responses(items, store=False)
        assert (await fails(subject, turn)).again == "fresh"
        assert (await subject.ask(turn, fresh=True)).text == "ho"
        failed = await fails(subject, responses("x", previous_response_id=None), model="gone")
        assert failed.again == "next"


async def test_reasoning_that_was_stored_elsewhere_is_left_out() -> None:
    """A conversation that was with somebody else names reasoning by ids that nobody here knows."""
    stored: Any = {"type": "reasoning", "id": "rs_elsewhere", "summary": []}
    said: Any = {"type": "message", "id": "msg_1", "role": "assistant", "content": "b"}
    turn = responses([{"role": "user", "content": "a"}, stored, said, {"role": "user", "content": "say c"}])
    missing = {"message": "Item with id 'rs_elsewhere' not found.", "type": "invalid_request_error"}
    async with bench() as subject:
        subject.server.queue.append(Fault(status=404, error=missing))
        assert (await fails(subject, turn)).again == "fresh"
        assert (await subject.ask(turn, fresh=True)).text == "c"
        assert "id" not in subject.last["input"][1]
        subject.server.queue.append(Fault(status=404, error=missing))
        assert (await fails(subject, responses("x"))).again == "no"


async def test_rp_58_signatures_purge_inside_a_stream_and_contexts_do_not() -> None:
    """RP-58. Given `response.failed` with "Invalid signature in thinking block": the entry is deleted; with
    `context_length_exceeded`: kept, and the class is the context's.
    """
    too_long = {"code": "context_length_exceeded", "message": "too long"}
    rejected = {"code": "server_error", "message": "Invalid signature in thinking block"}
    for error, blobs in ((too_long, 1), (rejected, 0)):
        async with bench(CodexServer(demand=False)) as subject:
            call_id = await first_turn(subject)
            subject.server.queue.append(Answer(end="failed", error=error))
            failed = await fails(subject, follow_up(call_id, stream=True))
            kind = ErrorKind.CONTEXT_LENGTH if blobs else ErrorKind.INVALID_REQUEST
            assert failed.error.kind == kind
            await subject.ask(follow_up(call_id))
            assert len(subject.server.requests[-1].blobs) == blobs


async def test_rp_59_the_context_wins_over_the_signature() -> None:
    """RP-59. Given the code `context_length_exceeded` and the text `invalid_encrypted_content`: the entry is
    kept.
    """
    error = {"code": "context_length_exceeded", "message": "invalid_encrypted_content", "type": "x"}
    async with bench() as subject:
        call_id = await first_turn(subject)
        subject.server.queue.append(Fault(status=400, error=error))
        assert (await fails(subject, follow_up(call_id))).error.kind == ErrorKind.CONTEXT_LENGTH
        await subject.ask(follow_up(call_id))
        assert len(subject.server.requests[-1].blobs) == 1


async def test_rp_60_a_used_up_limit_rests_the_credential() -> None:
    """RP-60. Given `usage_limit_reached`, `resets_in_seconds` 90 and status 400: 429, Retry-After 90 s."""
    async with bench() as subject:
        subject.server.queue.append(Fault(status=400, error=USAGE_LIMIT.error))
        failed = await fails(subject, chat({"role": "user", "content": "hi"}))
        assert (failed.again, failed.error.kind) == ("next", ErrorKind.RATE_LIMITED)
        assert failed.error.retry_after_s == 90
        assert 85 < subject.rests_s() <= 90


async def test_rp_61_another_credential_is_given_the_same() -> None:
    """RP-61. Given credential 1 that fails with 401 in mid-session and credential 2 that serves the next try:
    the same replay is injected.
    """
    async with bench() as subject:
        call_id = await first_turn(subject)
        subject.server.faults["sk-one"] = UNAUTHORISED
        failed = await fails(subject, follow_up(call_id))
        assert (failed.again, failed.error.kind) == ("next", ErrorKind.UPSTREAM_UNAVAILABLE)
        assert "sk-on" not in failed.error.message
        assert (await subject.ask(follow_up(call_id), account="two")).text == "Got seven"
        first, second = subject.server.requests[-2:]
        assert first.blobs == second.blobs != []
        assert (first.key, second.key) == ("sk-one", "sk-two")


async def test_a_turn_that_was_purged_meanwhile_is_not_remembered() -> None:
    """Its reasoning came of the same account and history as what was refused."""
    async with bench(CodexServer(demand=False)) as subject:
        call_id = await first_turn(subject)
        subject.server.queue.append(Answer(pieces=(Think(), Say("late")), gate_after=2))
        slow = asyncio.get_running_loop().create_task(subject.ask(follow_up(call_id, stream=True)))
        await until(lambda: len(subject.server.requests) == 2, "the slow turn to be asked")
        subject.server.vault.stale = True
        await fails(subject, follow_up(call_id))
        subject.server.gate.set()
        assert (await slow).text == "late"
        subject.server.vault.stale = False
        await subject.ask(follow_up(call_id))
        assert subject.server.requests[-1].blobs == []


async def test_a_store_that_is_down_costs_reasoning_and_no_turn() -> None:
    async with bench(CodexServer(demand=False)) as subject:
        subject.kv.down = True
        call_id = await first_turn(subject)
        assert (await subject.ask(follow_up(call_id))).text == "Got seven"


async def test_a_strict_replay_fails_the_turn_when_its_store_is_down() -> None:
    async with bench(strict=True) as subject:
        call_id = await first_turn(subject)
        subject.kv.down = True
        failed = await fails(subject, follow_up(call_id))
        assert (failed.again, failed.error.kind) == ("no", ErrorKind.STORE_UNAVAILABLE)
        assert len(subject.server.requests) == 1


async def test_models_without_reasoning_remember_nothing() -> None:
    async with bench() as subject:
        turn = messages({"role": "user", "content": "say hi"}, temperature=0.5, model=PLAIN_MODEL)
        assert (await subject.ask(turn)).text == "hi"
        assert subject.last["temperature"] == 0.5
        assert len(subject.kv) == 0
        losses = [list(subject.executor.losses(turn, model)) for model in (PLAIN_MODEL, REASONING_MODEL)]
        assert losses == [[], [Loss("temperature", "unsupported")]]
        subject.executor.conclude(turn)


# -- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_in_the_clients_own_dialect_keeps_its_bytes(stream: bool) -> None:
    async with bench() as subject:
        frames = await subject.frames(responses("say hi", stream=stream))
        assert all(frame.dialect == "responses" for frame in frames)
        assert [frame.whole for frame in frames] == ([False] * len(frames) if stream else [True])
        assert subject.last["stream"] is stream


async def test_an_upstream_that_only_streams_gives_a_whole_answer() -> None:
    async with bench(CodexServer(stream_only=True), stream_only=True) as subject:
        subject.server.queue.append(Answer(pieces=(Think(), Say("hi")), output="empty"))
        frames = await subject.frames(responses("x"))
        whole = [frame.raw for frame in frames if frame.whole]
        assert subject.last["stream"] is True
        assert len(whole) == 1
        assert whole[0] is not None
        assert b'"text":"hi"' in whole[0]


async def test_tools_of_all_kinds_make_their_round() -> None:
    long = "mcp__" + "server." * 12 + "find"
    tool = {"type": "function", "function": {"name": long, "parameters": FIND}}
    custom = {"type": "custom", "custom": {"name": "exec", "description": "runs"}}
    hi = {"role": "user", "content": "x"}
    async with bench() as subject:
        made = (Think(), CallTool(sound_name(long), '{"q":"a"}'), CallTool("exec", "ls -l", custom=True))
        subject.server.queue.append(Answer(pieces=made))
        calls = (await subject.ask(chat(hi, tools=[tool, custom]))).tool_calls
        assert [(call.name, call.kind) for call in calls] == [(long, "function"), ("exec", "custom")]
        back: list[Any] = [
            {
                "id": calls[0].call_id,
                "type": "function",
                "function": {"name": long, "arguments": '{"q":"a"}'},
            },
            {"id": calls[1].call_id, "type": "custom", "custom": {"name": "exec", "input": "ls -l"}},
        ]
        results = [{"role": "tool", "tool_call_id": call.call_id, "content": "ok"} for call in calls]
        turn = chat(hi, {"role": "assistant", "tool_calls": back}, *results, tools=[tool, custom])
        assert (await subject.ask(turn)).text == "Got ok and ok"


async def test_limits_and_errors_of_one_request_rest_what_they_should() -> None:
    async with bench() as subject:
        hi = {"role": "user", "content": "hi"}
        subject.server.queue.append(RATE_LIMITED)
        assert (await fails(subject, chat(hi))).error.retry_after_s == 2
        assert subject.rests_s(soft=False) > 0
        failed = await fails(subject, chat(hi, response_format={"type": "json_object"}))
        assert (failed.again, failed.error.kind) == ("no", ErrorKind.INVALID_REQUEST)
        assert "json" in failed.error.message
        failed = await fails(subject, chat(hi), model="gone")
        assert (failed.again, failed.error.kind) == ("next", ErrorKind.MODEL_NOT_FOUND)


# -- compaction -------------------------------------------------------------------------------------------

HISTORY: list[Any] = [{"role": "user", "content": "say hi"}]


def compacting(trigger: str = "compaction_trigger", **body: Any) -> Turn:
    return responses([*HISTORY, {"type": trigger}], stream=True, **body)


@pytest.mark.parametrize("trigger", ["compaction_trigger", "context_compaction"])
async def test_a_conversation_is_compacted_in_the_words_of_its_trigger(trigger: str) -> None:
    async with bench(compaction=True) as subject:
        frames = await subject.frames(compacting(trigger))
        assert subject.last["input"][-1] == {"type": trigger}
        raw = b"".join(frame.raw or b"" for frame in frames)
        kind = b"context_compaction" if trigger == "context_compaction" else b"compaction"
        assert b'"type":"%b","encrypted_content"' % kind in raw


@pytest.mark.parametrize(
    "pieces", [(Say("a summary"),), (Compacted(), Compacted()), (Compacted("context_compaction"),)]
)
async def test_what_is_no_compaction_is_told_to_nobody(pieces: Any) -> None:
    async with bench(compaction=True) as subject:
        subject.server.queue.append(Answer(pieces=pieces))
        failed = await fails(subject, compacting())
        assert (failed.again, failed.error.kind) == ("next", ErrorKind.UPSTREAM_PROTOCOL)
        assert subject.rests_s() == 0


def compact_turn(**body: Any) -> Turn:
    return msgspec.structs.replace(responses(HISTORY, **body), operation="compact")


async def test_the_endpoint_for_compaction_is_asked_without_a_stream() -> None:
    async with bench(compaction=True) as subject:
        (frame,) = await subject.frames(compact_turn(instructions="x", stream=True))
        request = subject.server.requests[-1]
        assert request.path == "/v1/responses/compact"
        assert request.headers["accept"] == "application/json"
        assert frame.whole
        assert b'"object":"response.compaction"' in (frame.raw or b"")


async def test_rp_97_an_upstream_without_the_endpoint_rests_nobody() -> None:
    """RP-97. Given a 404 of the upstream: returned, and the credential stays available."""
    async with bench(CodexServer(compaction=False), compaction=True) as subject:
        failed = await fails(subject, compact_turn())
        assert (failed.again, failed.error.code) == ("no", COMPACTION_UNSUPPORTED)
        assert subject.rests_s() == 0
