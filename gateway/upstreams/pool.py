"""An HTTP upstream's models and credentials as routing sees them: who may be asked now, and in what order.

A conversation keeps its credential while that is awake, for upstreams cache prompts by account.
"""

from collections.abc import Mapping, Sequence

from gateway.engine.routing import Accounts, KnownModel, Resting
from gateway.kernel.spread import ranked
from gateway.turn.ports import Executor
from gateway.upstreams.config import RouteConfig, UpstreamConfig
from gateway.upstreams.cooldowns import Account, Cooldowns, Left
from gateway.upstreams.credentials import Credential
from gateway.upstreams.faults import LIMITS


class HttpUpstream:
    """See engine.routing.Upstream."""

    def __init__(self, config: UpstreamConfig, executor: Executor, cooldowns: Cooldowns) -> None:
        self.name = config.name
        self.executor = executor
        self._cooldowns = cooldowns
        self._weights = {credential.id: credential.weight for credential in config.credentials}
        self.has_choice = len(self._weights) > 1
        self._models = [
            KnownModel(
                key=model.id,
                display_name=model.name,
                vision=model.images,
                reasoning=model.reasoning,
                max_input_tokens=model.context_window or 0,
            )
            for model in config.models
        ]

    def models(self) -> Sequence[KnownModel]:
        return self._models

    def accounts(self, model: str, affinity: str, only: Sequence[str] = ()) -> Accounts:
        order = ranked(f"{self.name}\x1f{affinity}", self._among(only))
        allowed = [name for name in order if not self._left(name, model, soft=False).for_s]
        awake = [name for name in allowed if not self._left(name, model, soft=True).for_s]
        if len(awake) == len(allowed):
            return Accounts(awake, ())
        return Accounts(awake, [name for name in allowed if name not in awake])

    def is_awake(self) -> bool:
        """Whether any credential may be asked for some model."""
        return any(not self._left(name, "", soft=False).for_s for name in self._weights)

    def resting(self, model: str, only: Sequence[str] = ()) -> Resting:
        left = [self._left(name, model, soft=False) for name in self._among(only)]
        return Resting(min(left).for_s, all(one.reason in LIMITS for one in left))

    def _among(self, only: Sequence[str]) -> Mapping[str, float]:
        return {name: self._weights[name] for name in only} if only else self._weights

    def _left(self, credential: str, model: str, *, soft: bool) -> Left:
        return self._cooldowns.left(self.name, credential, model, soft=soft)


def accounts_of(configs: Sequence[UpstreamConfig], routes: Sequence[RouteConfig] = ()) -> list[Account]:
    """Everything that may ever cool: credentials, and each of their models that is listed or routed to."""
    accounts = []
    for config in configs:
        models = {model.id: None for model in config.models}
        for route in routes:
            for candidate in route.candidates:
                if candidate.upstream == config.name:
                    models |= dict.fromkeys([candidate.model] if candidate.model else route.models)
        for credential in config.credentials:
            accounts.append(Account(config.name, credential.id))
            accounts += [Account(config.name, credential.id, model) for model in models]
    return accounts


def credentials_of(config: UpstreamConfig, environ: Mapping[str, str]) -> dict[str, Credential]:
    """By id."""
    return {one.id: Credential(config.name, one, environ) for one in config.credentials}
