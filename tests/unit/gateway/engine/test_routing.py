from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from gateway.engine.routing import (
    Accounts,
    Candidate,
    KnownModel,
    Resolution,
    Resting,
    Route,
    Router,
    Target,
    fold_name,
    resolve,
)
from gateway.kernel.errors import (
    COMPACTION_UNSUPPORTED,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    UpstreamUnavailable,
)
from gateway.kernel.ids import TurnId
from gateway.turn.ports import Capabilities
from gateway.turn.request import RawRequest, Turn

MODELS = [
    KnownModel(key="org_auto", display_name="Auto"),
    KnownModel(key="kmodel", display_name="Kimi-K2.6"),
    KnownModel(key="dashscope_qwen3_coder", display_name="Qwen3-Coder"),
]


def found(wanted: str, models: list[KnownModel] = MODELS, **more: object) -> Resolution:
    options = {"aliases": {}, "default": "org_auto", "own_names": frozenset({"agent"})} | more
    return resolve(wanted, models, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("kmodel", "kmodel"),
        ("KModel", "kmodel"),
        ("Kimi-K2.6", "kmodel"),
        ("kimi k2.6", "kmodel"),
        ("Qwen3_Coder", "dashscope_qwen3_coder"),
        ("Agent", "org_auto"),
        ("org_auto", "org_auto"),
    ],
)
def test_names_that_map(wanted: str, key: str) -> None:
    assert found(wanted) == Resolution(key, mapped=True)


@pytest.mark.parametrize("wanted", ["gpt-4o", "claude-sonnet-4-5", "", "no such"])
def test_other_names_fall_back_to_the_default(wanted: str) -> None:
    assert found(wanted) == Resolution("org_auto", mapped=False)


def test_an_alias_may_name_anything_that_can_be_found() -> None:
    aliases = {"gpt-4o": "Qwen3-Coder", "lost": "nowhere"}
    assert found("gpt-4o", aliases=aliases) == Resolution("dashscope_qwen3_coder", mapped=True)
    assert found("GPT-4o", aliases=aliases) == Resolution("dashscope_qwen3_coder", mapped=True)
    assert found("lost", aliases=aliases) == Resolution("org_auto", mapped=False)


def test_a_real_key_wins_over_an_alias_of_the_same_name() -> None:
    assert found("kmodel", aliases={"kmodel": "org_auto"}).key == "kmodel"


def test_without_a_registry_aliases_and_the_default_are_trusted() -> None:
    assert found("x", models=[], aliases={"x": "kmodel"}) == Resolution("kmodel", mapped=True)
    assert found("y", models=[]) == Resolution("org_auto", mapped=False)


def test_a_default_that_is_not_listed_gives_way_to_the_first_chat_model() -> None:
    models = [KnownModel(key="inline", in_chat=False), KnownModel(key="chatty")]
    assert found("gpt", models=models, default="gone").key == "chatty"
    assert found("gpt", models=models[:1], default="gone").key == "inline"


def test_display_names_are_compared_without_case_and_joiners() -> None:
    assert fold_name("Kimi-K2.6") == fold_name("kimi_k2 .6")


# -- routes over several upstreams ------------------------------------------------------------------------


class Named:
    """An executor of which only the name and the skills count."""

    def __init__(self, name: str, *, compaction: bool = False) -> None:
        self.name = name
        self.capabilities = Capabilities(compaction=compaction)


class Pool:
    def __init__(
        self,
        name: str,
        *models: str,
        accounts: Sequence[str] = ("a", "b"),
        failing: Sequence[str] = (),
        resting: Resting | None = None,
        compaction: bool = False,
    ) -> None:
        self.name = name
        self.executor: Any = Named(name, compaction=compaction)
        self.has_choice = len(accounts) > 1
        self._models = [KnownModel(key=model) for model in models]
        self._accounts = accounts
        self._failing = failing
        self._resting = resting or Resting(0)

    def models(self) -> Sequence[KnownModel]:
        return self._models

    def accounts(self, model: str, affinity: str, only: Sequence[str] = ()) -> Accounts:
        return Accounts([one for one in self._accounts if not only or one in only], self._failing)

    def resting(self, model: str, only: Sequence[str] = ()) -> Resting:
        return self._resting


class Lingma:
    def models(self) -> Sequence[KnownModel]:
        return MODELS


LINGMA: Any = Named("lingma")


def routed(
    model: str,
    *pools: Pool,
    routes: Mapping[str, Sequence[Target]] | None = None,
    turn: str = "t",
    asks: Mapping[str, Any] | None = None,
    **more: Any,
) -> Route:
    options: dict[str, Any] = {"aliases": {}, "default_model": "org_auto", "fallback": "default"} | more
    router = Router(LINGMA, Lingma(), own_names=frozenset(), upstreams=pools, routes=routes, **options)
    raw = RawRequest("chat", {})
    return router.route(
        Turn(id=TurnId(turn), tenant="-", created_at_ms=0, model=model, items=(), raw=raw, **(asks or {}))
    )


def told(route: Route) -> list[str]:
    return [f"{c.executor.name}/{c.model}/{c.account}" for c in route.candidates]


def test_a_model_of_an_upstream_is_tried_with_each_of_its_credentials() -> None:
    pool = Pool("openai", "gpt-5.2")
    assert told(routed("GPT-5.2", pool)) == ["openai/gpt-5.2/a", "openai/gpt-5.2/b"]
    assert routed("gpt-5.2", pool).candidates[0] == Candidate(pool.executor, "gpt-5.2", "a")
    assert told(routed("openai/anything", pool)) == ["openai/anything/a", "openai/anything/b"]


def test_upstreams_that_offer_the_same_model_follow_each_other() -> None:
    first, second = Pool("one", "gpt", accounts=["x"]), Pool("two", "gpt", accounts=["y"])
    assert sorted(told(routed("gpt", first, second))) == ["one/gpt/x", "two/gpt/y"]


def test_a_route_is_tried_by_rank_and_may_end_at_lingma() -> None:
    pools = [Pool("one", accounts=["x"]), Pool("two", accounts=["y"])]
    targets = [
        Target(upstream="lingma", model="Kimi-K2.6", rank=2),
        Target(upstream="two", model="gem", rank=1),
        Target(upstream="one", model="gpt"),
    ]
    assert told(routed("best", *pools, routes={"Best": targets})) == [
        "one/gpt/x",
        "two/gem/y",
        "lingma/kmodel/",
    ]


def test_a_candidate_may_have_credentials_of_its_own() -> None:
    pool = Pool("one", accounts=["x", "y"])
    targets = [
        Target(upstream="one", model="m", credentials=("y",)),
        Target(upstream="one", model="m", rank=1),
    ]
    assert told(routed("best", pool, routes={"best": targets})) == ["one/m/y", "one/m/x"]


def test_conversations_are_spread_by_weight_and_stay() -> None:
    pools = [Pool("one", accounts=["x"]), Pool("two", accounts=["y"])]
    routes = {"best": [Target(upstream="one", model="m"), Target(upstream="two", model="m", weight=3)]}
    firsts = [told(routed("best", *pools, routes=routes, turn=f"t{n}"))[0] for n in range(400)]
    assert 60 < Counter(firsts)["one/m/x"] < 140
    stay = {
        told(routed("best", *pools, routes=routes, turn=f"t{n}", affinity=lambda turn: "same"))[0]
        for n in range(20)
    }
    assert len(stay) == 1


def test_an_upstream_without_a_credential_to_ask_is_passed_over() -> None:
    resting = Pool("one", "gpt", accounts=[], resting=Resting(30, limited=True))
    assert told(routed("gpt", resting, Pool("two", "gpt", accounts=["y"]))) == ["two/gpt/y"]
    with pytest.raises(UpstreamUnavailable) as caught:
        routed("gpt", resting, Pool("two", "gpt", accounts=[], resting=Resting(12)))
    assert caught.value.retry_after_s == 12
    with pytest.raises(RateLimited) as limited:
        routed("gpt", resting, Pool("two", "gpt", accounts=[], resting=Resting(40, limited=True)))
    assert limited.value.retry_after_s == 30


def test_who_failed_lately_is_asked_behind_everybody_else() -> None:
    """Of any upstream and any rank, Lingma included."""
    pools = [
        Pool("one", accounts=["x"], failing=["y"]),
        Pool("two", accounts=[], failing=["z"]),
        Pool("three", accounts=["w"]),
    ]
    targets = [
        Target(upstream="one", model="m"),
        Target(upstream="two", model="m", rank=1),
        Target(upstream="three", model="m", rank=2),
        Target(upstream="lingma", model="kmodel", rank=3),
    ]
    assert told(routed("best", *pools, routes={"best": targets})) == [
        "one/m/x",
        "three/m/w",
        "lingma/kmodel/",
        "one/m/y",
        "two/m/z",
    ]


def test_aliases_and_the_default_may_name_what_upstreams_serve() -> None:
    pool = Pool("openai", "gpt-5.2", accounts=["a"])
    assert told(routed("sonnet", pool, aliases={"sonnet": "gpt-5.2"})) == ["openai/gpt-5.2/a"]
    fallen = routed("unheard-of", pool, default_model="gpt-5.2")
    assert told(fallen) == ["openai/gpt-5.2/a"]
    assert [str(loss) for loss in fallen.losses] == ["model:served-by-gpt-5.2"]


def test_a_wish_in_the_name_leads_to_the_same_upstream() -> None:
    pools = [Pool("openai", "gpt-5"), Pool("odd", "m(high)")]
    aliases = {"best": "gpt-5"}
    assert told(routed("GPT-5 (HIGH)", *pools)) == told(routed("gpt-5", *pools))
    assert told(routed("best(2048)", *pools, aliases=aliases)) == told(routed("gpt-5", *pools))
    assert told(routed("m(high)", *pools)) == ["odd/m(high)/a", "odd/m(high)/b"], "its own name comes first"
    assert told(routed("kmodel(low)", *pools)) == ["lingma/kmodel/"]
    assert told(routed("openai/new(low)", *pools)) == ["openai/new/a", "openai/new/b"]
    assert told(routed("gpt-5(custom)", *pools)) == told(routed("unknown", *pools))


def test_strictness_asks_an_upstream_for_nothing_that_it_does_not_list() -> None:
    pool = Pool("openai", "gpt-5.2")
    assert told(routed("openai/", pool)) == told(routed("unknown", pool)), "an empty name is none"
    assert told(routed("openai/GPT-5.2", pool, fallback="strict"))[0] == "openai/gpt-5.2/a"
    with pytest.raises(ModelNotFound):
        routed("openai/made-up", pool, fallback="strict")


def test_lingma_serves_the_rest_and_strictness_refuses_it() -> None:
    pool = Pool("openai", "gpt-5.2")
    assert told(routed("Kimi-K2.6", pool)) == ["lingma/kmodel/"]
    assert told(routed("unheard-of", pool)) == ["lingma/org_auto/"]
    with pytest.raises(ModelNotFound):
        routed("unheard-of", pool, fallback="strict")


@pytest.mark.parametrize("asks", [{"operation": "compact"}, {"compacts_at": "input.3"}])
def test_only_who_can_compact_is_asked_to(asks: dict[str, Any]) -> None:
    plain, able = Pool("one", "gpt", accounts=["x"]), Pool("two", "gpt", accounts=["y"], compaction=True)
    assert len(told(routed("gpt", plain, able))) == 2
    assert told(routed("gpt", plain, able, asks=asks)) == ["two/gpt/y"]


def test_a_wish_to_compact_that_nobody_can_meet_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        routed("gpt", Pool("one", "gpt"), asks={"compacts_at": "input.3"})
    assert (caught.value.param, caught.value.code) == ("input.3", "unsupported_value")
    with pytest.raises(InvalidRequest) as caught:
        routed("kmodel", asks={"operation": "compact"})
    assert (caught.value.param, caught.value.code) == ("model", COMPACTION_UNSUPPORTED)
