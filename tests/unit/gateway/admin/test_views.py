"""Shapes of health and statistics."""

from gateway.admin.views import health, statistics
from gateway.jobs.messages import LOGIN_REMEDY, InstanceRecord


def instance(name: str, index: int = 0, *, ready: bool = True, login: str = "logged_in") -> InstanceRecord:
    return InstanceRecord(
        name=name, index=index, ready=ready, state="ready", login=login, capacity=4, account="hash-of-it"
    )


def test_health_has_the_reference_shape() -> None:
    shown = health([instance("inst-0"), instance("inst-1", 1, ready=False)])
    assert shown["ok"] is True
    assert shown["pool_size"] == 2
    assert shown["pool_ready"] == 1
    assert shown["instances"] == [
        {
            "name": "inst-0",
            "idx": 0,
            "state": "ready",
            "ready": True,
            "in_flight": 0,
            "capacity": 4,
            "login": "logged_in",
            "restarts": 0,
        },
        {
            "name": "inst-1",
            "idx": 1,
            "state": "ready",
            "ready": False,
            "in_flight": 0,
            "capacity": 4,
            "login": "logged_in",
            "restarts": 0,
        },
    ]


def test_health_is_not_ok_without_a_ready_instance() -> None:
    assert health([])["ok"] is False
    assert health([instance("inst-0", ready=False)])["ok"] is False


def test_http_upstreams_can_take_turns_too() -> None:
    shown = health([], {"openai": False, "gem": True})
    assert (shown["ok"], shown["upstreams"]) == (True, {"openai": False, "gem": True})
    assert health([], {"openai": False})["ok"] is False
    assert "upstreams" not in health([instance("inst-0")], {})


def test_an_instance_that_nobody_is_logged_in_to_names_the_remedy() -> None:
    (shown,) = health([instance("inst-0", ready=False, login="login_required")])["instances"]  # type: ignore[misc]
    assert shown["remedy"] == LOGIN_REMEDY  # type: ignore[index,call-overload]


def test_health_shows_no_account() -> None:
    assert "hash-of-it" not in str(health([instance("inst-0")]))


def test_statistics_put_sums_on_top_and_the_replica_beside() -> None:
    shown = statistics(
        replica_id="r-1",
        chat={"chat_requests_total": 1},
        guard={"in_flight": 2, "accepted_total": 3},
        max_in_flight=8,
        sums={"chat_requests_total": 10, "in_flight": 20, "accepted_total": 30, "something_newer": 1},
        instances=[],
        session_cache={"size": 4, "hit_rate": 0.5},
    )
    assert shown["cluster"] is True
    assert shown["stats"] == {"chat_requests_total": 10}
    assert shown["concurrency"] == {"in_flight": 20, "accepted_total": 30, "max_in_flight": 8}
    assert shown["session_cache"] == {"size": 4, "hit_rate": 0.5}
    assert shown["replica"] == {
        "id": "r-1",
        "stats": {"chat_requests_total": 1},
        "concurrency": {"in_flight": 2, "accepted_total": 3},
    }


def test_without_sums_the_replicas_own_figures_stand_in_and_say_so() -> None:
    shown = statistics(
        replica_id="r-1",
        chat={"chat_requests_total": 1},
        guard={"in_flight": 2},
        max_in_flight=0,
        sums=None,
        instances=[],
        session_cache={},
    )
    assert shown["cluster"] is False
    assert shown["stats"] == {"chat_requests_total": 1}
