import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.keys import Keys
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, BestEffortKV, RequiredKV
from gateway.upstreams.cooldowns import MAX_COOLDOWN_S, Account, Cooldowns

ONE = Account("openai", "one")
ONE_BIG = Account("openai", "one", "big")


class Fleet:
    """Replicas over one store that may be away."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.up = True
        self.kv = MemoryKV(self.clock)
        modes = Availability(MemoryKV(self.clock), self.kv, connected=lambda: self.up)
        self.best_effort = BestEffortKV(RequiredKV(modes))

    def replica(self) -> Cooldowns:
        return Cooldowns(self.best_effort, Keys(), self.clock, [ONE, ONE_BIG, Account("openai", "two")])


async def test_a_cooldown_is_known_at_once_here_and_after_a_refresh_elsewhere() -> None:
    fleet = Fleet()
    here, there = fleet.replica(), fleet.replica()
    await here.cool(ONE, 60, "rate_limited")
    assert here.left_s("openai", "one", "any") == pytest.approx(60)
    assert here.left_s("openai", "two", "any") == 0
    assert there.left_s("openai", "one", "any") == 0
    await there.refresh()
    assert there.left_s("openai", "one", "any") == pytest.approx(60)
    fleet.clock.advance(61)
    await there.refresh()
    assert there.left_s("openai", "one", "any") == here.left_s("openai", "one", "any") == 0


async def test_a_model_may_cool_alone() -> None:
    fleet = Fleet()
    here = fleet.replica()
    await here.cool(ONE_BIG, 60, "model_unsupported")
    assert here.left_s("openai", "one", "big") == pytest.approx(60)
    assert here.left_s("openai", "one", "small") == 0


async def test_the_longer_rest_stays_and_no_rest_is_endless() -> None:
    fleet = Fleet()
    here = fleet.replica()
    await here.cool(ONE, 60, "unauthorized")
    await here.cool(ONE, 5, "overloaded")
    await here.cool(ONE, 0, "nothing")
    assert here.left_s("openai", "one", "") == pytest.approx(60)
    await here.cool(ONE, 10 * MAX_COOLDOWN_S, "for ever")
    assert here.left_s("openai", "one", "") == pytest.approx(MAX_COOLDOWN_S)


async def test_who_answers_again_is_warm_for_everybody_that_did_not_know() -> None:
    fleet = Fleet()
    here, there = fleet.replica(), fleet.replica()
    await here.cool(ONE, 60, "overloaded")
    await here.warm(ONE)
    await here.warm(ONE)
    await there.refresh()
    assert here.left_s("openai", "one", "") == there.left_s("openai", "one", "") == 0


async def test_without_the_store_a_replica_knows_what_it_met_itself() -> None:
    fleet = Fleet()
    here = fleet.replica()
    fleet.up = False
    await here.cool(ONE, 60, "overloaded")
    await here.refresh()
    assert here.left_s("openai", "one", "") == pytest.approx(60)


async def test_garbage_in_the_store_is_no_cooldown() -> None:
    fleet = Fleet()
    here = fleet.replica()
    await fleet.kv.kv_set(Keys().cooldown(*ONE), b"\xff{")
    await here.refresh()
    assert here.left_s("openai", "one", "") == 0


async def test_nothing_to_watch_asks_nothing() -> None:
    fleet = Fleet()
    nobody = Cooldowns(fleet.best_effort, Keys(), fleet.clock, [])
    fleet.up = False
    await nobody.refresh()
    with pytest.raises(StoreUnavailable):
        await RequiredKV(Availability(fleet.kv, fleet.kv, connected=lambda: False)).kv_get(b"k")
