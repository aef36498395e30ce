"""Who may begin a turn: leases that expire, cluster-wide and per key, with a bounded queue before them.

A lease is renewed while its turn runs (one loop for all); a replica that dies leaks nothing for longer than
LEASE_S. A limit of 0 takes no lease at all, for turns that only slots bound.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import msgspec

from gateway.kernel.aio import background, shielded, supervise
from gateway.kernel.errors import GatewayError, QueueTimeout, RateLimited, StoreUnavailable
from gateway.kernel.waiting import WaitingRoom
from gateway.store.keys import Keys
from gateway.store.leases import Leases
from gateway.turn.request import Turn

log = logging.getLogger(__name__)

LEASE_S = 10.0
RENEW_S = 3.0
RETRY_AFTER_S = 1.0


class AdmissionCounts(msgspec.Struct):
    """This replica's figures since it started, and now."""

    in_flight: int = 0
    queued: int = 0
    accepted_total: int = 0
    rejected_total: int = 0


class Admission:
    def __init__(
        self,
        leases: Leases,
        keys: Keys,
        *,
        max_in_flight: int,
        queue_max: int,
    ) -> None:
        """max_in_flight counts turns of all replicas; 0 or less is no limit."""
        self._leases = leases
        self._keys = keys
        self.max_in_flight = max_in_flight
        self._room = WaitingRoom(max_waiting=queue_max)
        self._held: set[tuple[bytes, str]] = set()
        self._running: set[tuple[bytes, str]] = set()
        """Of those held, the ones that were granted."""
        self._counts = AdmissionCounts()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with background(supervise("admission.renew", self._renew)):
            yield

    def counts(self) -> AdmissionCounts:
        self._counts.queued = self._room.waiting
        return self._counts

    def reject(self) -> None:
        """Count a turn that was turned away elsewhere, for want of a slot."""
        self._counts.rejected_total += 1

    async def admit(self, turn: Turn, *, until: float) -> "Admitted":
        """Take the turn's leases, to be kept until it leaves; wait for them until the loop time `until`.

        Raises QueueTimeout, RateLimited, Overloaded, StoreUnavailable.
        """
        held: list[tuple[bytes, str]] = []
        try:
            await self._acquire_all(turn, until, held)
        except BaseException as error:
            if isinstance(error, GatewayError):
                self._counts.rejected_total += 1
            await self._give_back(held)
            raise
        self._counts.accepted_total += 1
        self._counts.in_flight += 1
        self._running.update(held)
        return Admitted(self, held)

    async def leave(self, held: list[tuple[bytes, str]]) -> None:
        self._running.difference_update(held)
        self._counts.in_flight -= 1
        await self._give_back(held)

    async def _give_back(self, held: list[tuple[bytes, str]]) -> None:
        if held:
            await shielded(self._release(held), within_s=1.0)
            self._room.announce()

    async def _acquire_all(self, turn: Turn, until: float, held: list[tuple[bytes, str]]) -> None:
        if turn.key_max_in_flight > 0:
            await self._acquire_key(turn, held)
        if self.max_in_flight > 0:
            key = self._keys.inflight
            # Noted before it is asked for: a client that leaves while the answer is under way frees it, too.
            self._hold(held, key, turn.id)

            async def attempt() -> bool | None:
                return (
                    await self._leases.acquire(key, turn.id, limit=self.max_in_flight, ttl_s=LEASE_S) or None
                )

            if await self._room.wait_for(attempt, until=until) is None:
                raise QueueTimeout(
                    "Too many in-flight requests; no capacity became free in time",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._hold(held, key, turn.id)

    async def _acquire_key(self, turn: Turn, held: list[tuple[bytes, str]]) -> None:
        """A key at its own limit is told at once: its other turns are its own business."""
        key = self._keys.inflight_of(turn.key_id)
        self._hold(held, key, turn.id)
        if not await self._leases.acquire(key, turn.id, limit=turn.key_max_in_flight, ttl_s=LEASE_S):
            raise RateLimited(
                f"This API key already has {turn.key_max_in_flight} requests in flight",
                retry_after_s=RETRY_AFTER_S,
            )

    def _hold(self, held: list[tuple[bytes, str]], key: bytes, holder: str) -> None:
        held.append((key, holder))
        self._held.add((key, holder))

    async def _release(self, held: list[tuple[bytes, str]]) -> None:
        self._held.difference_update(held)
        for key, holder in held:
            try:
                await self._leases.release(key, holder)
            except StoreUnavailable:
                log.debug("admission.release_failed")  # the lease expires by itself

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            held = list(self._held)
            if not held:
                continue
            try:
                renewed = await self._leases.renew_many(held, ttl_s=LEASE_S)
                for lease, alive in zip(held, renewed, strict=True):
                    if not alive and lease in self._running:
                        # The store lost it, or was away for too long; the turn still runs and counts.
                        await self._leases.acquire(*lease, limit=0, ttl_s=LEASE_S)
            except StoreUnavailable:
                log.debug("admission.renewal_failed")


class Admitted:
    """A turn that runs, until it leaves."""

    __slots__ = ("_admission", "_held", "_left")

    def __init__(self, admission: Admission, held: list[tuple[bytes, str]]) -> None:
        self._admission = admission
        self._held = held
        self._left = False

    async def leave(self) -> None:
        """Shielded and bounded; once."""
        if not self._left:
            self._left = True
            await self._admission.leave(self._held)
