import pytest

from gateway.kernel.clock import FakeClock, SystemClock


def test_the_fake_clock_moves_only_when_told_to() -> None:
    clock = FakeClock(1000)
    assert (clock.now_ms(), clock.monotonic()) == (1000, 0.0)
    clock.advance(1.5)
    assert (clock.now_ms(), clock.monotonic()) == (2500, 1.5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_the_system_clock_tells_unix_milliseconds() -> None:
    clock = SystemClock()
    assert clock.now_ms() > 1_700_000_000_000
    assert clock.monotonic() <= clock.monotonic()
