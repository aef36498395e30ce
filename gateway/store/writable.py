"""Whether the store takes writes: one that is full, read-only or forbids us scripts answers all the same.

One look at each bucket every LOOK_S, by the cheapest write there is. It is said once when the store begins to
refuse and once when it has taken writes for a while again; a store at its limit takes one and refuses the
next. A connection that is lost is no refusal: connect.py knows of it. Run by the composition root of a
replica, for its readiness and for those who must not take the silence of workers for their end. Workers need
none: their heartbeat writes anyway.
"""

import asyncio
import logging

from gateway.kernel.errors import StoreError
from gateway.store.calls import gather
from gateway.store.connect import Redis
from gateway.store.keys import Keys
from gateway.store.refusals import NOPERM, word_in
from gateway.store.rights import missing_rights
from gateway.store.scripts import Script

log = logging.getLogger(__name__)

LOOK_S = 0.5
CALM_S = 1.0
"""For how long all writes must have been taken."""
TTL_MS = 10_000

_PROBE = Script("probe")


class WriteWatch:
    """redis: None when everything is in memory, which takes all writes."""

    def __init__(self, redis: Redis | None, keys: Keys, name: str) -> None:
        self._redis = redis
        self._keys = [keys.probe(name, bucket) for bucket in range(keys.buckets)]
        self._refused_at = 0.0
        """Loop time of the last refusal."""
        self.refusal: str | None = None
        """What the store says, as an error would; None while it takes writes."""
        self.since: float | None = None
        """Loop time from which on it has refused; None while it takes writes."""
        self.recovered_at = float("-inf")
        """Loop time from which on it has taken writes again."""

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        if self._redis is None:
            return
        try:
            await gather(self._redis.run(_PROBE, [key], [TTL_MS]) for key in self._keys)
        except StoreError as error:
            if word := word_in(error):
                await self._refused(error, word)
        else:
            self._taken()

    async def _refused(self, error: StoreError, word: str) -> None:
        now = self._refused_at = asyncio.get_running_loop().time()
        known, self.refusal = self.refusal, error.message
        if known is not None:
            return
        self.since = now
        lacks = await self._lacks() if word == NOPERM else []
        log.warning("store.refuses_writes", extra={"error": error.message, "lacks": lacks})

    def _taken(self) -> None:
        now = asyncio.get_running_loop().time()
        if self.since is None or now - self._refused_at < CALM_S:
            return
        log.info("store.takes_writes", extra={"after_s": round(now - self.since, 1)})
        self.refusal = self.since = None
        self.recovered_at = now

    async def _lacks(self) -> list[str]:
        assert self._redis is not None
        try:
            return await missing_rights(self._redis)
        except StoreError:
            return []
