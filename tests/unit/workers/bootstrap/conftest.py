from collections.abc import Iterator

import pytest

from tests.fakes.gallery import Gallery, running


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gallery]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running() as one:
        yield one
