"""Turns on Gemini models that share a conversation, on every store, with other replicas at the same time."""

import asyncio
from collections.abc import Sequence

from gateway.kernel.json import JsonObject
from gateway.replay.antigravity import AntigravityReplay
from gateway.replay.antigravity_items import Item
from gateway.replay.scope import ReplayScope
from gateway.store.kv import KVClient
from gateway.upstreams.antigravity.history import claude_call_id
from gateway.upstreams.antigravity.replay import ReplayAttempt, begin
from tests.contract.stores import OpenKV
from tests.support.signature_chains import (
    carrier,
    chunk,
    committed,
    contents,
    fc,
    fr,
    gemini_signature,
    items_at,
    model,
    request,
    text,
    user,
)

SCOPE = ReplayScope("antigravity", "gemini-3.7-flash", "session:4242")


async def items_of(kv: KVClient) -> Sequence[Item]:
    return await items_at(kv, SCOPE)


async def begun(kv: KVClient, *history: JsonObject) -> ReplayAttempt:
    return await begin(AntigravityReplay(kv, strict=True), SCOPE, request(*history))


async def test_a_conversation_goes_on_whichever_replica_serves_it(open_kv: OpenKV) -> None:
    """A client of Claude's: no signatures, calls by other ids, responses in the name of the user."""
    sent: list[JsonObject] = [user("go")]
    truth: list[JsonObject] = [user("go")]
    for number in range(6):
        attempt = await begun(open_kv(), *sent)
        assert contents(attempt.payload) == truth
        first, second = (gemini_signature(f"{number}{name}") for name in "ab")
        attempt.observe(chunk(text("let me "), text("see"), carrier(first)))
        attempt.observe(chunk(fc(f"fc-{number}", {"n": number}, second), finish="STOP"))
        assert await committed(attempt) == "stored"
        claude_id = claude_call_id(f"fc-{number}", "read", {"n": number})
        sent += [model("let me see", fc(claude_id, {"n": number})), user(fr(claude_id))]
        called = model(text("let me see", first), fc(f"fc-{number}", {"n": number}, second))
        truth += [called, model(fr(f"fc-{number}"))]
    assert len(await items_of(open_kv())) == 12


async def test_rp_83_fifty_turns_on_one_history_at_the_same_time(open_kv: OpenKV) -> None:
    """Given fifty requests that read the same chain and answer at once, expect one answer stored, whole, and
    the others refused; a turn that goes on from the stored one is stored in turn.
    """

    async def turn(number: int) -> tuple[str, object]:
        attempt = await begun(open_kv(), user("go"))
        signature = gemini_signature(str(number))
        for said in ("a", "b"):
            attempt.observe(chunk(text(said)))
            await asyncio.sleep(0)
        attempt.observe(chunk(carrier(signature), finish="STOP"))
        barrier.append(number)
        while len(barrier) < 50:
            await asyncio.sleep(0)
        return signature, await committed(attempt)

    barrier: list[int] = []
    async with asyncio.timeout(60):
        ended = await asyncio.gather(*map(turn, range(50)))
    stored_signatures = [signature for signature, outcome in ended if outcome == "stored"]
    assert [outcome for _, outcome in ended].count("kept") == 49
    assert [item.signature for item in await items_of(open_kv())] == stored_signatures
    attempt = await begun(open_kv(), user("go"), model("ab"), user("more"))
    assert contents(attempt.payload)[1] == model(text("ab", stored_signatures[0]))
    attempt.observe(chunk(text("c", gemini_signature("next")), finish="STOP"))
    assert await committed(attempt) == "stored"
    assert len(await items_of(open_kv())) == 2


async def test_a_turn_that_was_under_way_when_its_chain_was_refused_does_not_bring_it_back(
    open_kv: OpenKV,
) -> None:
    first = await begun(open_kv(), user("go"))
    first.observe(chunk(text("a", gemini_signature("bad")), finish="STOP"))
    assert await committed(first) == "stored"
    history = [user("go"), model("a"), user("more")]
    slow, refused = await begun(open_kv(), *history), await begun(open_kv(), *history)
    assert slow.replayed
    assert await refused.give_up()
    slow.observe(chunk(text("b", gemini_signature("good")), finish="STOP"))
    assert await committed(slow) == "kept"
    assert await items_of(open_kv()) == ()
    again = await begun(open_kv(), *history)
    assert not again.replayed
    again.observe(chunk(text("b", gemini_signature("good")), finish="STOP"))
    assert await committed(again) == "stored"
