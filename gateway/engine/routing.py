"""From the model name a client wrote to the upstreams that may serve it.

Order: a configured route, a model that an HTTP upstream offers, `upstream/model`; the same for the alias of
the name; then Lingma: exact key, key without regard to case, display name folded, alias; all of it again for
the name without its wish, such as `(high)`; then the fallback.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from gateway.kernel.errors import (
    COMPACTION_UNSUPPORTED,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    UpstreamUnavailable,
)
from gateway.kernel.spread import score
from gateway.turn.losses import Loss
from gateway.turn.model_name import split_name
from gateway.turn.ports import Executor
from gateway.turn.request import Turn


class KnownModel(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    display_name: str = ""
    vision: bool = False
    reasoning: bool = False
    default: bool = False
    max_input_tokens: int = 0
    """0 when nobody says."""
    in_chat: bool = True
    """Listed for chat; the last resort when the default model is not listed."""


class ModelSource(Protocol):
    """What an upstream offers right now."""

    def models(self) -> Sequence[KnownModel]:
        """Empty when nobody is logged in."""
        ...


class Candidate(msgspec.Struct, frozen=True):
    executor: Executor
    model: str
    """The upstream's name for it."""
    account: str = ""
    """The credential, where the upstream has several."""


class Route(msgspec.Struct, frozen=True):
    candidates: tuple[Candidate, ...]
    losses: tuple[Loss, ...] = ()


def fold_name(name: str) -> str:
    """Display names drift in case, spaces, underscores and dashes."""
    return name.lower().replace(" ", "").replace("_", "").replace("-", "")


class Resolution(msgspec.Struct, frozen=True):
    key: str
    mapped: bool
    """False when nothing named the model and the fallback answers."""


def resolve(
    wanted: str,
    models: Sequence[KnownModel],
    *,
    aliases: Mapping[str, str],
    default: str,
    own_names: frozenset[str] = frozenset(),
) -> Resolution:
    """The key to ask for. `own_names` (lower case) are names of ours that mean the default model."""
    if wanted.lower() in own_names:
        return Resolution(_default_of(models, default), mapped=True)
    for name in (wanted, aliases.get(wanted) or aliases.get(wanted.lower())):
        if name is None:
            continue
        key = _find(name, models)
        if key is not None:
            return Resolution(key, mapped=True)
        if name is not wanted and not models:
            return Resolution(name, mapped=True)
    return Resolution(_default_of(models, default), mapped=wanted == default)


def _find(name: str, models: Sequence[KnownModel]) -> str | None:
    for model in models:
        if model.key == name:
            return model.key
    for model in models:
        if model.key.lower() == name.lower():
            return model.key
    folded = fold_name(name)
    for model in models:
        if model.display_name and fold_name(model.display_name) == folded:
            return model.key
    return None


def _default_of(models: Sequence[KnownModel], default: str) -> str:
    """The operator's default if it is listed or nothing is; else the first model for chat."""
    if not models or any(model.key == default for model in models):
        return default
    return next((model.key for model in models if model.in_chat), models[0].key)


class Accounts(NamedTuple):
    """Credentials of an upstream that may be asked."""

    awake: Sequence[str]
    failing: Sequence[str] = ()
    """Only failed lately: to be asked when nobody else is left."""


class Resting(NamedTuple):
    for_s: float
    """Until the first of them may be asked again."""
    limited: bool = False
    """All of them are at a limit of their upstream's."""


class Upstream(Protocol):
    """An upstream with credentials of its own, as routing sees it."""

    name: str
    executor: Executor
    has_choice: bool
    """There are several credentials."""

    def models(self) -> Sequence[KnownModel]:
        """Those of its configuration: always the same."""
        ...

    def accounts(self, model: str, affinity: str, only: Sequence[str] = ()) -> Accounts:
        """Credentials that may be asked now, the conversation's own first; of those in `only`, where it has
        any.
        """
        ...

    def resting(self, model: str, only: Sequence[str] = ()) -> Resting:
        """Why none of them may be asked now."""
        ...


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve a public model name."""

    upstream: str
    model: str
    rank: int = 0
    """The lowest is tried first."""
    weight: float = 1.0
    """Share of the conversations among those of one rank."""
    credentials: tuple[str, ...] = ()
    """The only ones that may be asked; all of them where it is empty."""


class Router:
    """Routes of this deployment: configured ones, then the models of HTTP upstreams, then Lingma."""

    def __init__(
        self,
        lingma: Executor,
        source: ModelSource,
        *,
        aliases: Mapping[str, str],
        default_model: str,
        fallback: Literal["default", "strict"],
        own_names: frozenset[str],
        upstreams: Sequence[Upstream] = (),
        routes: Mapping[str, Sequence[Target]] | None = None,
        affinity: Callable[[Turn], str] = lambda turn: "",
    ) -> None:
        """`source` says what Lingma offers; `affinity` what turns of one conversation have in common."""
        self._lingma = lingma
        self._source = source
        self._aliases = aliases
        self._default = default_model
        self._fallback = fallback
        self._own_names = own_names
        self._upstreams = {upstream.name: upstream for upstream in upstreams}
        self._routes: dict[str, tuple[Target, ...]] = {}
        """By public name in lower case: configured ones, and of other names who offers them."""
        for upstream in upstreams:
            for model in upstream.models():
                target = Target(upstream=upstream.name, model=model.key)
                name = model.key.lower()
                self._routes[name] = (*self._routes.get(name, ()), target)
        self._routes |= {name.lower(): tuple(targets) for name, targets in (routes or {}).items()}
        self._affinity = affinity

    def route(self, turn: Turn) -> Route:
        """Ordered candidates that can do what the turn asks for.

        Raises ModelNotFound when the fallback is strict, InvalidRequest when none of them can.
        """
        return _able(turn, self._route(turn))

    def _route(self, turn: Turn) -> Route:
        plain, _ = split_name(turn.model)
        for wanted in dict.fromkeys((turn.model, plain)):
            for name in (wanted, self._alias(wanted)):
                if name is not None and (targets := self._targets(name)):
                    return Route(self._candidates(turn, targets))
            found = self._resolve(wanted)
            if found.mapped:
                return Route((Candidate(self._lingma, found.key),))
        if self._fallback == "strict":
            raise ModelNotFound(f"The model '{turn.model}' does not exist", param="model")
        losses = (Loss("model", "served-by", found.key),)
        if targets := self._targets(self._default):
            return Route(self._candidates(turn, targets), (Loss("model", "served-by", self._default),))
        return Route((Candidate(self._lingma, found.key),), losses)

    def _resolve(self, wanted: str) -> Resolution:
        return resolve(
            wanted,
            self._source.models(),
            aliases=self._aliases,
            default=self._default,
            own_names=self._own_names,
        )

    def _alias(self, name: str) -> str | None:
        return self._aliases.get(name) or self._aliases.get(name.lower())

    def _targets(self, name: str) -> Sequence[Target]:
        """The configured route of that name, else the upstreams that offer it, else `upstream/model`."""
        if (targets := self._routes.get(name.lower())) is not None:
            return targets
        first, slash, wanted = name.partition("/")
        upstream = self._upstreams.get(first)
        if not slash or upstream is None:
            return ()
        model = split_name(wanted)[0]
        if not model:
            return ()
        known = next((one.key for one in upstream.models() if one.key.lower() == model.lower()), None)
        if known is None and self._fallback == "strict":
            return ()
        return (Target(upstream=first, model=known or model),)

    def _candidates(self, turn: Turn, targets: Sequence[Target]) -> tuple[Candidate, ...]:
        """Each target's credentials in turn, behind all of them those that only failed lately.

        Raises UpstreamUnavailable or RateLimited when none may be asked.
        """
        affinity = (self._affinity(turn) or turn.id) if self._has_choice(targets) else ""
        awake: list[Candidate] = []
        failing: list[Candidate] = []
        resting: list[Resting] = []
        for target in _in_order(targets, affinity):
            upstream = self._upstreams.get(target.upstream)
            if upstream is None:
                awake.append(Candidate(self._lingma, self._lingma_key(target.model)))
                continue
            accounts = upstream.accounts(target.model, affinity, target.credentials)
            awake += [Candidate(upstream.executor, target.model, account) for account in accounts.awake]
            failing += [Candidate(upstream.executor, target.model, account) for account in accounts.failing]
            if not (accounts.awake or accounts.failing):
                resting.append(upstream.resting(target.model, target.credentials))
        if not (awake or failing):
            raise _all_rest(resting)
        return tuple(_once((*awake, *failing))) if len(awake) + len(failing) > 1 else (*awake, *failing)

    def _has_choice(self, targets: Sequence[Target]) -> bool:
        """Whether the order depends on the conversation."""
        upstream = self._upstreams.get(targets[0].upstream)
        return len(targets) > 1 or (upstream is not None and upstream.has_choice)

    def _lingma_key(self, name: str) -> str:
        models = self._source.models()
        return resolve(name, models, aliases=self._aliases, default=self._default).key


def _able(turn: Turn, route: Route) -> Route:
    """Without the candidates that cannot compact, where that is asked for."""
    if turn.operation == "respond" and turn.compacts_at is None:
        return route
    able = tuple(one for one in route.candidates if one.executor.capabilities.compaction)
    if able:
        return Route(able, route.losses)
    if turn.operation == "compact":
        raise InvalidRequest(
            "No upstream of this model can compact conversations", param="model", code=COMPACTION_UNSUPPORTED
        )
    raise InvalidRequest(
        "This gateway cannot compact conversations; please start a new one",
        param=turn.compacts_at,
        code="unsupported_value",
    )


def _once(candidates: Iterable[Candidate]) -> Iterator[Candidate]:
    """Several targets may share a credential, which is asked where it comes first."""
    seen: set[tuple[str, str, str]] = set()
    for one in candidates:
        key = (one.executor.name, one.model, one.account)
        if key not in seen:
            seen.add(key)
            yield one


def _all_rest(resting: Sequence[Resting]) -> GatewayError:
    retry_after_s = min(resting).for_s
    if all(one.limited for one in resting):
        return RateLimited(
            "Every upstream credential for this model has reached a limit of its upstream",
            retry_after_s=retry_after_s,
        )
    return UpstreamUnavailable(
        "Every upstream credential for this model is resting after errors; please try again",
        retry_after_s=retry_after_s,
    )


def _in_order(targets: Sequence[Target], affinity: str) -> list[Target]:
    """By rank; within one, by weight and conversation."""
    if len(targets) == 1:
        return list(targets)

    def place(numbered: tuple[int, Target]) -> tuple[int, float]:
        number, target = numbered
        return target.rank, -score(affinity, f"{number}:{target.upstream}:{target.model}", target.weight)

    return [target for _, target in sorted(enumerate(targets), key=place)]
