"""What a frame says about itself."""

from gateway.turn.events import Heartbeat, TextDelta, TurnCompleted, TurnStarted
from gateway.turn.frame import Frame


def test_a_frame_has_content_as_soon_as_one_of_its_events_is() -> None:
    assert Frame((TurnStarted(model="m", created_at=1), TextDelta(0, "a"))).has_content
    assert not Frame((TurnStarted(model="m", created_at=1), Heartbeat())).has_content
    assert not Frame(()).has_content


def test_a_frame_is_terminal_when_its_last_event_is() -> None:
    assert Frame((TextDelta(0, "a"), TurnCompleted("stop"))).is_terminal
    assert not Frame((TextDelta(0, "a"),)).is_terminal
    assert not Frame(()).is_terminal
