from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity_items import SENTINEL, Item
from gateway.upstreams.antigravity.history import claude_call_id, degraded_call_id
from gateway.upstreams.antigravity.ledger import Ledger
from gateway.upstreams.antigravity.replay_prepare import (
    Prepared,
    prepared,
    reserved_ids,
)
from tests.support.signature_chains import (
    G1,
    Unchanged,
    chunk,
    contents,
    fc,
    fr,
    gemini_signature,
    model,
    request,
    text,
    user,
)

RESERVED = claude_call_id("fc-1", "read", {"p": 1})
DEGRADED = degraded_call_id(RESERVED)


def chain(*history: Json) -> tuple[Item, ...]:
    ledger = Ledger(request(*history))
    ledger.observe(chunk(finish="STOP"))
    return tuple(ledger.chain() or ())


def ready(items: tuple[Item, ...], *history: Json, **options: Any) -> Prepared:
    """Prepared twice like once, and nobody's payload changed."""
    payload = request(*history)
    with Unchanged(payload):
        done = prepared(payload, items, **options)
    assert prepared(done.payload, items, **options).payload == done.payload
    return done


CALLED = chain(user("go"), model(fc("fc-1", signature=G1)))


def test_rp_77_a_call_that_the_client_changed_goes_out_with_the_sentinel() -> None:
    """Given a cached call fc-1 with `{"p":1}` and a client that replays fc-1 with `{"p":2}`, expect no
    signature, no restore, and the sentinel on the first call.
    """
    done = ready(CALLED, user("go"), model(fc("fc-1", {"p": 2})), user(fr("fc-1")))
    assert contents(done.payload)[1] == model(fc("fc-1", {"p": 2}, SENTINEL))
    assert not done.replayed


def test_rp_78_a_call_that_was_left_out_is_put_in_front_of_its_response() -> None:
    """Given a functionResponse fc-1 without its call, expect a model's content with the call and G1 right
    before the response.
    """
    done = ready(CALLED, user("go"), user(fr("fc-1")))
    assert contents(done.payload) == [user("go"), model(fc("fc-1", signature=G1)), model(fr("fc-1"))]
    assert done.replayed


def test_rp_79_a_first_call_that_is_unsigned_after_replay_gets_the_sentinel() -> None:
    """Given a model's turn whose calls are all unsigned, expect `skip_thought_signature_validator` on the
    first, and nothing on its siblings.
    """
    done = ready((), user("go"), model("so", fc("x"), fc("y")), user(fr("x"), fr("y")))
    assert contents(done.payload)[1] == model("so", fc("x", signature=SENTINEL), fc("y"))
    restored = ready(
        chain(user("go"), model(fc("fc-1"))),
        user("go"),
        model(fc(RESERVED, signature=G1)),
        user(fr(RESERVED)),
    )
    assert contents(restored.payload)[1] == model(fc("fc-1", signature=SENTINEL))


def test_rp_80_responses_get_the_model_s_role_and_the_order_of_their_calls() -> None:
    """Given a functionResponse with the role user, expect the role model; given two responses in swapped
    order, expect them in the order of the calls.
    """
    done = ready((), user("go"), model(fc("x"), fc("y")), user(fr("y", name=""), fr("x")))
    assert contents(done.payload)[2] == model(fr("x"), fr("y"))
    as_user = ready((), user("go"), model(fc("x")), model(fr("x")), response_role="user")
    assert contents(as_user.payload)[2] == user(fr("x"))


def test_rp_81_a_response_without_any_call_is_refused() -> None:
    """Given a response without a call, and nothing in the cache, expect the 400."""
    with pytest.raises(InvalidRequest) as refusal:
        prepared(request(user("go"), user(fr("x"))))
    assert str(refusal.value) == (
        "antigravity executor: invalid Gemini function call history: "
        "request.contents[1]: a functionResponse without a functionCall before it"
    )
    assert refusal.value.param == "contents"


def test_rp_75_an_id_that_nothing_resolves_degrades_on_call_and_response() -> None:
    """Given cpa_gemini_… on call and response and no item, expect `call_` and the same 12 digits on both."""
    done = ready((), user("go"), model(fc(RESERVED)), user(fr(RESERVED)))
    assert contents(done.payload)[1:] == [model(fc(DEGRADED, signature=SENTINEL)), model(fr(DEGRADED))]
    assert (done.degraded, done.replayed) == (2, False)


def test_a_degraded_call_keeps_the_signature_that_the_client_gave_back() -> None:
    good = gemini_signature("a")
    done = ready((), user("go"), model(fc(RESERVED, signature=good)), user(fr(RESERVED)))
    assert contents(done.payload)[1] == model(fc(DEGRADED, signature=good))


def test_what_is_degraded_today_is_degraded_tomorrow_and_does_not_part_what_comes_after() -> None:
    """The item of the later call was made of what was sent, with the degraded id before it."""
    first = ready((), user("go"), model(fc(RESERVED)), user(fr(RESERVED)))
    truth = [*contents(first.payload), model(fc("fc-9", {"p": 9}, G1)), model(fr("fc-9"))]
    sent = [
        user("go"),
        model(fc(RESERVED)),
        user(fr(RESERVED)),
        model(fc("fc-9", {"p": 9})),
        user(fr("fc-9")),
    ]
    assert contents(ready(chain(*truth), *sent).payload) == truth


def test_roles_orders_and_names_of_clients_do_not_part_a_conversation() -> None:
    """The chain was made of what was sent; what the client sends again is put in place and then compared."""
    sent = [
        user("go"),
        model(fc("a"), fc("b")),
        user(fr("b", name=""), fr("a", name="unknown")),
        model(fc("c")),
        {"role": "function", "parts": [fr("c")]},
    ]
    first = ready((), *sent[:3])
    truth = [*contents(first.payload), model(fc("c", signature=G1)), model(fr("c"))]
    done = ready(chain(*truth), *sent)
    assert contents(done.payload) == truth


def test_a_client_s_own_signatures_stay_where_they_are_good() -> None:
    good = gemini_signature("a")
    done = ready((), user("go"), model(text("a", good), text("b", G1)))
    assert contents(done.payload)[1] == model(text("a", good), "b")


def test_a_call_that_was_left_out_mends_a_history_that_could_not_be_sent() -> None:
    items = chain(user("go"), model("so", fc("fc-1", signature=G1)))
    sent = [user("go"), model("so", fc("x")), user(fr("x"), fr("fc-1"))]
    with pytest.raises(InvalidRequest):
        prepared(request(*sent))
    mended = prepared(request(*sent), items)
    assert mended.replayed
    assert contents(mended.payload)[1] == model("so", fc("x", signature=SENTINEL), fc("fc-1", signature=G1))


def test_a_chain_that_breaks_a_sound_history_is_left_out_and_told() -> None:
    """It puts its call in front of a response that a call without an id had asked for."""
    other: JsonObject = {"functionCall": {"id": "", "name": "read", "args": {"p": 2}}}
    sent = [user("go"), model(other), user(fr("fc-1"))]
    assert prepared(request(*sent)).payload
    done = prepared(request(*sent), CALLED)
    assert (done.broken, done.replayed) == (True, False)
    assert contents(done.payload) == [
        user("go"),
        model({**other, "thoughtSignature": SENTINEL}),
        model(fr("fc-1")),
    ]


def test_what_cannot_be_sent_with_or_without_replay_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="functionResponse without a functionCall"):
        prepared(request(user("go"), user(fr("fc-1")), user("so"), user(fr("x"))), CALLED)


def test_what_is_nested_too_deep_is_refused() -> None:
    deep: Json = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="nested too deep"):
        prepared(request(user("go"), model(fc("fc-1", deep))), CALLED)


@pytest.mark.parametrize(
    "payload", [{}, {"request": {}}, {"contents": "x"}, {"request": {"contents": [None, 1]}}]
)
def test_odd_payloads_are_left_to_the_upstream(payload: JsonObject) -> None:
    assert prepared(payload, CALLED).payload == payload


def test_defaults_are_forgiven_where_schemas_are_known() -> None:
    schemas: dict[str, JsonObject] = {"read": {"properties": {"limit": {"default": 10}}}}
    sent = [user("go"), model(fc(RESERVED, {"p": 1, "limit": 10})), user(fr(RESERVED))]
    done = ready(CALLED, *sent, schemas=schemas)
    assert contents(done.payload)[1:] == [model(fc("fc-1", signature=G1)), model(fr("fc-1"))]


def test_reserved_ids_are_counted_on_calls_and_responses() -> None:
    assert reserved_ids(request(model(fc(RESERVED), fc("x")), user(fr(RESERVED), "a"))) == 2
    assert reserved_ids({}) == 0


class Looked(dict[str, Json]):
    """A content that counts how often somebody reads it."""

    times = 0

    def get(self, name: str, default: Any = None) -> Any:
        self.times += 1
        return super().get(name, default)


@pytest.mark.parametrize("sent", ["native", "claude", "left out", "without ids"])
def test_a_long_history_is_read_no_more_often_than_a_short_one(sent: str) -> None:
    def most_reads(turns: int) -> int:
        truth: list[JsonObject] = []
        history: list[JsonObject] = []
        for n in range(turns):
            own = "" if sent == "without ids" else f"fc-{n}"
            theirs = claude_call_id(own, "read", {"n": n}) if sent == "claude" else own
            asked = Looked(user(f"go {n}"))
            truth += [asked, model("so", fc(own, {"n": n}, f"{n:a<16}")), model(fr(own))]
            history += [asked, model("so") if sent == "left out" else model("so", fc(theirs, {"n": n}))]
            history.append(user(fr(theirs)))
        items = chain(*truth)
        assert contents(prepared(request(*history), items).payload) == truth
        return max(content.times for content in history if isinstance(content, Looked))

    assert most_reads(120) == most_reads(12)


NAMES = st.sampled_from(["a", "b", "", RESERVED])
PARTS = st.one_of(
    st.builds(text, st.sampled_from(["", "x"]), st.sampled_from(["", G1, gemini_signature("a")])),
    st.builds(fc, NAMES, st.just({"p": 1}), st.sampled_from(["", G1, SENTINEL])),
    st.builds(fr, NAMES, name=st.sampled_from(["read", "", "other"])),
    st.just(None),
)
CONTENTS = st.builds(
    lambda role, parts: {"role": role, "parts": parts},
    st.sampled_from(["user", "model", "function"]),
    st.lists(PARTS, max_size=3),
)


@given(st.lists(CONTENTS, max_size=5), st.lists(CONTENTS, max_size=5))
def test_any_history_is_prepared_or_refused_and_once_is_enough(
    history: list[JsonObject], other: list[JsonObject]
) -> None:
    # What is remembered was said upstream, where nobody knows ids of ours.
    items = [one for one in chain(*history[:1], *other) if RESERVED not in getattr(one, "call_id", "")]
    payload = request(*history)
    with Unchanged(payload):
        try:
            done = prepared(payload, items)
        except InvalidRequest:
            return
    assert prepared(done.payload, items).payload == done.payload
    assert reserved_ids(done.payload) == 0
