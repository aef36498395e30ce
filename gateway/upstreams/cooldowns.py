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
    reason: str = ""
    soft: bool = False
    """It only failed; nobody forbade it."""


_AWAKE = _Cooling(0)


class Cooldowns:
    def __init__(self, kv: BestEffortKV, keys: Keys, clock: Clock, accounts: Sequence[Account]) -> None:
        """`accounts`: everything there is, with and without a model."""
        self._kv = kv
        self._keys = keys
        self._clock = clock
        self._accounts = list(accounts)
        self._cooling: dict[Account, _Cooling] = {}

    def left_s(self, upstream: str, credential: str, model: str, *, soft: bool = True) -> float:
        """How long the credential is still to be left alone for that model; 0 when it may be asked.

        Without `soft`, only what was forbidden counts.
        """
        found = [
            self._cooling.get(account, _AWAKE)
            for account in (Account(upstream, credential), Account(upstream, credential, model))
        ]
        until_ms = max((one.until_ms for one in found if soft or not one.soft), default=0)
        return max(0.0, (until_ms - self._clock.now_ms()) / 1000)

    async def cool(self, account: Account, for_s: float, reason: str, *, soft: bool = False) -> None:
        """Leave it alone from now on; a longer rest that it already has stays."""
        for_s = min(for_s, MAX_COOLDOWN_S)
        cooling = _Cooling(self._clock.now_ms() + round(for_s * 1000), reason, soft)
        if for_s <= 0 or cooling.until_ms <= self._cooling.get(account, _AWAKE).until_ms:
            return
        self._cooling[account] = cooling
        log.warning(
            "upstream.cooling",
            extra={"upstream": account.upstream, "account": account.credential, "reason": reason}
            | {"for_s": round(for_s, 3), "model": account.model},
        )
        value = msgspec.json.encode(cooling)
        await self._kv.kv_set(self._keys.cooldown(*account), value, KVSetOptions(px=for_s))

    async def warm(self, account: Account) -> None:
        """It answered again."""
        if self._cooling.pop(account, None) is not None:
            await self._kv.kv_del(self._keys.cooldown(*account))

    async def refresh(self) -> None:
        """Take over what other replicas met, and forget what has passed."""
        if not self._accounts:
            return
        values = await self._kv.kv_mget(*(self._keys.cooldown(*account) for account in self._accounts))
        now_ms = self._clock.now_ms()
        for account, value in zip(self._accounts, values, strict=True):
            longest = max(_read(value), self._cooling.get(account, _AWAKE), key=lambda one: one.until_ms)
            if longest.until_ms > now_ms:
                self._cooling[account] = longest
            else:
                self._cooling.pop(account, None)

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)


def _read(value: bytes | None) -> _Cooling:
    if value is None:
        return _AWAKE
    try:
        return msgspec.json.decode(value, type=_Cooling)
    except msgspec.DecodeError:
        return _AWAKE
