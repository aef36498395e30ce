import gc
from collections.abc import Iterator

import pytest

from gateway.kernel import memory


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_was_imported_is_left_alone_and_the_young_are_looked_at_rarely() -> None:
    memory.settle()
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[0] == memory.YOUNG


def test_garbage_that_holds_itself_still_goes() -> None:
    memory.settle()

    class Knot:
        alive = 0

        def __init__(self) -> None:
            self.me = self
            Knot.alive += 1

        def __del__(self) -> None:
            Knot.alive -= 1

    for _ in range(2 * memory.YOUNG):
        Knot()
    assert Knot.alive < 2 * memory.YOUNG
