"""The turn log as a port: who may run a turn, in which state it is, and the entries its readers see.

    queued -> running -> completed | failed | cancelled | lost      by accept() and finish()
    anything but completed -> queued                                by assign(), with the next attempt

A turn is owned by one attempt on one worker incarnation, its fence. Only the holder of the fence may accept,
append or decline, and only while the state allows it; whoever finishes first wins. So a worker that was given
up for dead and comes back is refused at its first write, and no attempt runs twice. Each operation is atomic.

Entries are jobs/codec.py replies (opaque here), read through the Streams port at keys.frames(turn_id).
turnlog_redis.py and turnlog_memory.py implement the port and pass one contract suite. Every method raises
StoreUnavailable when the store does not answer; a write may then have happened or not.
"""

from collections.abc import Sequence
from enum import Enum, StrEnum
from typing import NamedTuple, Protocol

import msgspec


class TurnState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def ended(self) -> bool:
        return self is not TurnState.QUEUED and self is not TurnState.RUNNING


class Fence(NamedTuple):
    """What entitles to write on a turn."""

    attempt: int
    worker: str
    epoch: int


NOBODY = ("", -1)
"""Worker and epoch of a turn that no worker may touch: not yet assigned, or declined."""


MAX_ENTRIES = 100_000
"""Of one turn's stream. Beyond it the oldest go, and who reads from the start sees a gap."""


class TurnRecord(msgspec.Struct, frozen=True, kw_only=True):
    turn_id: str
    tenant: str
    state: TurnState = TurnState.QUEUED
    attempt: int = 0
    """0 until the first assign(), unless it is created assigned."""
    worker: str = NOBODY[0]
    epoch: int = NOBODY[1]
    instance: str = ""
    replica: str = ""
    """The replica that took the turn in."""
    created_at_ms: int
    deadline_ms: int
    last_seq: int = 0
    """Number of the last frame of the current attempt that is in the log."""
    resumable: bool = False
    retention_s: float = 60.0
    """How long record and entries are kept after the end, whoever ends it."""
    meta: bytes = b""
    """What another replica needs in order to serve the turn; opaque here."""

    @property
    def fence(self) -> Fence:
        return Fence(self.attempt, self.worker, self.epoch)


class Write(Enum):
    """What became of a write."""

    OK = "ok"
    FENCED = "fenced"
    """Refused: another attempt, another owner, another state. Stop."""
    GONE = "gone"
    """The store has no such turn (any more): it expired, or the store lost its data."""


class TurnLog(Protocol):
    async def create(self, record: TurnRecord, *, ttl_s: float, lease_ms: int) -> bool:
        """Write the record and the reader's lease (none when lease_ms is 0). False when the turn exists.

        Without a finish() everything of the turn is gone ttl_s later.
        """
        ...

    async def get(self, turn_id: str) -> TurnRecord | None: ...

    async def exists(self, turn_ids: Sequence[str]) -> list[bool]:
        """In one pipeline."""
        ...

    async def assign(self, turn_id: str, *, expected_attempt: int, fence: Fence, instance: str) -> bool:
        """Queue the turn for the fence's attempt. The old fence is dead from here on.

        False, and nothing is changed, when the turn is completed, gone, or not at the expected attempt.
        """
        ...

    async def accept(self, turn_id: str, fence: Fence, entry: bytes) -> Write:
        """From queued to running, with an entry. OK is given once: the same fence is FENCED the next time."""
        ...

    async def decline(self, turn_id: str, fence: Fence, entry: bytes) -> Write:
        """Say with an entry that this fence will not run: it can accept no more. The turn stays queued."""
        ...

    async def append(self, turn_id: str, fence: Fence, entry: bytes, *, last_seq: int) -> Write:
        """Add an entry while running. Also GONE when the entries before it are lost."""
        ...

    async def finish(
        self, turn_id: str, state: TurnState, *, fence: Fence | None, entry: bytes | None
    ) -> Write:
        """From queued or running to an end, with a last entry. FENCED when it has ended or the fence differs.

        No fence is a gateway that gives the turn up. Record and entries live for the record's retention from
        now; lease and body go at once, so a further attempt brings its own.
        """
        ...

    async def renew_leases(self, turn_ids: Sequence[str], *, lease_ms: int) -> list[bool]:
        """Say that a gateway still reads these turns, in one pipeline. False for those ended or gone."""
        ...

    async def live_leases(self, turn_ids: Sequence[str]) -> list[bool]:
        """Whether a gateway still reads each turn, in one pipeline."""
        ...
