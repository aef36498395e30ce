"""One attempt's request, without a network; the answers are test_executor.py's."""

from functools import partial
from typing import Any

import msgspec
import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import UpstreamUnavailable
from gateway.kernel.json import loads
from gateway.replay.scope import Isolation
from gateway.turn.ports import Call
from gateway.turn.request import Turn
from gateway.upstreams.codex.lane import CodexLane, LaneParts
from gateway.upstreams.http import UpstreamRequest
from gateway.upstreams.pool import credentials_of
from tests.fakes.codex_server import REASONING_MODEL
from tests.support.codex import chat, config_of, gemini, messages, responses

HI: Any = {"role": "user", "content": "hi"}


def parts(**config: Any) -> LaneParts:
    described = config_of("http://up", **config)
    return LaneParts(
        config=described,
        credentials=credentials_of(described, {}),
        clock=FakeClock(),
        replay=None,
        isolation="tenant",
        all_clients=True,
    )


async def request(
    turn: Turn,
    *,
    model: str = REASONING_MODEL,
    left_ms: int = 9000,
    isolation: Isolation = "tenant",
    **config: Any,
) -> UpstreamRequest:
    shared = msgspec.structs.replace(parts(**config), isolation=isolation)
    until_ms = shared.clock.now_ms() + left_ms
    call = Call(turn=turn, model=model, account="one", attempt=1, deadline_ms=until_ms, queue_until=0)
    return await CodexLane(shared, call).request()


def body(made: UpstreamRequest) -> Any:
    return loads(made.body)


async def test_a_streamed_request() -> None:
    made = await request(chat(HI, stream=True), proxy="http://proxy:1")
    assert (made.upstream, made.url, made.proxy) == ("openai", "http://up/v1/responses", "http://proxy:1")
    assert made.headers["Accept"] == "text/event-stream"
    assert made.headers["Content-Type"] == "application/json"
    assert made.headers["Authorization"] == "Bearer sk-one"
    assert made.total_s == pytest.approx(9)
    assert (made.limits.connect_s, made.limits.first_byte_s, made.limits.idle_s) == (2, 5, 5)
    assert body(made)["stream"] is True


async def test_an_answer_that_is_not_streamed_may_take_all_the_time() -> None:
    made = await request(chat(HI))
    assert made.headers["Accept"] == "application/json"
    assert made.limits.first_byte_s == made.total_s
    assert body(made)["stream"] is False
    assert body(await request(chat(HI), stream_only=True))["stream"] is True
    assert (await request(chat(HI), left_ms=-5)).total_s == 0


async def test_only_what_names_the_conversation_goes_on() -> None:
    own = {"user-agent": "codex_exec/1", "session_id": "s", "cookie": "c", "x-codex-window-id": "s:0"}
    made = await request(responses("hi", headers=own))
    assert made.headers.keys() == {
        "Content-Type",
        "Accept",
        "Authorization",
        "session_id",
        "x-codex-window-id",
    }


@pytest.mark.parametrize("odd", ["a\nb", "a\x01", "é", "x" * 9000])
async def test_what_no_header_may_hold_stays_out_of_headers(odd: str) -> None:
    made = await request(chat(HI, prompt_cache_key=odd), isolation="shared")
    assert body(made)["prompt_cache_key"] == odd.strip()
    assert "Session-Id" not in made.headers
    made = await request(responses("hi", headers={"session_id": odd, "x-codex-window-id": "w"}))
    assert made.headers.keys() & {"session_id", "x-codex-window-id"} == {"x-codex-window-id"}


async def test_headers_of_the_credential_are_added() -> None:
    credentials = [
        {"id": "one", "api_key": "k", "headers": {"OpenAI-Organization": "org"}, "auth": "api_key"}
    ]
    made = await request(chat(HI), credentials=credentials)
    assert made.headers["OpenAI-Organization"] == "org"
    assert "Authorization" not in made.headers
    with pytest.raises(UpstreamUnavailable):
        await request(chat(HI), credentials=[{"id": "one", "api_key_env": "UNSET"}])


async def test_conversations_have_a_key_for_cached_prompts() -> None:
    """Their own where they have one, else one that stays the same from turn to turn."""
    first = await request(chat(HI))
    later = await request(chat(HI, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}))
    assert body(first)["prompt_cache_key"] == body(later)["prompt_cache_key"] == first.headers["Session-Id"]
    other = await request(chat({"role": "user", "content": "other"}))
    assert body(other)["prompt_cache_key"] != body(first)["prompt_cache_key"]
    own = chat(HI, prompt_cache_key="own")
    assert body(await request(own, isolation="shared"))["prompt_cache_key"] == "own"
    assert "prompt_cache_key" in body(await request(gemini({"role": "user", "parts": [{"text": "hi"}]})))
    assert "prompt_cache_key" not in body(await request(responses("hi")))
    refused = await request(chat(HI), drop=["prompt_cache_key"])
    assert "prompt_cache_key" not in body(refused)
    assert "Session-Id" not in refused.headers


async def test_rp_35_the_key_of_claude_codes_session() -> None:
    """RP-35. Given model `gpt-5.4-nova` and the session of vector 2, expect
    `772c47f5-21fb-599b-b69c-d45dc037ac4f`.
    """
    made = await request(messages(HI), model="gpt-5.4-nova", isolation="shared")
    assert body(made)["prompt_cache_key"] == "772c47f5-21fb-599b-b69c-d45dc037ac4f"


UUID = "0f3c0000-0000-4abc-8def-1234567890ab"


@pytest.mark.parametrize(
    "make",
    [
        partial(chat, HI, prompt_cache_key=" own "),
        partial(chat, HI, headers={"session_id": UUID}),
        partial(chat, HI),
        partial(messages, HI),
        partial(gemini, {"role": "user", "parts": [{"text": "hi"}]}),
        partial(responses, "hi", prompt_cache_key="own"),
    ],
    ids=["chat", "a session", "derived", "claude", "gemini", "responses"],
)
async def test_equal_keys_for_cached_prompts_are_others_for_another_tenant(make: Any) -> None:
    alices, again, bobs = [
        body(await request(msgspec.structs.replace(make(), tenant=tenant)))["prompt_cache_key"]
        for tenant in ("alice", "alice", "bob")
    ]
    assert alices == again != bobs
    assert "own" not in alices
    assert alices != UUID


async def test_headers_that_find_cached_prompts_go_with_the_key() -> None:
    ids = {"session_id": "s-1", "conversation_id": "s-1", "thread-id": "s-1"}
    turn = responses("hi", prompt_cache_key="s-1", headers=ids)
    made = await request(turn)
    key = body(made)["prompt_cache_key"]
    assert key != "s-1"
    assert {name: made.headers[name] for name in ids} == {**dict.fromkeys(ids, key), "thread-id": "s-1"}
    shared = await request(turn, isolation="shared")
    assert {name: shared.headers[name] for name in ids} == ids
    assert body(shared) == turn.raw.body


@pytest.mark.parametrize("odd", [None, 7, "", " "])
async def test_what_is_no_key_stays_as_it_is(odd: Any) -> None:
    turn = responses("hi", headers={"session_id": " "})
    turn.raw.body["prompt_cache_key"] = odd
    made = await request(turn)
    assert body(made)["prompt_cache_key"] == odd


async def test_a_body_that_needs_no_edit_goes_out_unchanged() -> None:
    turn = responses("hi", stream=True, temperature=None, future={"x": [1.0]})
    assert body(await request(turn)) == turn.raw.body


async def test_a_compaction_goes_to_its_own_endpoint() -> None:
    turn = msgspec.structs.replace(responses("hi", instructions="i"), operation="compact")
    made = await request(turn, compaction=True)
    assert made.url == "http://up/v1/responses/compact"
    assert made.headers["Accept"] == "application/json"
    assert body(made) == {"model": REASONING_MODEL, "input": "hi", "instructions": "i"}
