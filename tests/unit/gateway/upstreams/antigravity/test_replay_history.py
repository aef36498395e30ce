from collections.abc import Mapping, Sequence

from gateway.upstreams.antigravity.history import contents_of, text_hash
from gateway.upstreams.antigravity.replay_history import Place, WorkingHistory
from tests.support.signature_chains import (
    G1,
    G2,
    Unchanged,
    contents,
    fc,
    fr,
    model,
    request,
    text,
    thought,
    user,
)

HISTORY = request(
    user("go"),
    model(thought("a"), "a", "a", fc("x"), fc("y", {"n": 1})),
    user(fr("x"), fr("y")),
    model("b", fc("x"), fc("")),
)


def is_right(history: WorkingHistory) -> bool:
    """Whether what was worked out before it was changed is what a history made anew would say."""

    def known(of: WorkingHistory) -> object:
        def flat(index: Mapping[str, Sequence[Place]]) -> object:
            places = {name: [(of.index(p.key), p.part) for p in found] for name, found in index.items()}
            return {name: found for name, found in places.items() if found}

        contexts = [of.contexts.before(index) for index in range(len(of) + 1)]
        equal = [(of.index(p.key), p.part) for p in of.equal_calls("read", b'{"p":1}')]
        return contexts, equal, flat(of.calls), flat(of.responses)

    return known(history) == known(WorkingHistory(history.payload()))


def worked_out() -> WorkingHistory:
    history = WorkingHistory(HISTORY)
    assert is_right(history)
    return history


def test_parts_are_found_by_id_by_text_and_by_value() -> None:
    history = WorkingHistory(HISTORY)
    first, third = history.key(1), history.key(3)
    assert history.calls["x"] == [Place(first, 3), Place(third, 1)]
    assert history.responses["y"] == [Place(history.key(2), 1)]
    assert history.segments(1) == {
        ("thought", text_hash("thought", "a")): [0],
        ("text", text_hash("text", "a")): [1, 2],
    }
    assert history.equal_calls("read", b'{"p":1}') == [Place(first, 3), Place(third, 1), Place(third, 2)]
    assert history.equal_calls("write", b'{"p":1}') == []
    assert history.part(Place(first, 3)) == fc("x")
    assert (history.role(3), len(history), len(history.parts(1))) == ("model", 4, 5)
    assert history.args(Place(history.key(0), 0)) == b""


def test_nothing_written_is_nothing_changed() -> None:
    history = worked_out()
    assert history.payload() is HISTORY
    assert not history.changed


def test_what_is_written_is_a_copy_and_what_is_not_is_shared() -> None:
    with Unchanged(HISTORY):
        history = worked_out()
        history.sign(Place(history.key(1), 1), G1)
        history.append(3, fc("z"))
        done = contents(history.payload())
    assert done[1] == model(thought("a"), text("a", G1), "a", fc("x"), fc("y", {"n": 1}))
    assert done[3] == model("b", fc("x"), fc(""), fc("z"))
    assert done[0] is contents_of(HISTORY)[0]
    assert history.calls["z"] == [Place(history.key(3), 3)]
    assert is_right(history)


def test_a_signature_is_in_one_place_of_its_content() -> None:
    payload = request(model(text("a", G1), text("b", G2)), model(text("c", G1)))
    history = WorkingHistory(payload)
    history.sign(Place(history.key(0), 1), G1)
    assert history.payload() == request(model("a", text("b", G1)), model(text("c", G1)))


def test_contents_keep_their_keys_when_others_come_before_them() -> None:
    history = worked_out()
    keys = [history.key(index) for index in range(4)]
    history.insert(2, model(fc("first")))
    assert is_right(history)
    history.insert(3, model(fc("second")))
    history.insert(0, model(fc("zero")))
    assert [history.index(key) for key in keys] == [1, 2, 5, 6]
    assert [history.index(history.calls[name][0].key) for name in ("zero", "first", "second")] == [0, 3, 4]
    roles = [content["role"] for content in contents(history.payload())]
    assert roles == ["model", "user", "model", "model", "model", "user", "model"]


def test_a_restored_call_is_known_by_its_new_value() -> None:
    history = worked_out()
    place = history.calls["y"][0]
    assert history.equal_calls("read", b'{"n":1}') == [place]
    history.restore(place, {"name": "read", "id": "y", "args": {"n": 2}}, G1)
    assert history.part(place) == fc("y", {"n": 2}, G1)
    assert history.args(place) == b'{"n":2}'
    assert history.equal_calls("read", b'{"n":1}') == []
    assert history.equal_calls("read", b'{"n":2}') == [place]
    assert is_right(history)
    history.restore(place, {"name": "read", "id": "y", "args": {"n": 2}}, "")
    assert history.part(place) == fc("y", {"n": 2})


def test_responses_follow_the_id_of_their_call() -> None:
    history = worked_out()
    history.rename_responses("x", "native", "read2")
    assert history.responses["native"] == [Place(history.key(2), 0)]
    assert contents(history.payload())[2] == user(fr("native", name="read2"), fr("y"))
    assert is_right(history)


def test_responses_are_ordered_once_all_their_calls_are_there() -> None:
    history = WorkingHistory(request(model(fc("a")), user(fr("b"), "so", fr("a")), user(fr("a"))))
    history.order_responses(1, 0)
    assert not history.changed
    history.append(0, fc("b"))
    assert is_right(history)
    history.order_responses(1, 0)
    assert contents(history.payload())[1] == user(fr("a"), "so", fr("b"))
    assert is_right(history)
