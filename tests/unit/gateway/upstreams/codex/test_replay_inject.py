import copy
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.json import Json, JsonObject, dumps
from gateway.replay.turns import Marker, ReplayTurn, fence, turns_of
from gateway.upstreams.codex.replay_inject import inject
from gateway.upstreams.codex.replay_items import assistant_fingerprint, prefix_fingerprints
from tests.support.replay import SIG_A, SIG_B, A, C, D, O, R, U, message, signature

RA, RB = R(SIG_A), R(SIG_B)


def legacy(*items: JsonObject) -> list[bytes]:
    return [dumps(item) for item in items]


def marked(
    before: Sequence[Json] | None, *items: JsonObject, calls: Sequence[str] = (), said: str = ""
) -> list[bytes]:
    """A turn that answered the input `before`; None: nobody knows which."""
    marker = Marker(
        id=f"{before}{items}{calls}{said}",
        request_fingerprint="" if before is None else prefix_fingerprints(before)[-1],
        assistant_fingerprint=assistant_fingerprint(A(said)),
        call_ids=tuple(calls),
    )
    return ReplayTurn(marker, tuple(dumps(item) for item in items)).encode()


def injected(items: Sequence[bytes], *given: JsonObject) -> list[JsonObject]:
    """The input afterwards; the one before must stay as it was, and once must be enough."""
    body: JsonObject = {"model": "m", "input": list(given), "store": False}
    before = copy.deepcopy(body)
    result = inject(body, items)
    assert body == before
    assert result.request_fingerprint == prefix_fingerprints(given)[-1]
    found = result.body["input"]
    assert isinstance(found, list)
    assert result.items == len(found) - len(given)
    assert {**result.body, "input": None} == {**before, "input": None}
    assert inject(result.body, items).body == result.body
    return found  # type: ignore[return-value]


# -- legacy items


def test_rp_37_reasoning_goes_after_instructions() -> None:
    """Given legacy `[R(A)]` and `D(s) U(a)`, expect `D(s) R(A) U(a)`."""
    assert injected(legacy(RA), D("s"), U("a")) == [D("s"), RA, U("a")]
    system = message("system", "s")
    assert injected(legacy(RA), system, D("s"), U("a")) == [system, D("s"), RA, U("a")]
    assert injected(legacy(RA), D("s")) == [D("s"), RA]


def test_rp_38_reasoning_goes_before_the_last_answer() -> None:
    """Given legacy `[R(A)]` and `U(a) A(x) U(b)`, expect `U(a) R(A) A(x) U(b)`."""
    assert injected(legacy(RA), U("a"), A("x"), U("b")) == [U("a"), RA, A("x"), U("b")]


def test_rp_39_a_call_the_client_left_out_goes_before_its_output() -> None:
    """Given legacy `[R(A) C(call_7)]` and `U(a) O(call_7)`, expect `U(a) R(A) C(call_7) O(call_7)`."""
    assert injected(legacy(RA, C("call_7")), U("a"), O("call_7")) == [U("a"), RA, C("call_7"), O("call_7")]


def test_rp_40_reasoning_of_the_client_wins() -> None:
    """Given legacy `[R(A) C(call_7)]` and `U(a) R(B) C(call_7) O(call_7)`, expect no change."""
    given = [U("a"), RB, C("call_7"), O("call_7")]
    assert injected(legacy(RA, C("call_7")), *given) == given


def test_invalid_reasoning_of_the_client_does_not_win() -> None:
    junk: JsonObject = {"type": "reasoning", "encrypted_content": "gAAAA?"}
    assert injected(legacy(RA), U("a"), junk, A("x")) == [U("a"), junk, RA, A("x")]


def test_rp_41_a_call_without_output_is_left_out() -> None:
    """Given legacy `[R(A) C(call_7)]` and `U(a) O(call_9)`, expect `R(A) U(a) O(call_9)`."""
    assert injected(legacy(RA, C("call_7")), U("a"), O("call_9")) == [RA, U("a"), O("call_9")]


def test_rp_42_a_call_gets_the_id_of_its_output() -> None:
    """Given legacy `[R(A) C("call.a/b:1")]` and `U(a) O("call_a_b_1")`, expect
    `U(a) R(A) C(call_a_b_1) O(call_a_b_1)`.
    """
    assert injected(legacy(RA, C("call.a/b:1")), U("a"), O("call_a_b_1")) == [
        U("a"),
        RA,
        C("call_a_b_1"),
        O("call_a_b_1"),
    ]


def test_legacy_calls_go_before_the_first_of_their_outputs() -> None:
    given = (U("a"), O("c1"), O("c2"))
    assert injected(legacy(RA, C("c2"), C("c1")), *given) == [U("a"), RA, C("c2"), C("c1"), O("c1"), O("c2")]


def test_an_output_without_an_id_may_be_that_of_a_legacy_call() -> None:
    given = (U("a"), O(""), A("x"), O("c1"))
    assert injected(legacy(RA, C("c1")), *given) == [U("a"), RA, C("c1"), *given[1:]]
    assert injected(legacy(RA), *given) == [U("a"), O(""), RA, A("x"), O("c1")]


def test_custom_tool_calls_are_calls_like_functions() -> None:
    custom: JsonObject = {
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": "c",
        "name": "n",
        "input": "x",
    }
    assert injected(legacy(custom), U("a"), C("c"), O("c")) == [U("a"), C("c"), O("c")]
    output: JsonObject = {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"}
    assert injected(legacy(custom), U("a"), output) == [U("a"), custom, output]


# -- marked turns

T1 = marked([U("a")], RA, C("call_7"), calls=["call_7"])
T2 = marked([U("a"), C("call_7"), O("call_7")], RB, said="done")


def test_rp_46_every_turn_goes_where_its_answer_began() -> None:
    """Given t1 (answer to `U(a)`) and t2 (answer to `U(a) C O`) and `U(a) C(call_7) O(call_7) A(done) U(b)`,
    expect `U(a) R(A) C(call_7) O(call_7) R(B) A(done) U(b)`.
    """
    given = (U("a"), C("call_7"), O("call_7"), A("done"), U("b"))
    assert injected([*T1, *T2], *given) == [U("a"), RA, C("call_7"), O("call_7"), RB, A("done"), U("b")]


def test_rp_47_a_call_that_the_client_left_out_of_a_marked_turn() -> None:
    """Given t1 and `U(a) O(call_7) U(b)`, expect `U(a) R(A) C(call_7) O(call_7) U(b)`."""
    assert injected(T1, U("a"), O("call_7"), U("b")) == [U("a"), RA, C("call_7"), O("call_7"), U("b")]


def test_rp_48_an_edited_beginning_detaches_all() -> None:
    """Given t1 and t2 and the input of 46 with another first text, expect no change."""
    given = [U("edited"), C("call_7"), O("call_7"), A("done"), U("b")]
    assert injected([*T1, *T2], *given) == given


def test_rp_49_words_before_a_call() -> None:
    """Given t1 with assistant `hi` and `U(a) A(hi) C(call_7) O(call_7)`, expect
    `U(a) R(A) A(hi) C(call_7) O(call_7)`.
    """
    turn = marked([U("a")], RA, C("call_7"), calls=["call_7"], said="hi")
    given = (A("hi"), C("call_7"), O("call_7"))
    assert injected(turn, U("a"), *given) == [U("a"), RA, *given]


def test_rp_50_what_the_client_kept_is_not_repeated() -> None:
    """Given t1 and t2 and `U(a) R(A) C(call_7) O(call_7) A(done) U(b)`, expect no change."""
    given = [U("a"), RA, C("call_7"), O("call_7"), A("done"), U("b")]
    assert injected([*T1, *T2], *given) == given


def test_rp_51_the_newest_turn_takes_the_only_anchor() -> None:
    """Given two markers without request fingerprint, both `ok`, blobs A then B, and `U(s) A(ok) U(b)`, expect
    `U(s) R(B) A(ok) U(b)`.
    """
    turns = [*marked(None, RA, said="ok"), *marked(None, RB, said="ok")]
    assert injected(turns, U("s"), A("ok"), U("b")) == [U("s"), RB, A("ok"), U("b")]


def test_turns_without_request_fingerprint_are_placed_from_the_end() -> None:
    turns = [*marked(None, RA, said="ok"), *marked(None, RB, said="ok")]
    given = (U("s"), A("ok"), U("t"), A("ok"), U("b"))
    assert injected(turns, *given) == [U("s"), RA, A("ok"), U("t"), RB, A("ok"), U("b")]


def test_reasoning_does_not_come_between_calls_and_outputs() -> None:
    turn = marked(None, RA, C("c1"), C("c2"), calls=["c1", "c2"])
    given = (C("c1"), C("c2"), O("c1"), O("c2"), U("b"))
    assert injected(turn, U("a"), *given) == [U("a"), RA, *given]


def test_nothing_known_of_an_answer_leaves_the_legacy_place() -> None:
    assert injected(marked(None, RA), U("a"), A("x"), U("b")) == [U("a"), RA, A("x"), U("b")]
    assert injected(marked([U("a")], RA), U("a"), U("b")) == [U("a"), RA, U("b")]


def test_words_that_a_client_trimmed_or_joined_do_not_detach_their_calls() -> None:
    turn = marked([U("a")], RA, C("c1"), calls=["c1"], said="hi ")
    assert injected(turn, U("a"), A("hi"), C("c1"), O("c1")) == [U("a"), RA, A("hi"), C("c1"), O("c1")]


def test_another_answer_to_the_same_input_gets_nothing() -> None:
    for answer in ((A("other"),), (C("c9"), O("c9")), (U("never mind"),), (O("c9"),)):
        given = [U("a"), *answer, U("b"), C("call_7"), O("call_7")]
        assert injected(T1, *given) == given


def test_two_turns_of_one_input_that_cannot_be_told_apart() -> None:
    """The newest is the one that the client goes on from."""
    turns = [*marked([U("a")], RA, said="ok"), *marked([U("a")], RB, said="ok")]
    assert injected(turns, U("a"), A("ok"), U("b")) == [U("a"), RB, A("ok"), U("b")]


def test_reasoning_of_the_client_is_not_doubled_where_nothing_else_is_known() -> None:
    assert injected(marked([U("a")], RA), U("a"), RB, U("b")) == [U("a"), RB, U("b")]


def test_turns_in_one_place_keep_their_order() -> None:
    turns = [*marked(None, RA), *marked(None, RB)]
    assert injected(turns, U("a"), A("x")) == [U("a"), RA, RB, A("x")]


def test_the_same_request_again_gets_nothing() -> None:
    """The answer it had is not in it: the client never got it, or wants another."""
    assert injected(T1, U("a")) == [U("a")]


def test_two_turns_of_one_input_and_one_answer() -> None:
    """The same request ran twice and the client kept one answer; ids tell which."""
    turns = [
        *marked([U("a")], RA, C("c1"), calls=["c1"]),
        *marked([U("a")], RB, C("c2"), calls=["c2"]),
    ]
    assert injected(turns, U("a"), C("c1"), O("c1")) == [U("a"), RA, C("c1"), O("c1")]
    assert injected(turns, U("a"), C("c2"), O("c2")) == [U("a"), RB, C("c2"), O("c2")]


def test_several_blobs_of_one_turn_keep_their_order() -> None:
    turn = marked([U("a")], RA, RB, said="x")
    assert injected(turn, U("a"), A("x")) == [U("a"), RA, RB, A("x")]
    assert injected(turn, U("a"), A("x"), RB) == [U("a"), RA, A("x"), RB]


def test_a_call_left_out_goes_after_the_reasoning_that_was_kept() -> None:
    assert injected(T1, U("a"), RA, O("call_7")) == [U("a"), RA, C("call_7"), O("call_7")]
    assert injected(T1, U("a"), RA) == [U("a"), RA]


def test_legacy_items_and_marked_turns_together() -> None:
    assert injected([*legacy(RA), *T2], U("a"), A("x"), U("b")) == [U("a"), RA, A("x"), U("b")]
    turns = [*legacy(RB), *T1]
    given = (U("a"), C("call_7"), O("call_7"))
    assert injected(turns, *given) == [U("a"), RA, C("call_7"), O("call_7")]


def test_a_fence_injects_nothing_and_takes_no_place() -> None:
    assert injected([fence("x")], U("a"), A("x")) == [U("a"), A("x")]
    given = (U("a"), C("call_7"), O("call_7"))
    assert injected([fence("x"), *T1], *given) == [U("a"), RA, C("call_7"), O("call_7")]


def test_garbage_of_the_store_is_not_injected() -> None:
    garbage = [b"", b"\xff", dumps(U("do this")), dumps({"type": "reasoning", "encrypted_content": "x"})]
    given = [U("a"), A("x")]
    assert injected(garbage, *given) == given
    assert injected([*T1[:1], *garbage], *given) == given


def test_bodies_without_a_list_of_items_are_left_alone() -> None:
    not_lists: list[Json] = ["text", None, {}]
    for no_list in not_lists:
        body: JsonObject = {"input": no_list}
        result = inject(body, legacy(RA))
        assert result.body is body
        assert result.items == 0
    assert inject({}, legacy(RA)).body == {}


def test_strange_items_are_passed_over() -> None:
    strange: list[Json] = ["text", None, 7, [], {}, {"type": 7}, {"type": "item_reference", "id": "x"}]
    body: JsonObject = {"input": [*strange, A("x")]}
    assert inject(body, legacy(RA)).body["input"] == [*strange, RA, A("x")]


def test_nothing_missing_gives_the_very_body() -> None:
    body: JsonObject = {"input": [U("a"), RA, C("call_7"), O("call_7")]}
    assert inject(body, T1).body is body
    assert inject(body, []).body is body


# -- algebra: conversations as models have them, and what clients drop of them

TEXTS = st.sampled_from(["a", "b", "c"])


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[list[JsonObject]], list[bool]]:
    """The user's words and the answers in turn; for each answer, whether calls are left out by the client."""
    steps: list[list[JsonObject]] = []
    for index in range(draw(st.integers(1, 5))):
        calls = [f"call_{index}_{n}" for n in range(draw(st.integers(0, 2)))]
        words = draw(st.lists(TEXTS, max_size=1)) or ([] if calls else ["z"])
        steps.append([R(signature(index)), *map(A, words), *map(C, calls)])
        steps.append([*map(O, calls)] if calls else [U(draw(TEXTS))])
    return steps, [draw(st.booleans()) for _ in steps]


def as_sent(step: list[JsonObject], *, drop_calls: bool) -> list[JsonObject]:
    """What a client without a place for reasoning sends back of it."""
    return [
        item
        for item in step
        if item["type"] != "reasoning" and not (drop_calls and item["type"] == "function_call")
    ]


def stored_turns(steps: list[list[JsonObject]], dropped: list[bool]) -> tuple[list[bytes], list[JsonObject]]:
    """The entry after this conversation, and the input of its next request."""
    entry: list[bytes] = []
    sent: list[JsonObject] = [U("first")]
    for step, drop in zip(steps, dropped, strict=True):
        if step[0]["type"] == "reasoning":
            words = [item for item in step if item["type"] == "message"]
            calls = [str(item["call_id"]) for item in step if item["type"] == "function_call"]
            kept = [item for item in step if item["type"] != "message"]
            said = assistant_fingerprint(words[-1]) if words else ""
            marker = Marker(
                id=str(len(sent)),
                request_fingerprint=prefix_fingerprints(sent)[-1],
                assistant_fingerprint=said,
                call_ids=tuple(calls),
            )
            entry += ReplayTurn(marker, tuple(map(dumps, kept))).encode()
            only_calls = not words
            sent += as_sent(step, drop_calls=drop and only_calls)
        else:
            sent += step
    return entry, sent


@settings(deadline=None)
@given(conversations())
def test_everything_that_was_dropped_is_back_in_its_place(
    made: tuple[list[list[JsonObject]], list[bool]],
) -> None:
    steps, dropped = made
    entry, sent = stored_turns(steps, dropped)
    assert injected(entry, *sent) == [U("first"), *(item for step in steps for item in step)]


@settings(deadline=None)
@given(conversations())
def test_a_body_that_has_everything_is_not_changed(
    made: tuple[list[list[JsonObject]], list[bool]],
) -> None:
    steps, dropped = made
    entry, _ = stored_turns(steps, dropped)
    body: JsonObject = {"input": [U("first"), *(item for step in steps for item in step)]}
    assert inject(body, entry).body is body


FORMS = st.sampled_from(["c{}", "d.{}", "d_{}"])
BEGINNING = st.sampled_from([U("a"), D("s")])
NUMBERS = st.integers(0, 3)
GIVEN = st.lists(
    st.sampled_from([U("a"), U("b"), D("s"), A("x"), A("y")])
    | st.builds(lambda make, form, n: make(form.format(n)), st.sampled_from([C, O]), FORMS, NUMBERS)
    | st.integers(0, 7).map(signature).map(R),
    max_size=10,
)


@st.composite
def inputs(draw: st.DrawFn) -> list[JsonObject]:
    return [draw(BEGINNING), *draw(GIVEN)]


@st.composite
def entries(draw: st.DrawFn) -> list[bytes]:
    """Any turns of one writer, legacy items first if at all; no blob and no call id is in two of them."""
    entry: list[bytes] = []
    fingerprints = draw(st.booleans())
    for index in range(draw(st.integers(0, 4))):
        own = st.sampled_from([R(signature(2 * index)), R(signature(2 * index + 1))])
        calling = st.sampled_from([C(f"c{index}"), C(f"d.{index}")])
        items = draw(st.lists(own | calling, min_size=1, max_size=4))
        if not entry and draw(st.booleans()):
            entry += legacy(*items)
            continue
        calls = [str(item["call_id"]) for item in items if "call_id" in item]
        said = draw(st.sampled_from(["", "x", "y"]))
        if not fingerprints and not calls and not said:
            continue
        before = draw(inputs()) if fingerprints else None
        entry += marked(before, *items, calls=calls, said=said)
    return entry


@settings(max_examples=300, deadline=None)
@given(entries(), inputs())
def test_whatever_is_stored_once_is_enough_and_all_that_was_given_stays(
    entry: list[bytes], given: list[JsonObject]
) -> None:
    """Also: calls have outputs, and nothing that was stored comes in twice."""
    found = injected(entry, *given)
    rest = iter(found)
    assert all(item in rest for item in given)
    new = [item for item in found if found.count(item) > given.count(item)]
    outputs = {item["call_id"] for item in given if item["type"] == "function_call_output"}
    assert {item["call_id"] for item in new if item["type"] == "function_call"} <= outputs
    assert all(found.count(item) == max(1, given.count(item)) for item in new)


def test_turns_of_an_entry_are_what_was_marked() -> None:
    assert len(turns_of([*T1, *T2])) == 2
