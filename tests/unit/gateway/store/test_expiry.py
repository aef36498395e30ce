import pytest

from gateway.kernel.clock import FakeClock
from gateway.store.expiry import Expiries


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def expiries(clock: FakeClock) -> Expiries:
    return Expiries(clock)


def test_keys_are_due_once_in_order_of_their_ends(expiries: Expiries, clock: FakeClock) -> None:
    for key, ttl_s in ((b"c", 3), (b"a", 1), (b"b", 2)):
        expiries.set(key, ttl_s)
    clock.advance(0.999)
    assert expiries.due() == []
    clock.advance(0.001)
    assert expiries.due() == [b"a"]
    clock.advance(5)
    assert expiries.due() == [b"b", b"c"]
    assert expiries.due() == []
    assert len(expiries) == 0


def test_an_end_can_be_put_off(expiries: Expiries, clock: FakeClock) -> None:
    expiries.set(b"a", 1)
    expiries.set(b"a", 10)
    clock.advance(9)
    assert expiries.due() == []
    assert expiries.left_s(b"a") == 1
    clock.advance(1)
    assert expiries.due() == [b"a"]


def test_an_end_can_be_brought_forward(expiries: Expiries, clock: FakeClock) -> None:
    expiries.set(b"a", 100)
    expiries.set(b"a", 1)
    clock.advance(1)
    assert expiries.due() == [b"a"]
    clock.advance(100)
    assert expiries.due() == [], "the look that was queued first finds nothing"


def test_an_end_brought_forward_and_put_off_again_is_due_once(expiries: Expiries, clock: FakeClock) -> None:
    expiries.set(b"a", 100)
    expiries.set(b"a", 1)
    expiries.set(b"a", 200)
    clock.advance(150)
    assert expiries.due() == []
    clock.advance(50)
    assert expiries.due() == [b"a"]
    assert len(expiries) == 0


def test_a_cleared_key_does_not_end(expiries: Expiries, clock: FakeClock) -> None:
    expiries.set(b"a", 1)
    expiries.clear(b"a")
    assert expiries.left_s(b"a") is None
    clock.advance(1)
    assert expiries.due() == []
    expiries.clear(b"never set")


def test_a_key_can_be_set_again_after_its_end(expiries: Expiries, clock: FakeClock) -> None:
    expiries.set(b"a", 1)
    clock.advance(1)
    expiries.due()
    expiries.set(b"a", 1)
    clock.advance(1)
    assert expiries.due() == [b"a"]


def test_putting_off_a_thousand_times_queues_one_look(expiries: Expiries) -> None:
    for i in range(1000):
        expiries.set(b"a", 10 + i)
    assert len(expiries) == 1
