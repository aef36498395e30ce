import pytest

from gateway.environ import SettingsError
from gateway.settings import load


def test_websockets_are_served_unless_they_are_switched_off() -> None:
    settings, warnings = load({})
    assert (settings.responses.websocket_enabled, settings.responses.websocket_max_age_s) == (True, 3300)
    settings, more = load({"RESPONSES_WEBSOCKET_ENABLED": "false", "RESPONSES_WEBSOCKET_MAX_AGE_S": "60"})
    assert (settings.responses.websocket_enabled, settings.responses.websocket_max_age_s) == (False, 60)
    assert warnings == more == []


@pytest.mark.parametrize("age", ["0", "-1", "inf", "nan", "long"])
def test_an_age_that_makes_no_sense_is_refused(age: str) -> None:
    with pytest.raises(SettingsError, match="RESPONSES_WEBSOCKET_MAX_AGE_S"):
        load({"RESPONSES_WEBSOCKET_MAX_AGE_S": age})


def test_the_time_of_a_turn_has_a_limit() -> None:
    settings, _ = load({"TURN_TIMEOUT_S": "5"})
    assert settings.turns.timeout_s == 5
    with pytest.raises(SettingsError, match="TURN_TIMEOUT_S"):
        load({"TURN_TIMEOUT_S": "0"})
