import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.json import Json, JsonObject, loads
from gateway.replay.antigravity_items import CallPart, Item, ThoughtSignature
from gateway.upstreams.antigravity.history import text_hash
from gateway.upstreams.antigravity.ledger import Ledger
from tests.support.signature_chains import (
    G1,
    G2,
    Unchanged,
    carrier,
    chunk,
    fc,
    fr,
    model,
    request,
    text,
    thought,
    user,
)

GO = request(user("go"))
CONTEXT = "ddf0abcfea54f565785c6ddf5e4c00ba597996aaa34f8da1ebd2912fb7e2b0be"
"""Of all that comes before the answer to GO."""
G3 = "sigAAAAAAAAAAAA3"


def chain(*parts: JsonObject, payload: JsonObject = GO, finish: str = "STOP") -> tuple[Item, ...] | None:
    """The chain after an answer of one chunk for each part."""
    ledger = Ledger(payload)
    for number, part in enumerate(parts, 1):
        ledger.observe(chunk(part, finish=finish if number == len(parts) else ""))
    items = ledger.chain()
    return None if items is None else tuple(items)


def signature(
    signed: str, said: str, place: tuple[int, int] = (1, 0), *, kind: str = "text", occurrence: int = 0
) -> ThoughtSignature:
    assert kind in ("text", "thought")
    return ThoughtSignature(
        signature=signed,
        content_index=place[0],
        part_index=place[1],
        target_kind="thought" if kind == "thought" else "text",
        target_hash=text_hash("thought" if kind == "thought" else "text", said),
        target_occurrence=occurrence,
        context_hash=CONTEXT,
    )


def call(call_id: str, signed: str = "", place: tuple[int, int] = (1, 0), *, occurrence: int = 0) -> CallPart:
    return CallPart(
        name="read",
        args={"p": 1},
        call_id=call_id,
        signature=signed,
        content_index=place[0],
        part_index=place[1],
        target_occurrence=occurrence,
        context_hash=CONTEXT,
    )


# -- the vectors


def test_rp_62_a_signature_behind_a_streamed_text_signs_the_whole_text() -> None:
    """Given the chunks `Hel`, `lo` and an empty text signed G1, expect one item: G1 at content 1, part 0, of
    the kind text, with the hash of `Hello`, occurrence 0, and the hash of what came before.
    """
    items = chain(text("Hel"), text("lo"), carrier(G1))
    assert items is not None
    (item,) = items
    assert loads(item.encode()) == {
        "type": "thought_signature",
        "thoughtSignature": G1,
        "contentIndex": 1,
        "partIndex": 0,
        "targetKind": "text",
        "targetHash": "e2672696f355ee00cf5624cb8b2a1796b3b231a436d25451b2278be748326d41",
        "targetOccurrence": 0,
        "contextHash": CONTEXT,
    }


def test_rp_63_a_signature_in_front_of_a_call_is_the_call_s() -> None:
    """Given an empty text signed G1, then the unsigned call fc-1 `read {"p":1}`, expect a call with G1 at
    part 1.
    """
    assert chain(carrier(G1), fc("fc-1")) == (call("fc-1", G1, (1, 1)),)


def test_rp_64_of_parallel_calls_the_first_is_signed() -> None:
    """Given fc-1 signed G1 and fc-2 unsigned, expect two items, the second without a signature."""
    assert chain(fc("fc-1", signature=G1), fc("fc-2")) == (
        call("fc-1", G1),
        call("fc-2", "", (1, 1), occurrence=1),
    )


def test_rp_65_a_signature_behind_a_call_is_the_call_s() -> None:
    """Given a call, then a part that is only the signature G1, expect G1 on the call and no other item."""
    assert chain(fc("fc-1"), {"thoughtSignature": G1}) == (call("fc-1", G1),)
    assert chain(fc("fc-1"), carrier(G1)) == (call("fc-1", G1),)


def test_rp_66_an_unsigned_thought_leaves_nothing() -> None:
    """Given the thought `think`, then the text `Hi` signed G1, expect one item of the kind text for `Hi`."""
    assert chain(thought("think"), text("Hi", G1)) == (signature(G1, "Hi", (1, 1)),)


def test_rp_67_a_second_signature_for_one_text_is_dropped() -> None:
    """Given the text `Hi`, then G1 and G2 on parts of their own, expect G1 alone."""
    assert chain(text("Hi"), carrier(G1), carrier(G2)) == (signature(G1, "Hi"),)


def test_rp_68_equal_texts_are_told_apart_by_their_number() -> None:
    """Given the text `ok` signed G1, then `ok` signed G2, expect two items, same hash, occurrences 0, 1."""
    assert chain(text("ok", G1), text("ok", G2)) == (
        signature(G1, "ok"),
        signature(G2, "ok", (1, 1), occurrence=1),
    )


def test_rp_69_only_an_answer_with_an_end_leaves_anything() -> None:
    """Given the answer of vector 62 without finishReason, expect nothing to commit; given an end without
    signatures or calls, expect the empty chain, which ends the entry.
    """
    assert chain(text("Hel"), text("lo"), carrier(G1), finish="") is None
    assert chain(text("Hello")) == ()
    ledger = Ledger(GO)
    assert ledger.chain() is None
    ledger.observe({"response": {"candidates": [{"finishReason": "MAX_TOKENS"}]}})
    assert ledger.chain() == ()


def test_rp_70_a_sentinel_is_no_signature() -> None:
    """Given a call signed with the sentinel, expect an item without a signature."""
    assert chain(fc("fc-1", signature="skip_thought_signature_validator")) == (call("fc-1"),)
    assert chain(text("Hi", "context_engineering_is_the_way_to_go")) == ()


def test_rp_71_the_chain_of_the_request_comes_first() -> None:
    """Given a request with model content 1 `functionCall fc-1` signed G1 and content 2 its response, and the
    answer `Done` signed G2, expect the call at (1,0) and the signature at (3,0).
    """
    payload = request(user("go"), model(fc("fc-1", signature=G1)), model(fr("fc-1")))
    items = chain(text("Done", G2), payload=payload)
    assert items is not None
    assert items[0] == call("fc-1", G1)
    assert [(i.signature, i.content_index, i.part_index) for i in items[1:]] == [(G2, 3, 0)]
    assert items[1].context_hash not in ("", CONTEXT)


def test_rp_72_an_answer_goes_on_with_what_the_client_put_into_the_model_s_mouth() -> None:
    """Given a request that ends in model content `pre`, and the answer `fix` signed G1, expect content 1,
    part 1.
    """
    assert chain(text("fix", G1), payload=request(user("go"), model("pre"))) == (
        signature(G1, "fix", (1, 1)),
    )


# -- the answer


def test_nothing_that_is_observed_changes() -> None:
    payload = request(user("go"), model(fc("a", signature=G1), text("x", G2)), model(fr("a")), model("pre"))
    answer = chunk(text("fix", G3), fc("b"), finish="STOP")
    with Unchanged(payload), Unchanged(answer):
        ledger = Ledger(payload)
        ledger.observe(answer)
        assert len(ledger.chain() or ()) == 4
        assert ledger.chain() == ledger.chain()


def test_an_answer_without_an_envelope_is_observed_too() -> None:
    ledger = Ledger({"contents": [user("go")]})
    ledger.observe({"candidates": [{"content": {"parts": [text("Hi", G1)]}, "finishReason": "STOP"}]})
    assert ledger.chain() == (signature(G1, "Hi"),)


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"response": {}},
        {"response": {"candidates": []}},
        {"response": {"candidates": [None]}},
        {"response": {"candidates": {}}},
        {"response": {"candidates": [{"content": {"parts": "x"}, "finishReason": " "}]}},
        {"response": {"usageMetadata": {}}},
        {"candidates": "x"},
        {"candidates": []},
        {"candidates": {"a": 1}},
    ],
)
def test_chunks_without_parts_mean_nothing(odd: JsonObject) -> None:
    ledger = Ledger(GO)
    ledger.observe(odd)
    assert ledger.chain() is None
    ledger.observe(chunk(text("Hi", G1), finish="STOP"))
    assert ledger.chain() == (signature(G1, "Hi"),)


def test_parts_of_other_kinds_count_and_break_texts_apart() -> None:
    """What a signature on an image signs is not known, so it is nobody else's either."""
    image: JsonObject = {"inlineData": {"mimeType": "image/png", "data": "AA=="}, "thoughtSignature": G2}
    items = chain(text("a"), image, carrier(G3), text("b"), carrier(G1))
    assert items == (signature(G1, "b", (1, 3)),)
    assert chain({"executableCode": {}}, text("b", G1)) == (signature(G1, "b", (1, 1)),)


@pytest.mark.parametrize("odd", [None, 1, "x", [], ["x"]])
def test_parts_that_are_none_are_counted(odd: Json) -> None:
    ledger = Ledger(GO)
    ledger.observe(chunk(odd, text("b", G1), finish="STOP"))
    assert ledger.chain() == (signature(G1, "b", (1, 1)),)


def test_the_same_signature_again_goes_on_with_the_text() -> None:
    assert chain(text("Hel", G1), text("lo", G1)) == (signature(G1, "Hello"),)
    assert chain(text("Hel", G1), text("lo")) == (signature(G1, "Hel"),)
    assert chain(text("Hel", G1), carrier(G1), text("lo", G1)) == (signature(G1, "Hello"),)


def test_a_call_breaks_texts_apart() -> None:
    assert chain(text("a"), fc("fc-1"), text("b", G1)) == (
        call("fc-1", "", (1, 1)),
        signature(G1, "b", (1, 2)),
    )


def test_a_signature_has_one_place() -> None:
    assert chain(carrier(G1), carrier(G1), fc("fc-1"), fc("fc-2")) == (
        call("fc-1", G1, (1, 2)),
        call("fc-2", "", (1, 3), occurrence=1),
    )
    assert chain(fc("fc-1", signature=G1), text("a"), carrier(G1)) == (call("fc-1", G1),)
    assert chain(carrier(G1), fc("fc-1"), text("a", G1)) == (call("fc-1", G1, (1, 1)),)


def test_a_signed_call_leaves_to_thoughts_what_is_theirs() -> None:
    assert chain(thought("", G1), carrier(G2), fc("fc-1", signature=G3), thought("t"), fc("fc-2")) == (
        call("fc-1", G3, (1, 2)),
        signature(G1, "t", (1, 3), kind="thought"),
        call("fc-2", "", (1, 4), occurrence=1),
    )


def test_a_text_may_carry_its_signature_under_every_name_at_once() -> None:
    part: JsonObject = {
        **text("a", G1),
        "thought": False,
        "thought_signature": G1,
        "extra_content": {"google": {"thought_signature": G1}},
    }
    assert chain(part) == (signature(G1, "a"),)


def test_a_signature_of_its_own_beats_one_that_came_before() -> None:
    assert chain(carrier(G1), text("Hi", G2)) == (signature(G2, "Hi", (1, 1)),)
    assert chain(carrier(G1), text("Hi", G1)) == (signature(G1, "Hi", (1, 1)),)
    assert chain(carrier(G1), fc("fc-1", signature=G2)) == (call("fc-1", G2, (1, 1)),)
    assert chain(thought("", G1), thought("t", G2)) == (signature(G2, "t", (1, 1), kind="thought"),)


def test_a_signature_before_a_text_is_the_text_s_at_the_end() -> None:
    assert chain(carrier(G1), text("Hi")) == (signature(G1, "Hi", (1, 1)),)
    assert chain(carrier(G1), thought("t"), text("Hi")) == (signature(G1, "Hi", (1, 2)),)
    assert chain(carrier(G1), thought("t")) == (signature(G1, "t", (1, 1), kind="thought"),)
    assert chain(carrier(G1)) == ()


def test_an_empty_thought_keeps_its_signature_for_thoughts() -> None:
    assert chain(thought("", G1), thought("t"), text("Hi")) == (signature(G1, "t", (1, 1), kind="thought"),)
    assert chain(thought("", G1), text("Hi")) == ()
    assert chain(text("Hi"), thought("", G1), thought("t"), carrier(G2)) == (
        signature(G1, "t", (1, 2), kind="thought"),
        signature(G2, "t", (1, 2), kind="thought"),
    )


def test_of_several_signatures_before_a_call_it_takes_the_last() -> None:
    assert chain(carrier(G1), carrier(G2), fc("fc-1"), fc("fc-2"), fc("fc-3")) == (
        call("fc-1", G2, (1, 2)),
        call("fc-2", G1, (1, 3), occurrence=1),
        call("fc-3", "", (1, 4), occurrence=2),
    )


def test_a_signature_behind_a_signed_call_is_dropped() -> None:
    assert chain(fc("fc-1", signature=G1), carrier(G2), text("Hi")) == (call("fc-1", G1),)
    assert chain(fc("fc-1"), carrier(G1), carrier(G1), carrier(G2)) == (call("fc-1", G1),)


def test_a_signature_that_the_request_had_already_is_none_of_the_answer() -> None:
    payload = request(user("go"), model(text("a", G1)), user("b"))
    assert chain(text("a"), carrier(G1), payload=payload) == (signature(G1, "a"),)
    assert chain(fc("x"), carrier(G1), payload=payload) == (
        signature(G1, "a"),
        *(chain(fc("x"), payload=request(*[user("go"), model("a"), user("b")])) or ()),
    )


def test_a_call_said_twice_is_kept_once() -> None:
    signed = fc("fc-1", signature=G1)
    assert chain(signed, signed) == (call("fc-1", G1),)
    assert chain(fc("fc-1"), fc("fc-1")) == (call("fc-1"), call("fc-1", "", (1, 1), occurrence=1))
    assert chain(signed, fc("fc-1", signature=G2)) == (
        call("fc-1", G1),
        call("fc-1", G2, (1, 1), occurrence=1),
    )


def test_a_call_without_arguments_has_empty_ones_and_one_without_a_name_is_none() -> None:
    (item,) = chain({"functionCall": {"name": "now"}, "thoughtSignature": "s"}) or ()
    assert item == CallPart(
        name="now",
        args={},
        signature="s",
        content_index=1,
        part_index=0,
        target_occurrence=0,
        context_hash=CONTEXT,
    )
    assert chain({"functionCall": {"args": {}}, "thoughtSignature": G1}) == ()


def test_signatures_are_found_under_their_other_names() -> None:
    for part in (
        {"text": "Hi", "thought_signature": G1},
        {"text": "Hi", "extra_content": {"google": {"thought_signature": G1}}},
    ):
        assert chain(part) == (signature(G1, "Hi"),)


def test_a_signature_too_short_to_be_one_is_not_kept() -> None:
    assert chain(text("Hi", G1[:15])) == ()


def test_a_chain_that_grows_too_long_ends_the_entry() -> None:
    ledger = Ledger(GO)
    for number in range(4097):
        ledger.observe(chunk(fc(f"fc-{number}", {"n": number})))
    ledger.observe(chunk(text("x"), finish="STOP"))
    assert ledger.chain() == ()


def test_a_chain_that_grows_too_large_ends_the_entry() -> None:
    ledger = Ledger(GO)
    for number in range(3):
        ledger.observe(chunk(fc(f"fc-{number}", {"n": "x" * 6 * 2**20})))
    ledger.observe(chunk(finish="STOP"))
    assert ledger.chain() == ()


@pytest.mark.parametrize(("depth", "kept"), [(252, 2), (253, 0), (254, 0), (400, 0)])
def test_arguments_that_cannot_be_sent_back_end_the_entry(depth: int, kept: int) -> None:
    """Neither those that cannot be written, nor those that cannot be written as part of an item."""
    deep: Json = []
    for _ in range(depth):
        deep = [deep]
    ledger = Ledger(GO)
    ledger.observe(chunk(fc("fc-1", signature=G1), fc("fc-2", deep)))
    ledger.observe(chunk(text("x"), finish="STOP"))
    assert len(ledger.chain() or ()) == kept


# -- the request


def test_every_call_of_the_request_is_kept_and_every_signature() -> None:
    parts = [thought("t", G1), text("a"), text("a", G2), fc("x"), fc("x", signature=G3), fc("y")]
    items = chain(text("Done"), payload=request(user("go"), model(*parts), user("b")))
    assert items == (
        signature(G1, "t", kind="thought"),
        signature(G2, "a", (1, 2), occurrence=1),
        call("x", "", (1, 3)),
        call("x", G3, (1, 4), occurrence=1),
        call("y", "", (1, 5), occurrence=2),
    )


def test_a_part_of_the_request_that_says_nothing_signs_the_one_before_it() -> None:
    for alone in (carrier(G1), {"thoughtSignature": G1}):
        assert chain(text("."), payload=request(user("go"), model("a", alone), user("b"))) == (
            signature(G1, "a"),
        )
        assert chain(text("."), payload=request(user("go"), model(fc("x"), alone), user("b"))) == (
            call("x", G1),
        )
    only = request(user("go"), model(carrier(G1)), user("b"))
    assert chain(text("."), payload=only) == (signature(G1, ""),)
    assert chain(text("."), payload=request(user("go"), model({"thoughtSignature": G1}), user("b"))) == ()


def test_what_an_image_of_the_request_is_signed_with_is_its_own() -> None:
    image: JsonObject = {"inlineData": {}, "thoughtSignature": G1}
    assert chain(text("."), payload=request(user("go"), model("a", image), user("b"))) == ()


def test_what_users_sent_signs_nothing() -> None:
    payload = request(user(text("go", G1), fc("x", signature=G2)))
    assert chain(text("."), payload=payload) == ()


def test_sentinels_of_the_request_are_no_signatures() -> None:
    payload = request(user("go"), model(fc("x", signature="skip_thought_signature_validator")), user("b"))
    assert chain(text("."), payload=payload) == (call("x"),)


def test_equal_parts_in_front_of_an_answer_count_into_its_occurrences() -> None:
    payload = request(user("go"), model(text("ok"), fc("x")))
    assert chain(text("ok", G1), payload=payload) == (
        call("x", "", (1, 1)),
        signature(G1, "ok", (1, 2), occurrence=1),
    )
    assert chain(fc("y", signature=G1), payload=payload) == (
        call("x", "", (1, 1)),
        call("y", G1, (1, 2), occurrence=1),
    )


def test_equal_parts_of_other_contents_do_not_count_into_its_occurrences() -> None:
    payload = request(user("go", fc("y")), model("ok", fc("y")), user("ok"))
    items = chain(text("ok", G1), fc("y"), payload=payload) or ()
    assert [(item.content_index, item.target_occurrence) for item in items] == [(1, 0), (3, 0), (3, 0)]


def test_an_answer_after_responses_is_a_content_of_its_own() -> None:
    """Responses have the role of the model, too."""
    payload = request(user("go"), model(fc("x")), model(fr("x")))
    items = chain(text("Done", G1), payload=payload) or ()
    assert [(item.content_index, item.part_index) for item in items] == [(1, 0), (3, 0)]


def test_without_contents_the_answer_is_the_first_one() -> None:
    for payload in ({}, {"request": {}}, {"contents": None}, {"request": {"contents": "x"}}):
        (item,) = chain(text("Hi", G1), payload=payload) or ()
        assert (item.content_index, item.part_index, item.context_hash) == (0, 0, "")


# -- any chunking

SIGNATURES = st.sampled_from(["", "", G1, G2, G3])
PARTS: st.SearchStrategy[JsonObject] = st.one_of(
    st.builds(text, st.sampled_from(["", "a", "b"]), SIGNATURES),
    st.builds(thought, st.sampled_from(["", "a"]), SIGNATURES),
    st.builds(fc, st.sampled_from(["x", "y", ""]), st.just({"p": 1}), SIGNATURES),
    st.just({"inlineData": {}}),
)


@given(st.lists(PARTS, max_size=12), st.lists(st.integers(0, 12), max_size=5))
def test_how_parts_are_spread_over_chunks_makes_no_difference(
    parts: list[JsonObject], cuts: list[int]
) -> None:
    whole, pieces = Ledger(GO), Ledger(GO)
    whole.observe(chunk(*parts, finish="STOP"))
    borders = sorted({0, len(parts), *(cut for cut in cuts if cut < len(parts))})
    for start, end in zip(borders, [*borders[1:], len(parts)], strict=True):
        pieces.observe(chunk(*parts[start:end]))
    pieces.observe(chunk(finish="STOP"))
    assert whole.chain() == pieces.chain()


@given(st.text(min_size=1, max_size=20), st.lists(st.integers(1, 20), max_size=4), st.booleans())
def test_how_a_text_is_cut_makes_no_difference_to_what_is_signed(
    said: str, cuts: list[int], behind: bool
) -> None:
    """Only the numbers of the parts behind it, which nothing goes by where there is a hash."""
    borders = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    pieces = [text(said[a:b]) for a, b in itertools.pairwise(borders)]
    if behind:
        pieces.append(carrier(G1))
    else:
        pieces[-1] = {**pieces[-1], "thoughtSignature": G1}
    assert chain(*pieces) == (signature(G1, said),)
