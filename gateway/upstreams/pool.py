"""An HTTP upstream's models and credentials as routing sees them: who may be asked now, and in what order.

A conversation keeps its credential while that is awake, for upstreams cache prompts by account.
"""

from collections.abc import Mapping, Sequence

from gateway.engine.routing import KnownModel
from gateway.kernel.spread import ranked
from gateway.turn.ports import Executor
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.cooldowns import Account, Cooldowns
from gateway.upstreams.credentials import Credential


class HttpUpstream:
    """See engine.routing.Upstream."""

    def __init__(self, config: UpstreamConfig, executor: Executor, cooldowns: Cooldowns) -> None:
        self.name = config.name
        self.executor = executor
        self._cooldowns = cooldowns
        self._weights = {credential.id: credential.weight for credential in config.credentials}
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

    def accounts(self, model: str, affinity: str) -> Sequence[str]:
        """Who is awake; behind them who only failed lately, for there may be nobody else."""
        order = ranked(f"{self.name}\x1f{affinity}", self._weights)
        awake = [name for name in order if self._cooldowns.left_s(self.name, name, model) == 0]
        if len(awake) == len(order):
            return awake
        allowed = [name for name in order if self._cooldowns.left_s(self.name, name, model, soft=False) == 0]
        return awake + [name for name in allowed if name not in awake]

    def rest_s(self, model: str) -> float:
        return min(self._cooldowns.left_s(self.name, name, model) for name in self._weights)


def accounts_of(configs: Sequence[UpstreamConfig]) -> list[Account]:
    """Everything that may ever cool: credentials, and each of their models."""
    accounts = []
    for config in configs:
        for credential in config.credentials:
            accounts.append(Account(config.name, credential.id))
            accounts += [Account(config.name, credential.id, model.id) for model in config.models]
    return accounts


def credentials_of(config: UpstreamConfig, environ: Mapping[str, str]) -> dict[str, Credential]:
    """By id."""
    return {one.id: Credential(config.name, one, environ) for one in config.credentials}
