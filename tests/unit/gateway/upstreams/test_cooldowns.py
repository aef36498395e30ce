import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.keys import Keys
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV
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
        self.required = RequiredKV(modes)

    def replica(self) -> Cooldowns:
        return Cooldowns(self.required, Keys(), self.clock, [ONE, ONE_BIG, Account("openai", "two")])


def left_s(replica: Cooldowns, model: str = "", *, soft: bool = False) -> float:
    return replica.left(*ONE[:2], model, soft=soft).for_s


async def test_a_rest_is_known_at_once_here_and_after_a_refresh_elsewhere() -> None:
    fleet = Fleet()
    here, there = fleet.replica(), fleet.replica()
    await here.cool(ONE, 60, "rate_limited")
    assert left_s(here, "any") == pytest.approx(60)
    assert here.left(*ONE[:2], "any", soft=False).reason == "rate_limited"
    assert here.left("openai", "two", "any", soft=False).for_s == 0
    assert left_s(there, "any") == 0
    await there.refresh()
    assert left_s(there, "any") == pytest.approx(60)
    fleet.clock.advance(61)
    await there.refresh()
    assert left_s(there, "any") == left_s(here, "any") == 0


async def test_a_model_may_rest_alone() -> None:
    here = Fleet().replica()
    await here.cool(ONE_BIG, 60, "model_unsupported")
    assert left_s(here, "big") == pytest.approx(60)
    assert left_s(here, "small") == 0


async def test_the_longer_rest_stays_and_no_rest_is_endless() -> None:
    here = Fleet().replica()
    await here.cool(ONE, 60, "unauthorized")
    await here.cool(ONE, 5, "overloaded")
    await here.cool(ONE, 0, "nothing")
    assert left_s(here) == pytest.approx(60)
    await here.cool(ONE, 10 * MAX_COOLDOWN_S, "for ever")
    assert left_s(here) == pytest.approx(MAX_COOLDOWN_S)


async def test_soft_rests_and_hard_ones_leave_each_other_alone() -> None:
    here = Fleet().replica()
    await here.cool(ONE, 15, "rate_limited")
    await here.cool(ONE, 20, "failing", soft=True)
    assert (left_s(here), left_s(here, soft=True)) == (pytest.approx(15), pytest.approx(20))
    await here.cool(ONE, 18, "rate_limited")
    assert (left_s(here), left_s(here, soft=True)) == (pytest.approx(18), pytest.approx(20))


async def test_who_answers_fails_no_more_and_is_forbidden_all_the_same() -> None:
    """The answer may be to a question that was asked before it was forbidden."""
    fleet = Fleet()
    here, there = fleet.replica(), fleet.replica()
    await here.cool(ONE, 60, "failing", soft=True)
    await here.cool(ONE_BIG, 60, "overloaded", soft=True)
    await here.cool(ONE, 60, "rate_limited")
    await here.warm(ONE_BIG)
    await here.warm(ONE_BIG)
    await there.refresh()
    for replica in (here, there):
        assert left_s(replica, "big", soft=True) == 0
        assert left_s(replica, "big") == pytest.approx(60)


async def test_another_key_does_not_rest() -> None:
    fleet = Fleet()
    now = "old"
    replicas = [Cooldowns(fleet.required, Keys(), fleet.clock, [ONE], key_id=lambda _: now) for _ in range(2)]
    here, there = replicas
    await here.cool(ONE, 1800, "credential_refused")
    await there.refresh()
    assert left_s(here) == left_s(there) == pytest.approx(1800)
    now = "new"
    assert left_s(here) == left_s(there) == 0
    await here.cool(ONE, 60, "credential_refused")
    assert left_s(here) == pytest.approx(60), "the new one may be refused as well"


async def test_without_the_store_a_replica_knows_what_it_met_itself() -> None:
    fleet = Fleet()
    here = fleet.replica()
    fleet.up = False
    await here.cool(ONE, 60, "overloaded")
    await here.refresh()
    assert left_s(here) == pytest.approx(60)


async def test_garbage_in_the_store_is_no_rest() -> None:
    fleet = Fleet()
    here = fleet.replica()
    await fleet.kv.kv_set(Keys().cooldown(*ONE, "hard"), b"\xff{")
    await here.refresh()
    assert left_s(here) == 0


async def test_models_that_nobody_configured_do_not_fill_the_store() -> None:
    fleet = Fleet()
    here = fleet.replica()
    await here.cool(Account("openai", "one", "made-up"), 60, "model_unsupported")
    assert left_s(here, "made-up") == 0
    assert len(fleet.kv) == 0


async def test_what_somebody_deletes_in_the_store_is_over_everywhere() -> None:
    fleet = Fleet()
    here, there = fleet.replica(), fleet.replica()
    await here.cool(ONE, 60, "credential_refused")
    await there.refresh()
    await fleet.kv.kv_del(Keys().cooldown(*ONE, "hard"))
    for replica in (here, there):
        assert left_s(replica) > 0
        await replica.refresh()
        assert left_s(replica) == 0


async def test_what_is_read_from_the_store_is_bounded() -> None:
    fleet = Fleet()
    here = fleet.replica()
    await fleet.kv.kv_set(Keys().cooldown(*ONE, "hard"), b'{"until_ms":1' + b"0" * 400 + b"}")
    await here.refresh()
    assert left_s(here) <= MAX_COOLDOWN_S
    await fleet.kv.kv_set(Keys().cooldown(*ONE, "hard"), b'{"until_ms":9000000000000000}')
    await here.refresh()
    assert left_s(here) == pytest.approx(MAX_COOLDOWN_S)


async def test_nothing_to_watch_asks_nothing() -> None:
    fleet = Fleet()
    nobody = Cooldowns(fleet.required, Keys(), fleet.clock, [])
    fleet.up = False
    await nobody.refresh()
    with pytest.raises(StoreUnavailable):
        await RequiredKV(Availability(fleet.kv, fleet.kv, connected=lambda: False)).kv_get(b"k")
