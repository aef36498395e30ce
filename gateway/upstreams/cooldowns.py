"""Credentials that had better not be asked for a while, known to every replica.

Whoever meets a limit or a refusal writes it to the store, where it ends by itself; each replica reads all of
them once a second, so that asking costs nothing. The store being away means that replicas know only of what
they met themselves.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.kernel.clock import Clock
from gateway.store.keys import Keys
from gateway.store.kv import KVSetOptions
from gateway.store.kv_modes import BestEffortKV

log = logging.getLogger(__name__)

REFRESH_S = 1.0
MAX_COOLDOWN_S = 12 * 3600.0


class Account(NamedTuple):
    """A credential of an upstream; with a model where only that model is refused to it."""

    upstream: str
    credential: str
    model: str = ""


class _Cooling(msgspec.Struct):
    until_ms: int
    reason: str


class Cooldowns:
    def __init__(self, kv: BestEffortKV, keys: Keys, clock: Clock, accounts: Sequence[Account]) -> None:
        """`accounts`: everything there is, with and without a model."""
        self._kv = kv
        self._keys = keys
        self._clock = clock
        self._accounts = list(accounts)
        self._until_ms: dict[Account, int] = {}

    def left_s(self, upstream: str, credential: str, model: str) -> float:
        """How long the credential is still to be left alone for that model; 0 when it may be asked."""
        whole = self._until_ms.get(Account(upstream, credential), 0)
        of_model = self._until_ms.get(Account(upstream, credential, model), 0)
        return max(0.0, (max(whole, of_model) - self._clock.now_ms()) / 1000)

    async def cool(self, account: Account, for_s: float, reason: str) -> None:
        """Leave it alone from now on; a longer rest that it already has stays."""
        for_s = min(for_s, MAX_COOLDOWN_S)
        until_ms = self._clock.now_ms() + round(for_s * 1000)
        if for_s <= 0 or until_ms <= self._until_ms.get(account, 0):
            return
        self._until_ms[account] = until_ms
        log.warning(
            "upstream.cooling",
            extra={"upstream": account.upstream, "credential": account.credential, "reason": reason}
            | {"for_s": round(for_s, 3), "model": account.model},
        )
        value = msgspec.json.encode(_Cooling(until_ms, reason))
        await self._kv.kv_set(self._keys.cooldown(*account), value, KVSetOptions(px=for_s))

    async def warm(self, account: Account) -> None:
        """It answered again."""
        if self._until_ms.pop(account, 0):
            await self._kv.kv_del(self._keys.cooldown(*account))

    async def refresh(self) -> None:
        """Take over what other replicas met, and forget what has passed."""
        if not self._accounts:
            return
        values = await self._kv.kv_mget(*(self._keys.cooldown(*account) for account in self._accounts))
        now_ms = self._clock.now_ms()
        for account, value in zip(self._accounts, values, strict=True):
            until_ms = max(_until_ms(value), self._until_ms.get(account, 0))
            if until_ms > now_ms:
                self._until_ms[account] = until_ms
            else:
                self._until_ms.pop(account, None)

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)


def _until_ms(value: bytes | None) -> int:
    if value is None:
        return 0
    try:
        return msgspec.json.decode(value, type=_Cooling).until_ms
    except msgspec.DecodeError:
        return 0
