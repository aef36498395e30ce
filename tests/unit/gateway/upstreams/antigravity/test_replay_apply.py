from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.json import Json, JsonObject
from gateway.replay.antigravity_items import SENTINEL, CallPart, Item, ThoughtSignature
from gateway.upstreams.antigravity.history import claude_call_id, contents_of, text_hash
from gateway.upstreams.antigravity.ledger import Ledger
from gateway.upstreams.antigravity.replay_apply import with_replay
from tests.support.signature_chains import (
    G1,
    G2,
    Unchanged,
    chunk,
    contents,
    fc,
    fr,
    model,
    request,
    text,
    thought,
    user,
)

CLAUDE_ID = claude_call_id("fc-1", "read", {"p": 1})


def chain(*history: Json) -> tuple[Item, ...]:
    """What a request with this history leaves."""
    ledger = Ledger(request(*history))
    ledger.observe(chunk(finish="STOP"))
    return tuple(ledger.chain() or ())


def replayed(items: tuple[Item, ...], *history: Json, schemas: Any = None) -> list[JsonObject]:
    """The contents after replay, which twice does the same as once."""
    payload = request(*history)
    with Unchanged(payload):
        done = with_replay(payload, items, schemas)
    assert with_replay(done, items, schemas) == done
    return contents(done)


def without(item: Item, *members: str) -> Item:
    """The item as an older node would have stored it."""
    return msgspec.structs.replace(item, **{name: "" if name.endswith("hash") else None for name in members})


# -- signatures of texts and thoughts

SIGNED = chain(user("go"), model(thought("t", G1), "a", text("a", G2)), user("more"))


def test_rp_76_a_signature_goes_back_onto_its_text_wherever_the_rest_went() -> None:
    """Given a model's text that is unchanged and an earlier user message that was edited, expect the
    signature attached; given a changed text, expect it not attached.
    """
    assert replayed(SIGNED, user("edited"), model("a", "a"))[1] == model("a", text("a", G2))
    assert replayed(SIGNED, user("go"), model("a", "b"))[1] == model("a", "b")


def test_in_a_shared_chain_a_text_must_stand_where_it_stood() -> None:
    same, edited = (request(user(words), model("a", "a")) for words in ("go", "edited"))
    assert contents(with_replay(same, SIGNED, shared=True))[1] == model("a", text("a", G2))
    assert with_replay(edited, SIGNED, shared=True) is edited


def test_equal_texts_are_told_apart_by_their_number() -> None:
    assert replayed(SIGNED, user("go"), model(thought("t"), "a", "a"))[1] == model(
        thought("t", G1), "a", text("a", G2)
    )
    assert replayed(SIGNED, user("go"), model("a"))[1] == model("a")


def test_a_text_is_no_thought() -> None:
    assert replayed(SIGNED, user("go"), model("t"))[1] == model("t")


def test_a_signature_belongs_to_the_content_it_was_in_and_to_the_model() -> None:
    for history in ([user("go"), user("a", "a")], [user("go")], [user("go"), user("x"), model("a", "a")]):
        assert replayed(SIGNED, *history) == history


def test_a_signature_that_is_there_is_kept() -> None:
    other = model(text("a"), text("a", "another signature"))
    assert replayed(SIGNED, user("go"), other)[1] == other


def test_a_sentinel_makes_room_for_a_signature() -> None:
    assert replayed(SIGNED, user("go"), model("a", text("a", SENTINEL)))[1] == model("a", text("a", G2))


def test_a_signature_moves_from_the_part_where_a_client_put_it() -> None:
    assert replayed(SIGNED, user("go"), model("a", "a", text("", G2)))[1] == model("a", text("a", G2), "")


def test_without_an_occurrence_the_place_decides_between_equal_texts() -> None:
    items = tuple(without(item, "target_occurrence") for item in SIGNED)
    assert replayed(items, user("x"), model(thought("t"), "a", "a"))[1] == model(
        thought("t", G1), "a", text("a", G2)
    )
    assert replayed(items, user("x"), model("a", "b"))[1] == model(text("a", G2), "b")


def test_without_a_kind_the_hash_decides() -> None:
    items = tuple(without(item, "target_kind") for item in SIGNED)
    assert replayed(items, user("x"), model("t", "a", "a"))[1] == model("t", "a", text("a", G2))


def test_an_old_item_without_a_hash_needs_its_place_and_the_same_conversation() -> None:
    (item,) = chain(user("go"), model("a", text("b", G1), fc("")))[:1]
    old = (without(item, "target_hash", "target_kind", "target_occurrence"),)
    assert replayed(old, user("go"), model("x", "y", fc("")))[1] == model("x", text("y", G1), fc(""))
    assert replayed(old, user("go"), model("x", fc("")))[1] == model(text("x", G1), fc(""))
    assert replayed(old, user("go"), model(fc("")))[1] == model(fc(""))
    assert replayed(old, user("edited"), model("x", "y"))[1] == model("x", "y")
    timeless = (without(old[0], "context_hash"),)
    assert replayed(timeless, user("edited"), model("x", "y"))[1] == model("x", text("y", G1))


def test_an_item_without_a_content_is_nowhere() -> None:
    items = (ThoughtSignature(signature=G1), ThoughtSignature(signature=G1, content_index=-1))
    assert replayed(items, model("a")) == [model("a")]


# -- calls that are there

CALLED = chain(user("go"), model(fc("fc-1", signature=G1), fc("fc-2")), model(fr("fc-1"), fr("fc-2")))


def test_a_call_is_found_by_the_upstream_s_id() -> None:
    history = replayed(CALLED, user("go"), model(fc("fc-1"), fc("fc-2")), model(fr("fc-1"), fr("fc-2")))
    assert history[1] == model(fc("fc-1", signature=G1), fc("fc-2"))


def test_a_call_with_a_signature_keeps_it() -> None:
    history = [user("go"), model(fc("fc-1", signature=G2), fc("fc-2")), model(fr("fc-1"), fr("fc-2"))]
    assert replayed(CALLED, *history) == history


def test_the_upstream_s_id_in_another_conversation_proves_nothing() -> None:
    history = [user("edited"), model(fc("fc-1"), fc("fc-2"))]
    assert replayed(CALLED, *history) == history


def test_rp_77_a_call_that_the_client_changed_gets_nothing() -> None:
    """Given a cached call fc-1 with `{"p":1}` and a client that replays fc-1 with `{"p":2}`, expect neither a
    signature nor the arguments restored.
    """
    for call_id in ("fc-1", CLAUDE_ID):
        for changed in (fc(call_id, {"p": 2}), fc(call_id, name="write")):
            history = [user("go"), model(changed), user(fr(call_id))]
            assert replayed(CALLED[:1], *history) == history


def test_rp_75_a_call_known_by_claude_s_id_gets_the_upstream_s_back_with_its_response() -> None:
    """Given the Claude-facing id on call and response, expect the upstream's id on both, and the signature;
    the order of arguments is the model's.
    """
    items = chain(user("go"), model(fc("fc-1", {"b": 1, "a": 2}, G1)))
    claude_id = claude_call_id("fc-1", "read", {"a": 2, "b": 1})
    history = replayed(items, user("go"), model("so", fc(claude_id, {"a": 2, "b": 1})), user(fr(claude_id)))
    assert history[1:] == [model("so", fc("fc-1", {"b": 1, "a": 2}, G1)), user(fr("fc-1"))]
    call = history[1]["parts"][1]["functionCall"]  # type: ignore[index,call-overload]
    assert list(call["args"]) == ["b", "a"]  # type: ignore[index,call-overload,arg-type]


def test_claude_s_id_proves_a_call_in_another_conversation_too() -> None:
    history = replayed(CALLED, user("edited"), user("more"), model(fc(CLAUDE_ID)), user(fr(CLAUDE_ID)))
    assert history[2:] == [model(fc("fc-1", signature=G1)), user(fr("fc-1"))]


@pytest.mark.parametrize("name", ["", "unknown", "read"])
def test_a_response_without_a_name_gets_it_with_the_id(name: str) -> None:
    history = replayed(CALLED[:1], user("go"), model(fc(CLAUDE_ID)), user(fr(CLAUDE_ID, name=name)))
    assert history[2] == user(fr("fc-1"))


def test_a_response_that_names_another_tool_keeps_its_call_from_being_renamed() -> None:
    history = [user("go"), model(fc(CLAUDE_ID)), user(fr(CLAUDE_ID, name="write"))]
    assert replayed(CALLED[:1], *history) == history


def test_a_sentinel_on_a_call_makes_room_for_its_signature() -> None:
    history = replayed(CALLED[:1], user("go"), model(fc("fc-1", signature=SENTINEL)), user(fr("fc-1")))
    assert history[1] == model(fc("fc-1", signature=G1))


def test_a_signature_that_a_client_put_elsewhere_moves_to_its_call() -> None:
    items = CALLED[:1]
    for call_id in ("fc-1", CLAUDE_ID):
        history = replayed(items, user("go"), model(text("so", G1), fc(call_id)), user(fr(call_id)))
        assert history[1] == model("so", fc("fc-1", signature=G1))


def test_an_unsigned_call_does_not_keep_what_a_client_signed_it_with() -> None:
    claude_id = claude_call_id("fc-2", "read", {"p": 1})
    history = replayed(CALLED, user("go"), model(fc("fc-1", signature=G1), fc(claude_id, signature=G2)))
    assert history[1] == model(fc("fc-1", signature=G1), fc("fc-2"))


def test_defaults_that_claude_s_clients_fill_in_are_forgiven_and_taken_out_again() -> None:
    schemas = {"read": {"properties": {"limit": {"default": 10}}}}
    sent = [user("go"), model(fc(CLAUDE_ID, {"p": 1, "limit": 10})), user(fr(CLAUDE_ID))]
    restored = [user("go"), model(fc("fc-1", signature=G1)), user(fr("fc-1"))]
    assert replayed(CALLED[:1], *sent, schemas=schemas) == restored
    assert replayed(CALLED[:1], *sent) == sent
    assert replayed(CALLED[:1], *sent, schemas={"write": schemas["read"]}) == sent
    changed = [user("go"), model(fc(CLAUDE_ID, {"p": 1, "limit": 11})), user(fr(CLAUDE_ID))]
    assert replayed(CALLED[:1], *changed, schemas=schemas) == changed


def test_defaults_are_taken_out_of_a_call_that_keeps_its_id() -> None:
    schemas = {"read": {"properties": {"limit": {"default": 10}}}}
    for call_id, items in (("fc-1", CALLED[:1]), ("toolu_1", CALLED[:1]), ("", NAMELESS[:1])):
        sent = [user("go"), model(fc(call_id, {"p": 1, "limit": 10})), user(fr(call_id))]
        restored = [user("go"), model(fc(call_id, signature=G1)), user(fr(call_id))]
        assert replayed(items, *sent, schemas=schemas) == restored
        signed = [user("go"), model(fc(call_id, {"p": 1, "limit": 10}, G2)), user(fr(call_id))]
        kept = [user("go"), model(fc(call_id, signature=G2)), user(fr(call_id))]
        assert replayed(items, *signed, schemas=schemas) == kept


def test_ids_that_an_upstream_uses_again_are_told_apart_by_their_turns() -> None:
    truth = [
        user("go"),
        model(fc("call_0", {"n": 1}, G1)),
        model(fr("call_0")),
        model(fc("call_0", {"n": 2}, G2)),
        model(fr("call_0")),
    ]
    sent = [user("go"), model(fc("call_0", {"n": 1})), truth[2], model(fc("call_0", {"n": 2})), truth[4]]
    assert replayed(chain(*truth), *sent) == truth


def test_calls_that_are_equal_with_equal_ids_are_all_restored() -> None:
    truth = [
        user("go"),
        model(fc("fc-1", signature=G1)),
        model(fr("fc-1")),
        model(fc("fc-1", signature=G2)),
        model(fr("fc-1")),
    ]
    sent = [
        user("go"),
        model(fc(CLAUDE_ID)),
        model(fr(CLAUDE_ID)),
        model(fc(CLAUDE_ID)),
        model(fr(CLAUDE_ID)),
    ]
    assert replayed(chain(*truth), *sent) == truth


def test_arguments_in_a_text_are_put_back_as_what_they_say() -> None:
    item = CallPart(name="read", args='{"p":1}', call_id="fc-1", signature=G1, content_index=1)
    claude_id = claude_call_id("fc-1", "read", '{"p":1}')
    history = replayed((item,), user("go"), model(fc(claude_id, '{"p":1}')), user(fr(claude_id)))
    assert history[1:] == [model(fc("fc-1", {"p": 1}, G1)), user(fr("fc-1"))]


# -- calls without ids

NAMELESS = chain(user("go"), model(fc("", signature=G1), fc("", {"p": 2}), fc("", signature=G2)))


def test_a_call_without_an_id_is_found_by_its_number_among_equal_ones() -> None:
    sent = model(fc(""), fc("", {"p": 2}), fc(""))
    assert replayed(NAMELESS, user("go"), sent)[1] == model(
        fc("", signature=G1), fc("", {"p": 2}), fc("", signature=G2)
    )
    assert replayed(NAMELESS, user("go"), model("so", fc("")))[1] == model("so", fc("", signature=G1))


@pytest.mark.parametrize(
    "history",
    [
        [user("edited"), model(fc(""))],
        [user("go"), user("more"), model(fc(""))],
        [user("go"), model(fc("", {"p": 3}))],
        [user("go"), model(fc("", name="write"))],
        [user("go"), model(fc(CLAUDE_ID))],
        [user("go")],
    ],
)
def test_it_needs_the_same_conversation_and_an_equal_call_that_is_nobody_else_s(
    history: list[JsonObject],
) -> None:
    assert replayed(NAMELESS, *history) == history


def test_a_call_that_the_client_gave_another_id_is_signed_and_keeps_it() -> None:
    """Clients of other protocols make ids of their own, whether calls had one or not."""
    for items in (NAMELESS, CALLED):
        history = replayed(items, user("go"), model(fc("toolu_1")), user(fr("toolu_1")))
        assert history[1:] == [model(fc("toolu_1", signature=G1)), user(fr("toolu_1"))]


def test_a_call_with_the_id_of_another_one_is_that_one() -> None:
    items = chain(user("go"), model(fc("fc-1", signature=G1)), model(fr("fc-1")), model(fc("fc-2")))
    history = [user("go"), model(fc("fc-2")), model(fr("fc-2"))]
    assert replayed(items, *history) == history


def test_a_call_that_lost_its_id_is_signed_and_gets_none() -> None:
    history = replayed(CALLED[:1], user("go"), model(fc("")), user(fr("")))
    assert history[1:] == [model(fc("", signature=G1)), user(fr(""))]


def test_an_old_item_needs_the_only_equal_call_in_the_history() -> None:
    old = (without(NAMELESS[0], "target_occurrence", "context_hash", "content_index", "part_index"),)
    found = replayed(old, user("x"), model("y"), user("z"), model("so", fc("")), user(fr("")))
    assert found[3] == model("so", fc("", signature=G1))
    for history in ([user("x"), model(fc(""), fc(""))], [user("x"), model(fc(CLAUDE_ID))], [user("x")]):
        assert replayed(old, *history) == history
    placed = (without(NAMELESS[0], "target_occurrence"),)
    assert replayed(placed, user("x"), model(fc(""))) == [user("x"), model(fc(""))]
    assert replayed(placed, user("go"), model(fc("")))[1] == model(fc("", signature=G1))


# -- calls that a client left out


def test_rp_78_a_call_that_was_left_out_is_put_in_front_of_its_response() -> None:
    """Given a functionResponse fc-1 without its call, expect a model's content with the call and G1 right
    before it.
    """
    for call_id in ("fc-1", CLAUDE_ID):
        history = replayed(CALLED[:1], user("go"), user(fr(call_id, name="")), user("more"))
        assert history == [user("go"), model(fc("fc-1", signature=G1)), user(fr("fc-1")), user("more")]


def test_several_calls_are_put_back_together_and_their_responses_in_order() -> None:
    second = claude_call_id("fc-2", "read", {"p": 1})
    history = replayed(CALLED, user("go"), user(fr(second, result="2"), fr(CLAUDE_ID, result="1")))
    assert history == [
        user("go"),
        model(fc("fc-1", signature=G1), fc("fc-2")),
        user(fr("fc-1", result="1"), fr("fc-2", result="2")),
    ]


def test_a_call_goes_behind_the_text_that_it_came_with() -> None:
    items = chain(user("go"), model("so", fc("fc-1", signature=G1)))
    history = replayed(items, user("go"), model("so"), user(fr("fc-1")))
    assert history == [user("go"), model("so", fc("fc-1", signature=G1)), user(fr("fc-1"))]


def test_turns_that_follow_each_other_are_all_put_back() -> None:
    truth = [
        user("go"),
        model(fc("fc-1", signature=G1)),
        model(fr("fc-1")),
        model(fc("fc-2", signature=G2)),
        model(fr("fc-2")),
        model("done"),
    ]
    assert replayed(chain(*truth), user("go"), model(fr("fc-1")), model(fr("fc-2")), model("done")) == truth


def test_an_unsigned_call_that_is_put_back_first_gets_the_sentinel() -> None:
    items = chain(user("go"), model(fc("fc-1"), fc("fc-2")))
    history = replayed(items, user("go"), user(fr("fc-1"), fr("fc-2")))
    assert history[1] == model(fc("fc-1", signature=SENTINEL), fc("fc-2"))
    items = chain(user("go"), model("so", fc("fc-1")))
    assert replayed(items, user("go"), model("so"), user(fr("fc-1")))[1] == model(
        "so", fc("fc-1", signature=SENTINEL)
    )


@pytest.mark.parametrize(
    "history",
    [
        [user("edited"), user(fr("fc-1"))],
        [user("go"), user(fr("other"))],
        [user("go"), user(fr("fc-1", name="write"))],
        [user("go"), model("so"), user(fr("fc-1"))],
    ],
)
def test_a_call_is_not_put_where_it_was_not(history: list[JsonObject]) -> None:
    """The last one: before the response there is a text by the model that was not there."""
    items = (
        CALLED[:1]
        if history[1]["role"] == "user"
        else (msgspec.structs.replace(CALLED[0], context_hash="x"),)
    )
    assert replayed(items, *history) == history


def test_an_equal_call_does_not_stand_in_for_one_whose_response_is_there() -> None:
    history = replayed(CALLED, user("go"), model(fc("fc-2")), model(fr("fc-1"), fr("fc-2")))
    assert history[1:] == [model(fc("fc-2"), fc("fc-1", signature=G1)), model(fr("fc-2"), fr("fc-1"))]


def test_a_call_is_not_put_among_responses() -> None:
    timeless = (without(CALLED[0], "context_hash", "target_occurrence"),)
    history = replayed(timeless, user("go"), model(fc("x")), model(fr("x")), model(fr("fc-1")))
    assert history == [
        user("go"), model(fc("x")), model(fr("x")), model(fc("fc-1", signature=G1)), model(fr("fc-1")),
    ]  # fmt: skip


def test_everything_may_be_at_the_very_beginning() -> None:
    """A history that a client cut there; nothing comes before it, which matches everything."""
    assert replayed(chain(model(text("a", G1)), user("b")), model("a")) == [model(text("a", G1))]
    assert replayed(chain(model(fc("", signature=G1))), model(fc(""))) == [model(fc("", signature=G1))]
    called = chain(model("so", fc("fc-1", signature=G1)))
    assert replayed(called, model("so"), user(fr("fc-1"))) == [
        model("so", fc("fc-1", signature=G1)),
        user(fr("fc-1")),
    ]
    assert replayed(called, user(fr("fc-1")), user("x"), model("so")) == [
        model(fc("fc-1", signature=G1)),
        user(fr("fc-1")),
        user("x"),
        model("so"),
    ]


# -- conversations

MARK = st.sampled_from(["a", "b", ""])


class Conversation:
    """What was really sent, and what clients make of it."""

    def __init__(
        self, turns: list[tuple[str, list[tuple[str, bool]], int, bool]], *, with_ids: bool, fork: str = ""
    ) -> None:
        """fork: what signatures after the first turn are told by."""
        self.contents: list[JsonObject] = []
        self._signatures = 0
        self._fork = ""
        for number, (asked, said, calls, signed) in enumerate(turns):
            self._fork = fork if number else ""
            self.contents.append(user(asked or "go"))
            parts: list[Json] = [
                text(what, self._signature() if by else "") if what else thought("hm", self._signature())
                for what, by in said
            ]
            ids = [f"fc-{number}-{call}" if with_ids else "" for call in range(calls)]
            parts += [
                fc(call_id, {"n": call % 2}, self._signature() if signed and not call else "")
                for call, call_id in enumerate(ids)
            ]
            self.contents.append(model(*parts))
            if ids:
                self.contents.append(model(*(fr(call_id) for call_id in ids)))

    def _signature(self) -> str:
        self._signatures += 1
        return f"signature of its own {self._fork}{self._signatures}"

    def chain(self) -> tuple[Item, ...]:
        return chain(*self.contents)

    def stripped(self, *, claude: bool, leave_out: bool = False) -> list[JsonObject]:
        """Without signatures; under Claude's ids; without the calls."""
        ids = {
            call["id"]: claude_call_id(call["id"], call["name"], call["args"])  # type: ignore[index,call-overload,arg-type]
            for content in self.contents
            for part in content["parts"]  # type: ignore[union-attr]
            if (call := part.get("functionCall")) and "id" in call  # type: ignore[union-attr,operator]
        }
        found = []
        for content in self.contents:
            parts = [
                {name: value for name, value in part.items() if name != "thoughtSignature"}  # type: ignore[union-attr]
                for part in content["parts"]  # type: ignore[union-attr]
            ]
            for part in parts:
                for member in ("functionCall", "functionResponse"):
                    if claude and member in part and part[member].get("id"):  # type: ignore[union-attr]
                        part[member] = {**part[member], "id": ids[part[member]["id"]]}  # type: ignore[dict-item,index,call-overload]
            if leave_out:
                parts = [part for part in parts if "functionCall" not in part]
            if parts or not leave_out:
                found.append({**content, "parts": parts})
        return found


TURNS = st.lists(
    st.tuples(MARK, st.lists(st.tuples(MARK, st.booleans()), max_size=3), st.integers(0, 3), st.booleans()),
    max_size=5,
)


@given(TURNS, st.booleans())
def test_a_history_that_has_all_its_signatures_stays_the_same_object(turns: Any, with_ids: bool) -> None:
    conversation = Conversation(turns, with_ids=with_ids)
    payload = request(*conversation.contents)
    assert with_replay(payload, conversation.chain()) is payload


@given(TURNS, st.booleans(), st.booleans())
def test_a_history_that_lost_its_signatures_gets_them_all_back(
    turns: Any, with_ids: bool, claude: bool
) -> None:
    conversation = Conversation(turns, with_ids=with_ids)
    assert replayed(conversation.chain(), *conversation.stripped(claude=claude)) == conversation.contents


@given(TURNS, st.booleans())
def test_a_history_that_lost_its_calls_gets_them_back(turns: Any, claude: bool) -> None:
    """All but the sentinels that unsigned ones get, and contents that were nothing."""
    turns = [(asked, said, calls, True) for asked, said, calls, _ in turns if said or calls]
    conversation = Conversation(turns, with_ids=True)
    sent = conversation.stripped(claude=claude, leave_out=True)
    assert replayed(conversation.chain(), *sent) == conversation.contents


@given(TURNS, TURNS, st.booleans(), st.booleans(), st.integers(0, 8))
def test_replaying_twice_does_the_same_as_once(
    turns: Any, others: Any, with_ids: bool, claude: bool, keep: int
) -> None:
    """Even into another conversation, one that forked, and one that is cut; replayed() asks for it."""
    items = Conversation(turns, with_ids=with_ids).chain()
    other = Conversation([*(turns[:1] or [("", [], 0, False)]), *others], with_ids=with_ids, fork="other")
    for history in (
        other.contents,
        other.stripped(claude=claude),
        other.stripped(claude=True, leave_out=True),
    ):
        replayed(items, *history[:keep])
        replayed(items, *history[keep:])


def test_without_items_nothing_is_done() -> None:
    payload = request(user("go"), model(fc("fc-1")))
    assert with_replay(payload, ()) is payload
    assert with_replay({}, CALLED) == {}
    assert contents_of(with_replay({"contents": [user("go"), model(fc("fc-1"))]}, CALLED[:1]))[1] == model(
        fc("fc-1", signature=G1)
    )


def test_hashes_are_of_what_was_signed() -> None:
    (item,) = chain(user("go"), model(text("a", G1)))
    assert isinstance(item, ThoughtSignature)
    assert item.target_hash == text_hash("text", "a")
