"""From the model name a client wrote to the upstreams that may serve it.

Order: exact key, key without regard to case, display name folded, alias, then the fallback. An alias may name
anything that the steps before it would find.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from gateway.kernel.errors import ModelNotFound
from gateway.turn.losses import Loss
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


class Router:
    """Routes of this deployment: today one upstream, Lingma."""

    def __init__(
        self,
        executor: Executor,
        source: ModelSource,
        *,
        aliases: Mapping[str, str],
        default_model: str,
        fallback: Literal["default", "strict"],
        own_names: frozenset[str],
    ) -> None:
        self._executor = executor
        self._source = source
        self._aliases = aliases
        self._default = default_model
        self._fallback = fallback
        self._own_names = own_names

    def route(self, turn: Turn) -> Route:
        """Ordered candidates. Raises ModelNotFound only when the fallback is strict."""
        found = resolve(
            turn.model,
            self._source.models(),
            aliases=self._aliases,
            default=self._default,
            own_names=self._own_names,
        )
        if not found.mapped and self._fallback == "strict":
            raise ModelNotFound(f"The model '{turn.model}' does not exist", param="model")
        losses = () if found.mapped else (Loss("model", f"served-by-{found.key}"),)
        return Route((Candidate(self._executor, found.key),), losses)
