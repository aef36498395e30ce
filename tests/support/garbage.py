"""What is gone when nobody holds it any more, without anybody looking for garbage."""

import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest


@contextlib.contextmanager
def all_freed(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Iterator[None]:
    """Every object of that class which the module makes in the block must have gone when the block ends."""
    kind = getattr(module, name)
    made: list[weakref.ref[Any]] = []

    def noted(*args: Any, **options: Any) -> Any:
        one = kind(*args, **options)
        made.append(weakref.ref(one))
        return one

    monkeypatch.setattr(module, name, noted)
    gc.collect()
    gc.disable()
    try:
        yield
        assert made
        assert [one() for one in made if one() is not None] == []
    finally:
        gc.enable()
