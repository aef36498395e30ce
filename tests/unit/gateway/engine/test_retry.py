import pytest

from gateway.engine.retry import MAX_ATTEMPTS, ROUND_PAUSE_S, Plan
from gateway.kernel.errors import WorkerLost
from gateway.turn.ports import Again, AttemptFailed


def failure(again: Again) -> AttemptFailed:
    return AttemptFailed(WorkerLost("gone"), again=again)


def test_no_means_no() -> None:
    plan = Plan(candidates=3)
    plan.begin()
    assert not plan.after(failure("no"))


def test_a_lost_context_is_tried_fresh_once() -> None:
    plan = Plan(candidates=1)
    plan.begin()
    assert plan.after(failure("fresh"))
    assert plan.fresh
    plan.begin()
    assert not plan.after(failure("fresh"))


def test_next_moves_along_the_candidates_to_their_end() -> None:
    plan = Plan(candidates=2)
    plan.begin()
    assert plan.after(failure("next"))
    assert plan.index == 1
    plan.begin()
    assert not plan.after(failure("next"))


@pytest.mark.parametrize(("again", "most"), [("retry", MAX_ATTEMPTS), ("fresh", 2), ("next", 100)])
def test_attempts_are_bounded(again: Again, most: int) -> None:
    plan = Plan(candidates=100)
    while True:
        plan.begin()
        if not plan.after(AttemptFailed(WorkerLost("gone"), again=again, or_again=True)):
            break
    assert plan.attempts == most


def test_all_candidates_may_be_tried_once_more_after_a_pause() -> None:
    plan = Plan(candidates=2)
    indexes = []
    while True:
        plan.begin()
        indexes.append((plan.index, plan.pause_s))
        if not plan.after(AttemptFailed(WorkerLost("gone"), again="next", or_again=True)):
            break
    assert indexes == [(0, 0.0), (1, 0.0), (0, ROUND_PAUSE_S), (1, 0.0)]
