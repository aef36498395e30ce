from gateway.protocols.gemini.calls import Calls


def calls(*pairs: tuple[str, str]) -> Calls:
    found = Calls()
    for call_id, name in pairs:
        found.add(call_id, name)
    return found


def answered(found: Calls, call_id: str | None, name: str | None) -> str | None:
    call = found.answered(call_id, name)
    return None if call is None else call.call_id


def test_the_id_comes_before_the_name_and_the_oldest_first() -> None:
    found = calls(("c1", "a"), ("c2", "a"), ("c3", "b"))
    assert answered(found, "c3", "a") == "c3"
    assert answered(found, None, "a") == "c1"
    assert answered(found, "own", "a") == "c2"


def test_a_call_is_answered_once_under_either_key() -> None:
    found = calls(("c1", "a"))
    assert answered(found, None, "a") == "c1"
    assert answered(found, "c1", None) is None
    found.add("c2", "a")
    assert answered(found, "c2", None) == "c2"
    assert answered(found, None, "a") is None


def test_nothing_answers_to_no_key() -> None:
    assert answered(calls(("", "")), "", None) is None
