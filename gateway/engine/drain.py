"""The turns that run on this replica, and how they come to an end when it stops.

Order of a drain: readiness false, still served for `listen_s`; then new turns are refused; then what runs may
end until the deadline; what is left is cancelled with TurnCancelled(drain), so that every client gets a legal
end; then the server may stop.

Connections that stay open between turns are guests: they are told to leave when the drain begins, and those
that came since when nothing new is served. Each does as soon as nothing runs on it.
"""

import asyncio
import contextlib
import logging
from typing import Literal, Protocol

from gateway.turn.events import CancelReason

log = logging.getLogger(__name__)

State = Literal["serving", "leaving", "closed"]


class Cancellable(Protocol):
    def cancel(self, reason: CancelReason) -> None: ...


class Guest(Protocol):
    def leave_soon(self) -> None:
        """Close as soon as no turn runs. Called again when it is told twice."""
        ...


class Drain:
    """`state`: serving, then leaving (not ready, still served), then closed (new turns are refused)."""

    def __init__(self, *, listen_s: float, deadline_s: float) -> None:
        self._listen_s = listen_s
        self._deadline_s = deadline_s
        self._running: set[Cancellable] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._guests: set[Guest] = set()
        self._alone = asyncio.Event()
        self._alone.set()
        self._hurry = asyncio.Event()
        self.state: State = "serving"

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def enter(self, run: Cancellable) -> None:
        self._running.add(run)
        self._idle.clear()

    def leave(self, run: Cancellable) -> None:
        self._running.discard(run)
        if not self._running:
            self._idle.set()

    def join(self, guest: Guest) -> None:
        self._guests.add(guest)
        self._alone.clear()
        if self.state == "closed":
            guest.leave_soon()

    def part(self, guest: Guest) -> None:
        self._guests.discard(guest)
        if not self._guests:
            self._alone.set()

    def _send_guests_away(self) -> None:
        for guest in list(self._guests):
            guest.leave_soon()

    def hurry(self) -> None:
        """Cut the drain short: what runs is cancelled now, its clients are told."""
        self._hurry.set()

    async def drain(self) -> None:
        """Returns when nothing runs any more and guests have left, or a while after both were made to."""
        self.state = "leaving"
        log.info("drain.started", extra={"in_flight": self.in_flight, "guests": len(self._guests)})
        self._send_guests_away()
        if self._listen_s > 0:
            await _any_of(self._hurry, within_s=self._listen_s)
        self.state = "closed"
        self._send_guests_away()
        await _any_of(self._idle, self._hurry, within_s=self._deadline_s)
        rest = list(self._running)
        for run in rest:
            run.cancel("drain")
        if rest:
            await _any_of(self._idle, within_s=CANCEL_S)
        await _any_of(self._alone, within_s=PART_S)
        log.info("drain.finished", extra={"cancelled": len(rest)})


async def _any_of(*events: asyncio.Event, within_s: float) -> None:
    """Until one of them is set or the time is up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
            waiting = [group.create_task(event.wait()) for event in events]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()


CANCEL_S = 5.0
"""How long cancelled turns have to tell their clients."""
PART_S = 3.0
"""How long guests have to say goodbye."""
