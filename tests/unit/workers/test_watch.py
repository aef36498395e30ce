"""When an answer has taken too long, and the words for it."""

from gateway.kernel.errors import ErrorKind
from workers.watch import Limits, Watch


def test_an_answer_has_one_limit_until_it_begins_and_another_between_events() -> None:
    watch = Watch("r", 100.0, Limits(first_event_s=60, idle_s=10, total_s=600))
    assert watch.left_s(130.0) == 30.0
    assert watch.silence_limit_s == 60
    watch.seen(140.0)
    assert watch.left_s(145.0) == 5.0
    assert watch.silence_limit_s == 10
    assert watch.left_s(151.0) < 0


def test_the_error_names_request_limit_and_when_something_was_said() -> None:
    watch = Watch("r-1", 100.0, Limits())
    assert watch.timeout(60.0).message == (
        "chat stream timeout request_id=r-1 timeout=60s first_chunk_at=-s last_chunk_at=-s"
    )
    watch.seen(100.25)
    watch.seen(101.5)
    ending = watch.timeout(599.98765)
    assert ending.message == (
        "chat stream timeout request_id=r-1 timeout=599.988s first_chunk_at=0.250s last_chunk_at=1.500s"
    )
    assert (ending.outcome, ending.kind, ending.stop) == ("failed", ErrorKind.UPSTREAM_TIMEOUT, True)
