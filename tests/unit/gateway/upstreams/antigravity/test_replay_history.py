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


def test_nothing_written_is_nothing_changed() -> None:
    history = WorkingHistory(HISTORY)
    assert history.payload() is HISTORY
    assert not history.changed


def test_what_is_written_is_a_copy_and_what_is_not_is_shared() -> None:
    with Unchanged(HISTORY):
        history = WorkingHistory(HISTORY)
        history.sign(Place(history.key(1), 1), G1)
        history.append(3, fc("z"))
        done = contents(history.payload())
    assert done[1] == model(thought("a"), text("a", G1), "a", fc("x"), fc("y", {"n": 1}))
    assert done[3] == model("b", fc("x"), fc(""), fc("z"))
    assert done[0] is contents_of(HISTORY)[0]
    assert history.calls["z"] == [Place(history.key(3), 3)]


def test_a_signature_is_in_one_place_of_its_content() -> None:
    payload = request(model(text("a", G1), text("b", G2)), model(text("c", G1)))
    history = WorkingHistory(payload)
    history.sign(Place(history.key(0), 1), G1)
    assert history.payload() == request(model("a", text("b", G1)), model(text("c", G1)))


def test_contents_keep_their_keys_when_others_come_before_them() -> None:
    history = WorkingHistory(HISTORY)
    keys = [history.key(index) for index in range(4)]
    context = history.contexts.before(2)
    for name in ("first", "second"):
        history.insert(2 if name == "first" else 3, model(fc(name)))
    history.insert(0, model(fc("zero")))
    assert [history.index(key) for key in keys] == [1, 2, 5, 6]
    assert [history.index(history.calls[name][0].key) for name in ("zero", "first", "second")] == [0, 3, 4]
    assert [content["role"] for content in contents(history.payload())] == [
        "model", "user", "model", "model", "model", "user", "model",
    ]  # fmt: skip
    assert history.contexts.before(2) != context


def test_a_restored_call_is_known_by_its_new_value() -> None:
    history = WorkingHistory(HISTORY)
    place = history.calls["y"][0]
    assert history.equal_calls("read", b'{"n":1}') == [place]
    before = history.contexts.before(2)
    history.restore(place, {"name": "read", "id": "n", "args": {"n": 2}}, G1)
    assert history.part(place) == fc("n", {"n": 2}, G1)
    assert history.args(place) == b'{"n":2}'
    assert history.equal_calls("read", b'{"n":1}') == []
    assert history.equal_calls("read", b'{"n":2}') == [place]
    assert history.contexts.before(2) != before
    assert history.args(Place(history.key(0), 0)) == b""


def test_responses_follow_the_id_of_their_call() -> None:
    history = WorkingHistory(HISTORY)
    history.rename_responses("x", "native", "read2")
    assert history.responses["native"] == [Place(history.key(2), 0)]
    assert "x" not in history.responses
    assert contents(history.payload())[2] == user(fr("native", name="read2"), fr("y"))


def test_responses_are_ordered_once_all_their_calls_are_there() -> None:
    history = WorkingHistory(request(model(fc("a")), user(fr("b"), "so", fr("a")), user(fr("a"))))
    history.order_responses(1, 0)
    assert not history.changed
    history.append(0, fc("b"))
    history.order_responses(1, 0)
    assert contents(history.payload())[1] == user(fr("a"), "so", fr("b"))
    assert history.responses["a"] == [Place(history.key(1), 0), Place(history.key(2), 0)]
    assert history.responses["b"] == [Place(history.key(1), 2)]
