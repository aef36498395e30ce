import pytest

from gateway.kernel.json import JsonError, dumps, dumps_canonical, fragment, loads


def test_text_is_kept_as_utf8_and_members_in_order() -> None:
    assert dumps({"b": "né 灵码", "a": 1}) == '{"b":"né 灵码","a":1}'.encode()


def test_canonical_bytes_do_not_depend_on_the_order_of_members() -> None:
    assert dumps_canonical({"b": {"y": 1, "x": 2}, "a": 1}) == dumps_canonical(
        {"a": 1, "b": {"x": 2, "y": 1}}
    )


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"NaN", b'{"a":1}x'])
def test_what_is_no_json_is_an_error(data: bytes) -> None:
    with pytest.raises(JsonError):
        loads(data)


def test_a_fragment_is_written_as_it_is() -> None:
    assert dumps({"n": fragment("1e+21")}) == b'{"n":1e+21}'
