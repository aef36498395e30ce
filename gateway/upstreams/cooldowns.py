"""Credentials that had better not be asked for a while, known to every replica.

Whoever meets a limit or a refusal writes it to the store, where it ends by itself; each replica reads all of
them once a second, so that asking costs nothing, and an operator may end one by deleting it there. The store
being away means that replicas know only of what they met themselves, and of what they read last.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreError
from gateway.store.keys import Keys
from gateway.store.kv import KVSetOptions
from gateway.store.kv_modes import RequiredKV

log = logging.getLogger(__name__)

REFRESH_S = 1.0
MAX_COOLDOWN_S = 12 * 3600.0


class Account(NamedTuple):
    """A credential of an upstream; with a model where only that model is refused to it."""

    upstream: str
    credential: str
    model: str = ""


class Left(NamedTuple):
    """What is left of a rest; nothing for one that has ended."""

    for_s: float = 0.0
    reason: str = ""


class _Cooling(msgspec.Struct):
    until_ms: int
    reason: str = ""
    key: str = ""
    """Which key of the credential it was; another one need not rest."""
    shared: bool = False
    """The store has it: when it no longer does, somebody has ended the rest."""


class _Watched(NamedTuple):
    account: Account
    soft: bool


_AWAKE = _Cooling(0)
_NOTHING_LEFT = Left()


class Cooldowns:
    """Rests are *hard* when somebody forbade to ask, *soft* when something only failed; those of one kind do
    not touch those of the other.
    """

    def __init__(
        self,
        kv: RequiredKV,
        keys: Keys,
        clock: Clock,
        accounts: Sequence[Account],
        *,
        key_id: Callable[[Account], str] = lambda account: "",
    ) -> None:
        """`accounts`: everything there is, with and without a model. `key_id`: of a credential's key now."""
        self._kv = kv
        self._keys = keys
        self._clock = clock
        self._watched = {_Watched(account, soft): None for account in accounts for soft in (False, True)}
        """In their order."""
        self._cooling: dict[_Watched, _Cooling] = {}
        self._key_id = key_id

    def left(self, upstream: str, credential: str, model: str, *, soft: bool) -> Left:
        """How long the credential is still to be left alone for that model, by its rests of one kind."""
        if not self._cooling:
            return _NOTHING_LEFT
        accounts = (Account(upstream, credential), Account(upstream, credential, model))
        found = [self._cooling.get(_Watched(account, soft), _AWAKE) for account in accounts]
        longest = max(found, key=lambda one: one.until_ms)
        left_ms = longest.until_ms - self._clock.now_ms()
        if left_ms <= 0 or longest.key != self._key_id(accounts[0]):
            return Left()
        return Left(left_ms / 1000, longest.reason)

    async def cool(self, account: Account, for_s: float, reason: str, *, soft: bool = False) -> None:
        """Leave it alone from now on; a longer rest of that kind that it already has stays."""
        watched = _Watched(account, soft)
        for_s = min(for_s, MAX_COOLDOWN_S)
        until_ms = self._clock.now_ms() + round(for_s * 1000)
        cooling = _Cooling(until_ms, reason, self._key_id(account._replace(model="")))
        had = self._cooling.get(watched, _AWAKE)
        if watched not in self._watched:
            return  # a model that a client made up: clients do not fill the store
        if for_s <= 0 or (cooling.until_ms <= had.until_ms and cooling.key == had.key):
            return
        self._cooling[watched] = cooling
        log.warning(
            "upstream.cooling",
            extra={"upstream": account.upstream, "account": account.credential, "reason": reason}
            | {"for_s": round(for_s, 3), "model": account.model, "soft": soft},
        )
        try:
            await self._kv.kv_set(self._key(watched), msgspec.json.encode(cooling), KVSetOptions(px=for_s))
            cooling.shared = True
        except StoreError as error:
            log.warning("upstream.cooling_unshared", extra={"error": type(error).__name__})

    async def warm(self, account: Account) -> None:
        """It answered, so it does not fail any more. What was forbidden meanwhile stays so: the question may
        be older than that.
        """
        if not self._cooling:
            return
        for one in {account, account._replace(model="")}:
            watched = _Watched(one, soft=True)
            if self._cooling.pop(watched, None) is not None:
                with contextlib.suppress(StoreError):
                    await self._kv.kv_del(self._key(watched))

    async def refresh(self) -> None:
        """Take over what other replicas met, and forget what has passed."""
        if not self._watched:
            return
        now_ms = self._clock.now_ms()
        try:
            values = await self._kv.kv_mget(*map(self._key, self._watched))
        except StoreError as error:
            log.debug("upstream.cooldowns_unread", extra={"error": type(error).__name__})
            values = [None] * len(self._watched)
            own = self._cooling
        else:
            own = {watched: one for watched, one in self._cooling.items() if not one.shared}
        self._cooling = {}
        for watched, value in zip(self._watched, values, strict=True):
            longest = max(_read(value, now_ms), own.get(watched, _AWAKE), key=lambda one: one.until_ms)
            if longest.until_ms > now_ms:
                self._cooling[watched] = longest

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_S)

    def _key(self, watched: _Watched) -> bytes:
        return self._keys.cooldown(*watched.account, "soft" if watched.soft else "hard")


def _read(value: bytes | None, now_ms: int) -> _Cooling:
    if value is None:
        return _AWAKE
    try:
        cooling = msgspec.json.decode(value, type=_Cooling)
    except msgspec.DecodeError:
        return _AWAKE
    cooling.until_ms = min(cooling.until_ms, now_ms + round(MAX_COOLDOWN_S * 1000))
    cooling.shared = True
    return cooling
