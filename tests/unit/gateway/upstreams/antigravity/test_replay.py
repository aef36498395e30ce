import logging

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import CasUnsupported, InvalidRequest, StoreUnavailable
from gateway.kernel.json import JsonObject
from gateway.replay.antigravity import AntigravityReplay
from gateway.replay.antigravity_items import SENTINEL, chain_of
from gateway.replay.scope import ReplayScope
from gateway.store.kv import Value
from gateway.store.kv_memory import MemoryKV
from gateway.upstreams.antigravity.history import claude_call_id
from gateway.upstreams.antigravity.replay import begin
from tests.support.signature_chains import (
    G1,
    G2,
    carrier,
    chunk,
    committed,
    contents,
    fc,
    fr,
    model,
    request,
    text,
    user,
)

SCOPE = ReplayScope("antigravity", "gemini-3.7-flash", "session:4242")
GO = request(user("go"))
RESERVED = claude_call_id("fc-1", "read", {"p": 1})


@pytest.fixture
def kv() -> MemoryKV:
    return MemoryKV(FakeClock())


@pytest.fixture
def store(kv: MemoryKV) -> AntigravityReplay:
    return AntigravityReplay(kv, strict=True)


async def answered(store: AntigravityReplay, payload: JsonObject, *parts: JsonObject) -> JsonObject:
    """What was sent, after an answer of these parts was committed."""
    attempt = await begin(store, SCOPE, payload)
    attempt.observe(chunk(*parts, finish="STOP"))
    assert await committed(attempt) == "stored"
    return attempt.payload


async def signatures(store: AntigravityReplay) -> list[str]:
    return [item.signature for item in (await store.read(SCOPE)).items]


async def is_buried(kv: MemoryKV) -> bool:
    chain = chain_of(await kv.kv_get(SCOPE.key) or b"")
    return chain is not None and chain.deleted


async def test_what_one_turn_leaves_the_next_one_sends(store: AntigravityReplay) -> None:
    await answered(store, GO, fc("fc-1", signature=G1))
    second = request(user("go"), model(fc(RESERVED)), user(fr(RESERVED)))
    sent = await answered(store, second, text("Do"), text("ne"), carrier(G2))
    assert contents(sent) == [user("go"), model(fc("fc-1", signature=G1)), model(fr("fc-1"))]
    third = await begin(store, SCOPE, request(*contents(second), model("Done"), user("more")))
    assert third.replayed
    assert contents(third.payload) == [*contents(sent), model(text("Done", G2)), user("more")]
    assert await signatures(store) == [G1, G2]


async def test_rp_69_an_answer_without_an_end_leaves_the_entry_as_it_was(
    store: AntigravityReplay, kv: MemoryKV
) -> None:
    """Given an answer without finishReason, expect nothing committed; given one with an end but without
    signatures and calls, expect the entry tombstoned.
    """
    await answered(store, GO, text("a", G1))
    before = await kv.kv_get(SCOPE.key)
    cut = await begin(store, SCOPE, GO)
    cut.observe(chunk(text("b", G2)))
    assert await committed(cut) is None
    assert await kv.kv_get(SCOPE.key) == before
    plain = await begin(store, SCOPE, GO)
    plain.observe(chunk(text("b"), finish="STOP"))
    assert await committed(plain) == "cleared"
    assert await is_buried(kv)


async def test_an_answer_that_signs_nothing_writes_nothing_where_there_is_no_chain(
    store: AntigravityReplay, kv: MemoryKV
) -> None:
    for _ in range(2):  # the first of a session, and one more
        attempt = await begin(store, SCOPE, GO)
        before = await kv.kv_get(SCOPE.key)
        attempt.observe(chunk(text("a"), finish="STOP"))
        assert await committed(attempt) is None
        assert await is_buried(kv)
        assert await kv.kv_get(SCOPE.key) == before


async def test_rp_81_a_history_that_cannot_be_sent_keeps_the_entry(
    store: AntigravityReplay, kv: MemoryKV
) -> None:
    """Given a response without any call, and nothing for it in the cache, expect the 400 with the text
    `antigravity executor: invalid Gemini function call history: …`, and the entry kept.
    """
    await answered(store, GO, text("a", G1))
    with pytest.raises(
        InvalidRequest, match=r"^antigravity executor: invalid Gemini function call history: "
    ):
        await begin(store, SCOPE, request(user("go"), user(fr("x"))))
    assert await signatures(store) == [G1]


async def test_rp_82_a_refused_signature_ends_the_chain(
    store: AntigravityReplay, kv: MemoryKV, caplog: pytest.LogCaptureFixture
) -> None:
    """Given a 400 `Corrupted thought signature.`, expect a swap to a tombstone (the error goes to the client
    as it is). Which errors are such refusals is test_errors.py's.
    """
    caplog.set_level(logging.INFO)
    await answered(store, GO, text("a", G1))
    attempt = await begin(store, SCOPE, request(user("go"), model("a"), user("b")))
    assert await attempt.give_up()
    assert await is_buried(kv)
    again = await begin(store, SCOPE, request(user("go"), model("a"), user("b")))
    assert not again.replayed
    assert [vars(r)["reason"] for r in caplog.records if r.message == "replay.purged"] == ["refused"]


async def test_what_was_refused_is_not_put_back_though_it_could_not_be_given_up(
    store: AntigravityReplay, kv: MemoryKV
) -> None:
    """Another turn has gone on from the chain meanwhile, so it stays; the next attempt leaves it out."""
    await answered(store, GO, text("a", G1))
    history = request(user("go"), model("a"), user("b"))
    attempt = await begin(store, SCOPE, history)
    await answered(store, history, text("c", G2))
    assert not await attempt.give_up()
    fresh = await begin(store, SCOPE, history, fresh=True)
    assert (fresh.payload, fresh.replayed) == (history, False)
    assert await signatures(store) == [G1, G2]


async def test_a_store_that_cannot_compare_buries_what_was_refused(kv: MemoryKV) -> None:
    class Plain(MemoryKV):
        able = True

        async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
            if self.able:
                return await super().kv_cas(key, expected, value, ttl_s)
            raise CasUnsupported("as the test wants")

    plain = Plain(FakeClock())
    store = AntigravityReplay(plain)
    await answered(store, GO, text("a", G1))
    plain.able = False
    attempt = await begin(store, SCOPE, request(user("go"), model("a"), user("b")))
    assert attempt.replayed
    assert await attempt.give_up()
    assert await is_buried(plain)


async def test_a_refusal_does_not_end_a_newer_chain(store: AntigravityReplay) -> None:
    attempt = await begin(store, SCOPE, GO)
    await answered(store, GO, text("a", G1))
    assert not await attempt.give_up()
    assert await signatures(store) == [G1]


async def test_a_chain_that_breaks_a_sound_history_is_given_up_and_the_turn_goes_on(
    store: AntigravityReplay, kv: MemoryKV, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await answered(store, GO, fc("fc-1", signature=G1))
    other: JsonObject = {"functionCall": {"name": "read", "args": {"p": 2}}, "thoughtSignature": SENTINEL}
    attempt = await begin(store, SCOPE, request(user("go"), model(other), user(fr("fc-1"))))
    assert contents(attempt.payload) == [user("go"), model(other), model(fr("fc-1"))]
    assert not attempt.replayed
    assert await is_buried(kv)
    assert [vars(r)["reason"] for r in caplog.records if r.message == "replay.purged"] == ["broken"]
    attempt.observe(chunk(text("a", G2), finish="STOP"))
    assert await committed(attempt) == "stored"
    assert await signatures(store) == ["", G2]


async def test_a_miss_and_ids_that_degrade_are_told_apart(
    store: AntigravityReplay, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sent = request(user("go"), model(fc(RESERVED)), user(fr(RESERVED)))
    await begin(store, SCOPE, sent)
    await answered(store, GO, fc("fc-2", signature=G1))
    await begin(store, SCOPE, sent)
    told = [(r.message, vars(r)["ids"]) for r in caplog.records if "ids" in vars(r)]
    assert told == [("replay.ledger_missed", 2), ("replay.ids_degraded", 2), ("replay.ids_degraded", 2)]
    assert RESERVED not in caplog.text
    assert {vars(r)["scope"] for r in caplog.records if "ids" in vars(r)} == {SCOPE.digest}


async def test_without_a_scope_a_request_is_prepared_and_nothing_kept(
    store: AntigravityReplay, kv: MemoryKV
) -> None:
    attempt = await begin(store, None, request(user("go"), model(fc(RESERVED)), user(fr(RESERVED))))
    assert contents(attempt.payload)[1]["parts"][0]["thoughtSignature"] == SENTINEL  # type: ignore[index,call-overload]
    attempt.observe(chunk(text("a", G1), finish="STOP"))
    assert await committed(attempt) is None
    assert not await attempt.give_up()
    assert len(kv) == 0


async def test_options_reach_the_preparation(store: AntigravityReplay) -> None:
    await answered(store, GO, fc("fc-1", signature=G1))
    sent = request(user("go"), model(fc(RESERVED, {"p": 1, "limit": 10})), model(fr(RESERVED)))
    schemas: dict[str, JsonObject] = {"read": {"properties": {"limit": {"default": 10}}}}
    attempt = await begin(store, SCOPE, sent, schemas=schemas, response_role="user")
    assert contents(attempt.payload)[1:] == [model(fc("fc-1", signature=G1)), user(fr("fc-1"))]


async def test_rp_85_a_store_that_fails_costs_replay_and_not_the_request() -> None:
    """Given a store that cannot compare and swap, or is down, expect the request to go on without replay."""

    class Failing(MemoryKV):
        error: type[StoreUnavailable] | type[CasUnsupported] = StoreUnavailable

        async def kv_cas(self, key: bytes, expected: bytes | None, value: Value, ttl_s: float) -> bool:
            raise self.error("as the test wants")

    for error in (StoreUnavailable, CasUnsupported):
        kv = Failing(FakeClock())
        kv.error = error
        attempt = await begin(AntigravityReplay(kv), SCOPE, GO)
        assert attempt.payload == GO
        attempt.observe(chunk(text("a", G1), finish="STOP"))
        assert await committed(attempt) == "failed"
        assert await attempt.give_up() is False, "nothing is there to be given up"
        with pytest.raises(error):
            await begin(AntigravityReplay(kv, strict=True), SCOPE, GO)
