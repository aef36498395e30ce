"""Every part of the estate is replaced under load; no client sees a failure that its SDK does not mend."""

import pytest

from tests.rehearsal.fleet import DRAIN, Fleet

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
REDIS_AWAY_S = 2
GONE_S = 30


def test_nothing_happens(fleet: Fleet) -> None:
    """What the others are measured against."""
    with fleet.part("nothing") as part:
        fleet.undisturbed(10)
    assert part.unharmed()


@pytest.mark.parametrize("name", ["gw1", "gw2"])
def test_a_gateway_is_replaced(fleet: Fleet, name: str) -> None:
    """The balancer finds out by itself."""
    with fleet.part(f"{name} replaced") as part:
        fleet.roll_gateway(name)
    assert part.unharmed()


def test_a_gateway_is_replaced_as_kubernetes_does_it(fleet: Fleet) -> None:
    """Out of the service at once, told to end after the preStop of the chart."""
    with fleet.part("gw3 replaced, with preStop") as part:
        with fleet.out_of_service("gw3"):
            fleet.undisturbed(DRAIN["preStopSeconds"])
            fleet.replace(fleet.gateways["gw3"])
        fleet.seen_up("gw3")
    assert part.unharmed()


@pytest.mark.parametrize("name", ["worker1", "worker2"])
def test_a_worker_is_replaced_and_keeps_its_sessions(fleet: Fleet, name: str) -> None:
    """Conversations that rest meanwhile go on where they were; the others go on elsewhere, told anew."""
    resting = fleet.conversation_on(name)
    with fleet.part(f"{name} replaced") as part:
        fleet.replace(fleet.workers[name])
        fleet.everybody_sees_workers()
    assert part.unharmed()
    assert "turns=3 isReply=true" in resting.ask("report")
    assert resting.holder == name


def test_redis_is_restarted_with_its_data(fleet: Fleet) -> None:
    resting = fleet.conversation_on("worker1")
    with fleet.part("Redis restarted") as part:
        fleet.redis.stop()
        fleet.undisturbed(REDIS_AWAY_S)
        fleet.redis.start()
    # What was asked of it at that very moment has no answer; the turn is refused, and most SDKs ask again.
    assert part.bad(once=["refused"]) == []
    assert "turns=3 isReply=true" in resting.ask("report")


def test_redis_hangs_for_a_moment(fleet: Fleet) -> None:
    with fleet.part("Redis hangs for 3 s") as part:
        fleet.redis.pause()
        fleet.undisturbed(3)
        fleet.redis.resume()
    assert part.bad() == []


def test_a_gateway_s_wire_is_out_for_a_moment(fleet: Fleet) -> None:
    """Others are asked meanwhile; what it was saying goes on, or ends as its protocol wants."""
    with fleet.part("gw1 cut off for 8 s") as part:
        with fleet.cut_off("gw1"):
            fleet.undisturbed(8)
        fleet.seen_up("gw1")
    assert part.bad("told", once=["refused"]) == []


def test_a_gateway_s_host_is_gone(fleet: Fleet) -> None:
    """Nobody is left who could end its streams: the balancer closes them, within HAProxy's limits."""
    with fleet.part(f"gw2 gone for {GONE_S} s") as part:
        with fleet.cut_off("gw2"):
            fleet.undisturbed(GONE_S)
        fleet.seen_up("gw2")
    assert part.bad("told", "cut", once=["refused", "unreached"]) == []
    assert max(record.whole_s for record in part.records) < GONE_S


def test_a_worker_s_host_is_cut_off(fleet: Fleet) -> None:
    """Its turns end as lost, or begin anew elsewhere where nothing was said yet."""
    with fleet.part("worker1 cut off for 15 s") as part:
        with fleet.cut_off("worker1"):
            fleet.undisturbed(15)
        fleet.everybody_sees_workers()
    assert part.bad("told", once=["refused"]) == []


def test_the_balancer_is_given_its_configuration_anew(fleet: Fleet) -> None:
    """Twice, for streams of the first configuration still run at the second."""
    with fleet.part("HAProxy reloaded twice") as part:
        fleet.balancer.reload()
        fleet.settle()
        fleet.balancer.reload()
    assert part.unharmed()
