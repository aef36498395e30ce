"""Streams as a port: append-only lists of byte strings that others wait on. No meaning is read here.

Commands to workers, frames of turns and dead letters travel on them (jobs/, store/turnlog.py,
store/deadletter.py). Entries carry one payload. Ids grow; they are opaque beyond this: `b"0"` is before every
entry, and an id once given may be passed back as a position in the same stream. streams_redis.py and
streams_memory.py implement the port and pass one contract suite.
"""

from collections.abc import Mapping
from typing import Protocol, TypeAlias

Entry: TypeAlias = tuple[bytes, bytes]
"""Id and payload."""

START = b"0"
"""The position before every entry."""


class StreamReader(Protocol):
    """One blocking read over many streams, for as long as its owner lives. One call at a time."""

    async def read(
        self, cursors: Mapping[bytes, bytes], *, block_ms: int, count: int
    ) -> list[tuple[bytes, list[Entry]]]:
        """What lies behind the position of each stream, at most `count` entries of each.

        [] when block_ms pass without any; 0 does not wait. Absent streams are waited for like empty ones.
        Changing the mapping during the wait changes nothing. Raises StoreUnavailable.
        """
        ...

    async def aclose(self) -> None: ...


class Streams(Protocol):
    """Every method raises StoreUnavailable when the store does not answer."""

    async def append(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> bytes:
        """Add an entry and return its id. The oldest go once there are max_len and about a hundred more."""
        ...

    def post(self, key: bytes, payload: bytes, *, max_len: int | None = None) -> None:
        """append() for wake-ups: sent at once, nobody waits, and a failure is logged and forgotten."""
        ...

    async def range(self, key: bytes, *, after: bytes = START, count: int = 1000) -> list[Entry]:
        """The first `count` entries behind a position. Never waits."""
        ...

    async def length(self, key: bytes) -> int: ...

    async def ensure_group(self, key: bytes, group: bytes) -> None:
        """Create the group at the beginning of the stream, and the stream, unless they exist."""
        ...

    async def read_group(
        self, key: bytes, group: bytes, consumer: bytes, *, pending: bool, block_ms: int, count: int
    ) -> list[Entry]:
        """Take entries for a consumer: those never given to anyone, or again those it holds unsettled.

        With `pending` it never waits. [] when block_ms pass (0 does not wait), and when the group was gone:
        it is created again. One call at a time for a stream.
        """
        ...

    async def settle(self, key: bytes, group: bytes, *ids: bytes) -> None:
        """Acknowledge and delete entries, both or neither. Unknown ids are ignored."""
        ...

    async def expire(self, key: bytes, ttl_s: float) -> None:
        """Delete the stream ttl_s from now, unless this is called again. Nothing when it is absent."""
        ...

    async def delete(self, *keys: bytes) -> None: ...

    def reader(self, bucket_key: bytes) -> StreamReader:
        """A reader on its own connection, for streams in the slot of bucket_key (Cluster: one a slot)."""
        ...
