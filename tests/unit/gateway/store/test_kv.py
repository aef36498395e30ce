import pytest

from gateway.kernel.errors import GatewayError, InvalidKVArgument
from gateway.store.kv import (
    KVSetOptions,
    check_options,
    checked_key,
    checked_ttl,
    whole_ms,
    whole_seconds,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (KVSetOptions(ex=1, px=1), "home kv: EX and PX are mutually exclusive"),
        (KVSetOptions(ex=-1), "home kv: ttl must not be negative"),
        (KVSetOptions(px=-0.001), "home kv: ttl must not be negative"),
        (KVSetOptions(nx=True, xx=True), "home kv: NX and XX are mutually exclusive"),
        # Several at once: the first rule of the order speaks.
        (KVSetOptions(ex=1, px=1, nx=True, xx=True), "home kv: EX and PX are mutually exclusive"),
        (KVSetOptions(ex=-1, px=1, nx=True, xx=True), "home kv: ttl must not be negative"),
    ],
)
def test_conflicting_options_are_refused_in_order(options: KVSetOptions, message: str) -> None:
    with pytest.raises(InvalidKVArgument) as refusal:
        check_options(options)
    assert str(refusal.value) == message


def test_a_refusal_is_ours_and_a_value_error_and_not_to_be_repeated() -> None:
    error = InvalidKVArgument("x")
    assert isinstance(error, GatewayError)
    assert isinstance(error, ValueError)
    assert not error.retryable


def test_options_that_do_not_conflict_pass() -> None:
    for options in (KVSetOptions(), KVSetOptions(ex=1, nx=True), KVSetOptions(px=0.001, xx=True)):
        check_options(options)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (b"k", b"k"),
        (b" k ", b"k"),
        ("\u3000clé\u00a0".encode(), "clé".encode()),
        (b"a b", b"a b"),
        (b"\x00\xff\xfe", b"\x00\xff\xfe"),
        (b"\xffk\n", b"\xffk"),
    ],
)
def test_a_key_is_used_without_the_white_space_at_its_ends(given: bytes, used: bytes) -> None:
    assert checked_key(given) == used


@pytest.mark.parametrize("key", [b"", b" ", b"\t\n", "\u3000".encode()])
def test_a_key_must_not_be_empty(key: bytes) -> None:
    with pytest.raises(InvalidKVArgument, match="home kv: key is empty"):
        checked_key(key)


def test_seconds_and_milliseconds_are_rounded_up_and_nothing_else_is_added() -> None:
    assert [whole_seconds(s) for s in (0.0005, 1, 1.2, 3600, 0.1 + 0.2 + 0.7)] == [1, 1, 2, 3600, 1]
    assert [whole_ms(s) for s in (0.0005, 0.001, 1.1, 4.35, 1.0001)] == [1, 1, 1100, 4350, 1001]


@pytest.mark.parametrize("ttl_s", [0, -1])
def test_an_end_that_is_not_in_the_future_is_refused(ttl_s: float) -> None:
    with pytest.raises(InvalidKVArgument, match="positive"):
        checked_ttl(ttl_s)
