"""Attempts on a strict Gemini upstream over a real socket: addresses, credentials, replay, failures."""

import asyncio
from typing import Any

import pytest

from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import CasUnsupported, ErrorKind, StoreUnavailable
from gateway.kernel.json import loads
from gateway.store.kv_memory import MemoryKV
from gateway.turn.events import TurnFailed
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.items import Message, TextPart, ToolCall, ToolResult
from gateway.turn.ports import AttemptFailed
from gateway.turn.request import RawRequest, Turn
from gateway.turn.tools import ToolSpec
from tests.fakes.antigravity_brain import NO_CAPACITY, OVERLOADED, Reply, error, limited, text
from tests.fakes.antigravity_history import CORRUPTED
from tests.fakes.antigravity_server import MODELS, AntigravityServer
from tests.support.antigravity import Bench, bench, call_of, config_for, gemini_turn
from tests.support.signature_chains import user

PRO = MODELS[0]
NATIVE: Any = {"contents": [user("say hi there")]}
LOOK = ToolSpec(name="look", description="Looks", parameters={"type": "object", "properties": {"step": {}}})


def chat(*items: Any, session: str = "s-1", **fields: Any) -> Turn:
    """A turn of a client of another dialect, in a session of that name."""
    native = gemini_turn({})
    told: dict[str, Any] = {
        "id": native.id,
        "tenant": "t1",
        "created_at_ms": native.created_at_ms,
        "model": "asked",
        "items": items,
        "raw": RawRequest(dialect="chat", body={"prompt_cache_key": session}),
        "tools": (LOOK,),
        "stream": True,
    }
    return Turn(**told | fields)


def said(words: str) -> Message:
    return Message(role="user", parts=(TextPart(words),))


async def frames(on: Bench, turn: Turn, **fields: Any) -> list[Frame]:
    call = call_of(turn, on.clock, **fields)
    return [frame async for burst in on.executor.attempt(call) for frame in burst]


async def asks(on: Bench, turn: Turn, **fields: Any) -> TurnResult:
    return fold(await frames(on, turn, **fields))


async def fails(on: Bench, turn: Turn, **fields: Any) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as caught:
        await frames(on, turn, **fields)
    return caught.value


async def steps(on: Bench, count: int, **fields: Any) -> list[Any]:
    """A turn of so many tool calls, the client giving back what it saw of each; what it sent last."""
    items: list[Any] = [said(f"steps look {count}")]
    for _ in range(count + 1):
        result = await asks(on, chat(*items, **fields))
        if not result.tool_calls:
            assert result.text == f"done {count}"
            break
        for seen in result.tool_calls:
            bare = ToolCall(call_id=seen.call_id, name=seen.name, arguments=seen.arguments)
            items += [bare, ToolResult(call_id=seen.call_id, parts=(TextPart("ok"),))]
    return items


# -- what goes out ----------------------------------------------------------------------------------------


async def test_a_plain_request() -> None:
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        result = await asks(on, chat(said("say hi there")))
        assert (result.text, result.finish, result.model) == ("hi there", "stop", "asked")
    (asked,) = server.requests
    assert (asked.path, asked.query) == (f"/v1beta/models/{PRO}:streamGenerateContent", {"alt": ["sse"]})
    assert asked.headers["x-goog-api-key"] == "good-key"
    assert "authorization" not in asked.headers
    assert asked.headers["user-agent"].startswith("lingma-gateway/")
    assert asked.headers["accept"] == "text/event-stream"


async def test_a_whole_answer_is_asked_for_as_such() -> None:
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        (frame,) = await frames(on, gemini_turn(NATIVE, stream=False))
        assert (frame.whole, frame.dialect) == (True, "gemini")
        answer: Any = loads(frame.raw or b"")
        assert answer["candidates"][0]["content"]["parts"][0]["text"] == "hi there"
    (asked,) = server.requests
    assert (asked.path, asked.query) == (f"/v1beta/models/{PRO}:generateContent", {})


async def test_a_request_in_code_assists_envelope() -> None:
    server = AntigravityServer(envelope=True)
    async with server.running(), bench(config_for(server)) as on:
        assert (await asks(on, chat(said("say hi")))).text == "hi"
        got = await frames(on, gemini_turn(NATIVE))
        assert fold(got).text == "hi there"
        assert all(b"traceId" not in (frame.raw or b"") for frame in got)
    chat_asked, asked = server.requests
    assert asked.path == "/v1internal:streamGenerateContent"
    assert asked.headers["authorization"] == "Bearer good-key"
    assert "x-goog-api-key" not in asked.headers
    assert asked.body["project"] == "project-1"
    assert chat_asked.request["sessionId"] != asked.request["sessionId"]


async def test_models_that_only_stream_well_are_streamed_and_put_together() -> None:
    server = AntigravityServer(envelope=True)
    async with server.running(), bench(config_for(server)) as on:
        *_, last = await frames(on, gemini_turn(NATIVE, stream=False))
        assert last.whole
        answer: Any = loads(last.raw or b"")
        assert answer["candidates"][0]["content"]["parts"][0]["text"] == "hi there"
        assert answer["candidates"][0]["finishReason"] == "STOP"
        await frames(on, gemini_turn(NATIVE, stream=False), model="gemini-3-flash")
    streamed, whole = server.requests
    assert streamed.path.endswith(":streamGenerateContent")
    assert whole.path.endswith(":generateContent")


async def test_an_unedited_body_goes_out_byte_for_byte() -> None:
    body: Any = {"contents": [user("say hi")], "generationConfig": {"topK": 3, "temperature": 1.0}}
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        await frames(on, gemini_turn(body))
    assert server.requests[0].raw == (
        b'{"contents":[{"role":"user","parts":[{"text":"say hi"}]}],'
        b'"generationConfig":{"topK":3,"temperature":1.0}}'
    )


async def test_an_upstream_that_ignores_the_form_of_streams() -> None:
    server = AntigravityServer()
    server.ignores_alt = True
    async with server.running(), bench(config_for(server)) as on:
        assert (await asks(on, chat(said("say hi there")))).text == "hi there"


async def test_what_is_lost_depends_on_the_model() -> None:
    server = AntigravityServer(envelope=True)
    async with server.running(), bench(config_for(server)) as on:
        turn = chat(said("a"), parallel_tool_calls=False)
        assert [str(loss) for loss in on.executor.losses(turn, PRO)] == ["parallel_tool_calls:unsupported"]


# -- signatures of several steps --------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("envelope", [True, False])
async def test_signatures_come_back_with_every_step(envelope: bool, ids: bool) -> None:
    """The client knows of none, the upstream takes no word for one."""
    server = AntigravityServer(envelope=envelope, ids=ids, sentinel=False, alternate=True)
    async with server.running(), bench(config_for(server)) as on:
        await steps(on, 3)
    assert server.refusals == []
    assert len(server.requests) == 4


async def test_a_credential_makes_no_difference_to_what_is_remembered() -> None:
    server = AntigravityServer(keys=("one", "two"), sentinel=False)
    credentials = [{"id": name, "api_key": name} for name in ("one", "two")]
    async with server.running(), bench(config_for(server, credentials=credentials)) as on:
        items: list[Any] = [said("steps look 1")]
        result = await asks(on, chat(*items), account="one")
        (seen,) = result.tool_calls
        items += [seen, ToolResult(call_id=seen.call_id, parts=(TextPart("ok"),))]
        assert (await asks(on, chat(*items), account="two")).text == "done 1"
    assert [asked.key for asked in server.requests] == ["one", "two"]


async def test_tenants_do_not_share_what_is_remembered() -> None:
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        items: list[Any] = [said("steps look 1")]
        (seen,) = (await asks(on, chat(*items))).tool_calls
        items += [
            ToolCall(call_id=seen.call_id, name=seen.name, arguments=seen.arguments),
            ToolResult(call_id=seen.call_id, parts=(TextPart("ok"),)),
        ]
        await asks(on, chat(*items, tenant="t2"))
        await asks(on, chat(*items))
    theirs, ours = (
        asked.request["contents"][1]["parts"][0]["thoughtSignature"] for asked in server.requests[1:]
    )
    assert theirs == "skip_thought_signature_validator"
    assert ours != theirs


async def test_without_replay_the_word_for_a_missing_signature_goes_out() -> None:
    server = AntigravityServer()
    async with server.running(), bench(config_for(server), replay=False) as on:
        await steps(on, 2)
    assert server.refusals == []
    part = server.requests[-1].request["contents"][1]["parts"][0]
    assert part["thoughtSignature"] == "skip_thought_signature_validator"
    assert part["functionCall"]["id"] == "fc-1", "clients are given the upstream's ids then"


async def test_rp_69_an_answer_that_is_cut_leaves_nothing() -> None:
    """Given an answer of a signed text without a finish reason: expect nothing committed, the entry as it
    was; with one but neither signatures nor calls: expect the entry buried.
    """
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        await steps(on, 1)
        key = next(iter(_entries(on)))
        kept = _entries(on)[key]
        server.queue = [Reply((({"text": "hello", "sign": True},),), finish=None)]
        await asks(on, chat(said("steps look 1")))
        assert _entries(on)[key] == kept
        server.queue = [Reply(text("plain words"))]
        await asks(on, chat(said("steps look 1")))
        assert _entries(on)[key] != kept
        assert b"deleted" in _decoded(_entries(on)[key])


def _entries(on: Bench) -> dict[bytes, bytes]:
    kv: Any = on.kv
    return {key: entry.value for key, entry in kv._entries.items() if b"replay" in key}


def _decoded(value: bytes) -> bytes:
    import base64

    items: Any = loads(value)
    return b"".join(base64.b64decode(item) for item in items)


async def test_rp_82_a_refused_signature_ends_the_chain() -> None:
    """Given 400 `Corrupted thought signature.`: expect the entry buried and the 400 told; given 500 with the
    same text: expect the entry kept. Before it is told, the request is made once more without signatures.
    """
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        items = await steps(on, 1)
        key = next(iter(_entries(on)))
        kept = _entries(on)[key]
        server.queue = [error(500, "INTERNAL", CORRUPTED)]
        failed = await fails(on, chat(*items))
        assert (failed.again, _entries(on)[key]) == ("next", kept)
        server.queue = [error(400, "INVALID_ARGUMENT", CORRUPTED)] * 2
        failed = await fails(on, chat(*items))
        assert (failed.again, failed.error.kind) == ("fresh", ErrorKind.INVALID_REQUEST)
        assert b"deleted" in _decoded(_entries(on)[key])
        failed = await fails(on, chat(*items), fresh=True)
        assert (failed.again, str(failed.error)) == ("no", CORRUPTED)


async def test_signatures_of_another_time_are_left_out_once() -> None:
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        items = await steps(on, 1)
        server.signatures.forget()
        failed = await fails(on, chat(*items))
        assert (failed.again, on.rests_s()) == ("fresh", 0)
        assert (await asks(on, chat(*items), fresh=True)).text == "done 1"
        items.append(said("steps look 1"))
        (seen,) = (await asks(on, chat(*items))).tool_calls
        assert seen.call_id, "and a new chain begins"
    assert [message for _, message in server.refusals] == ["Invalid thought signature."]


async def test_a_geminis_client_that_brings_a_dead_signature_is_served_without() -> None:
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        body: Any = {"contents": [user("steps look 1")]}
        got = await frames(on, gemini_turn(body))
        part = next(
            part
            for frame in got
            if frame.raw
            for part in loads(frame.raw)["candidates"][0]["content"]["parts"]  # type: ignore[index,call-overload]
            if "functionCall" in part
        )
        answered = {"id": part["functionCall"]["id"], "name": "look", "response": {"output": "ok"}}
        body["contents"] += [
            {"role": "model", "parts": [part]},
            {"role": "user", "parts": [{"functionResponse": answered}]},
        ]
        server.signatures.forget()
        assert (await fails(on, gemini_turn(body))).again == "fresh"
        assert (await asks(on, gemini_turn(body), fresh=True)).text == "done 1"


async def test_a_refusal_without_any_signature_is_told_at_once() -> None:
    server = AntigravityServer()
    server.queue = [error(400, "INVALID_ARGUMENT", CORRUPTED)]
    async with server.running(), bench(config_for(server)) as on:
        assert (await fails(on, chat(said("hi")))).again == "no"


async def test_rp_81_a_history_that_cannot_be_sent_is_the_clients() -> None:
    """Given a response without any call and nothing stored: expect 400 `antigravity executor: invalid Gemini
    function call history: …`, and that the upstream is not asked.
    """
    server = AntigravityServer()
    async with server.running(), bench(config_for(server)) as on:
        failed = await fails(on, chat(said("hi"), ToolResult(call_id="x", parts=(TextPart("ok"),))))
        assert (failed.again, failed.error.kind) == ("no", ErrorKind.INVALID_REQUEST)
        assert str(failed.error).startswith(
            "antigravity executor: invalid Gemini function call history: contents[0]"
        )
        assert on.rests_s() == 0
    assert server.requests == []


@pytest.mark.parametrize(
    ("model", "signed"),
    [("gemini-3.7-flash", True), ("gpt-oss-agent", True), ("gpt-oss-120b", False)],
)
async def test_rp_88_models_that_take_part(monkeypatch: pytest.MonkeyPatch, model: str, signed: bool) -> None:
    """Given `gemini-3.7-flash` and `gpt-oss-agent`: expect replay on; `gpt-oss-120b`: off, nothing put in."""
    monkeypatch.setattr("tests.fakes.antigravity_server.MODELS", (model,))
    server = AntigravityServer()
    async with server.running(), bench(config_for(server, models=[model])) as on:
        items: list[Any] = [said("steps look 1")]
        (seen,) = (await asks(on, chat(*items), model=model)).tool_calls
        items += [seen, ToolResult(call_id=seen.call_id, parts=(TextPart("ok"),))]
        assert bool(_entries(on)) == signed
        assert (await asks(on, chat(*items), model=model)).text == "done 1"
    part = server.requests[-1].request["contents"][1]["parts"][0]
    assert ("thoughtSignature" in part) == signed
    assert part["functionCall"]["id"] == "fc-1"


# -- the store --------------------------------------------------------------------------------------------


class Broken(MemoryKV):
    """Answers some verbs with an error."""

    def __init__(self, error: Exception, *verbs: str) -> None:
        super().__init__(SystemClock())
        self.calls: list[str] = []
        for verb in verbs:

            async def refuse(*_: Any, verb: str = verb) -> Any:
                self.calls.append(verb)
                raise error

            setattr(self, verb, refuse)


async def test_rp_85_a_store_without_compare_and_swap_costs_the_replay_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Given a store that answers `ERR unknown command 'cas'`: expect the request to go on without replay, the
    credential not to rest, and at most one warning.
    """
    server = AntigravityServer()
    kv = Broken(CasUnsupported("no cas"), "kv_cas")
    async with server.running(), bench(config_for(server), kv=kv) as on:
        await steps(on, 2)
        assert on.rests_s() == 0
    assert "kv_cas" in kv.calls
    assert server.refusals == []
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) <= 1


async def test_a_store_that_is_away_costs_the_replay_alone_unless_it_is_strict() -> None:
    server = AntigravityServer()
    verbs = ("kv_get", "kv_cas", "kv_set", "kv_expire")
    kv = Broken(StoreUnavailable("away"), *verbs)
    async with server.running():
        async with bench(config_for(server), kv=kv) as on:
            await steps(on, 1)
        async with bench(config_for(server), kv=kv, strict=True) as on:
            failed = await fails(on, chat(said("hi")))
            assert (failed.again, failed.error.kind) == ("no", ErrorKind.STORE_UNAVAILABLE)
            assert on.rests_s() == 0


# -- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [limited(), limited(reason="QUOTA_EXHAUSTED"), limited(delay="60s"), NO_CAPACITY, Reply(finish=None)],
)
async def test_the_next_address_is_asked_where_the_first_has_no_room(reply: Reply) -> None:
    first, second = AntigravityServer(), AntigravityServer()
    first.queue = [reply]
    async with first.running(), second.running(), bench(config_for(first, second)) as on:
        assert (await asks(on, chat(said("say hi")))).text == "hi"
        assert on.rests_s(soft=False) == 0
    assert [len(first.requests), len(second.requests)] == [1, 1]


async def test_the_next_address_is_asked_where_nobody_answers() -> None:
    server = AntigravityServer()
    async with server.running(), bench(config_for("http://127.0.0.1:1", server)) as on:
        assert (await asks(on, chat(said("say hi")))).text == "hi"
        assert on.rests_s() == 0


@pytest.mark.parametrize(
    "reply", [error(400, "INVALID_ARGUMENT", "odd"), error(401, "UNAUTHENTICATED", "no"), OVERLOADED]
)
async def test_other_failures_are_not_tried_elsewhere(reply: Reply) -> None:
    first, second = AntigravityServer(), AntigravityServer()
    first.queue = [reply]
    async with first.running(), second.running(), bench(config_for(first, second)) as on:
        await fails(on, chat(said("say hi")))
    assert second.requests == []


async def test_the_last_address_decides() -> None:
    first, second = AntigravityServer(), AntigravityServer()
    first.queue, second.queue = [limited(delay="60s")], [limited(delay="70s")]
    async with first.running(), second.running(), bench(config_for(first, second)) as on:
        failed = await fails(on, chat(said("say hi")))
        assert (failed.again, failed.error.retry_after_s) == ("next", 70)
        assert on.rests_s(soft=False) == pytest.approx(70, abs=1)
        assert on.rests_s("gemini-3-flash") == 0, "limits are counted by model"


async def test_nothing_is_tried_elsewhere_behind_content() -> None:
    first, second = AntigravityServer(), AntigravityServer()
    first.queue = [Reply(text("one two"), finish=None, cut=True)]
    async with first.running(), second.running(), bench(config_for(first, second)) as on:
        result = await asks(on, chat(said("say hi")))
        assert (result.text, result.finish) == ("one two", None)
        assert result.error is not None
    assert second.requests == []


# -- failures ---------------------------------------------------------------------------------------------


async def test_an_error_in_a_stream_ends_the_turn() -> None:
    server = AntigravityServer()
    server.queue = [Reply(text("one two"), finish=None, error=OVERLOADED.error, pause_s=0.02)]
    async with server.running(), bench(config_for(server)) as on:
        got = await frames(on, gemini_turn(NATIVE))
        assert isinstance(got[-1].events[-1], TurnFailed)
        assert got[-1].events[-1].error.kind is ErrorKind.UPSTREAM_UNAVAILABLE
        server.queue = [Reply(error=OVERLOADED.error, chunks=(), finish=None)]
        failed = await fails(on, chat(said("hi")))
        assert failed.again == "next", "as its first word it is another attempt's chance"


async def test_a_connection_that_stays_open_behind_the_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.upstreams.attempt.LINGER_S", 0.05)
    server = AntigravityServer()
    server.queue = [Reply(text("one two"), hangs=True), Reply(text("one two"), cut=True)]
    async with server.running(), bench(config_for(server)) as on:
        for _ in range(2):
            async with asyncio.timeout(4):
                result = await asks(on, chat(said("hi")))
            assert (result.text, result.finish) == ("one two", "stop")


async def test_what_comes_behind_the_end_is_read() -> None:
    server = AntigravityServer()
    server.queue = [Reply(text("one two"), ends_late=True, pause_s=0.01)]
    async with server.running(), bench(config_for(server)) as on:
        result = await asks(on, chat(said("hi")))
        assert result.usage is not None
        assert result.usage.output_tokens == 6
        again = await asks(on, chat(said("say hi")))
        assert again.text == "hi"


async def test_closing_an_attempt_closes_its_connection() -> None:
    server = AntigravityServer()
    server.queue = [Reply(text("one two three"), hangs=True, finish=None)]
    async with server.running(), bench(config_for(server)) as on:
        bursts = on.executor.attempt(call_of(chat(said("hi")), on.clock))
        async for burst in bursts:
            assert burst
            break
        await bursts.aclose()
        async with asyncio.timeout(2):
            while not server.left_early:
                await asyncio.sleep(0.005)


async def test_a_credential_without_a_key_moves_on() -> None:
    server = AntigravityServer()
    keyless = [{"id": "main", "api_key_env": "NOWHERE"}]
    async with server.running(), bench(config_for(server, credentials=keyless)) as on:
        failed = await fails(on, chat(said("hi")))
        assert (failed.again, failed.error.kind) == ("next", ErrorKind.UPSTREAM_UNAVAILABLE)
    assert server.requests == []
