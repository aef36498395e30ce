from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.spread import ranked

NAMES = st.dictionaries(st.text(min_size=1, max_size=4), st.floats(0.1, 10), min_size=1, max_size=6)


@given(st.text(max_size=8), NAMES)
def test_everybody_is_ranked_once_and_always_alike(key: str, weights: dict[str, float]) -> None:
    order = ranked(key, weights)
    assert sorted(order) == sorted(weights)
    assert ranked(key, dict(reversed(weights.items()))) == order


@given(st.text(max_size=8), NAMES, st.data())
def test_who_leaves_moves_only_its_own_keys(key: str, weights: dict[str, float], data: st.DataObject) -> None:
    order = ranked(key, weights)
    gone = data.draw(st.sampled_from(order))
    left = {name: weight for name, weight in weights.items() if name != gone}
    assert ranked(key, left) == [name for name in order if name != gone]


def test_names_win_as_often_as_their_weights_say() -> None:
    weights = {"a": 1.0, "b": 3.0, "c": 6.0}
    wins = Counter(ranked(f"conversation {number}", weights)[0] for number in range(20_000))
    for name, weight in weights.items():
        assert wins[name] / 20_000 == pytest.approx(weight / 10, abs=0.015)
