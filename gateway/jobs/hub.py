"""One blocking read per replica (per bucket on a Cluster) for all of its turns.

A turn subscribes and gets a Feed; the hub reads the frames streams of all feeds with one XREAD and hands each
feed its entries. A feed whose client is slow is parked: its stream leaves the read set until it has been
drained, and since the stream itself is the buffer nothing is lost and nobody else waits. A new or unparked
feed wakes a blocked read through the replica's wake stream.

During an outage of the store, be it for writes only, feeds simply stay silent; `down_since` tells for how
long. When the store comes back, feeds whose turn it no longer knows fail with StoreDataLoss. So does a feed
whose key holds something that is no stream, which would make every read over all of them fail.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from gateway.jobs.codec import DecodeProblem, ReplyMessage, decode_reply
from gateway.jobs.stats import HubStats
from gateway.kernel.aio import background, supervise
from gateway.kernel.clock import Clock
from gateway.kernel.errors import GatewayError, StoreDataLoss, StoreError, StoreRefused
from gateway.store.keys import Keys
from gateway.store.streams import Entry, StreamReader, Streams
from gateway.store.turnlog import TurnLog
from gateway.store.writable import WriteWatch

log = logging.getLogger(__name__)

BLOCK_MS = 2000
OVERDUE_S = BLOCK_MS / 1000 + 1.0
"""A read that takes longer than this has met a store that hangs."""
ENTRIES_PER_READ = 32
"""Per stream and read. An entry holds up to 64 frames."""
PARK_AT_BYTES = 512 * 1024
WAKE_TTL_S = 3600.0
WAKE_KEEP_S = 60.0
"""How often a wake stream that is in use is given its end again: it may have been deleted meanwhile."""
RETRY_MIN_S = 0.02
RETRY_MAX_S = 1.0


class Feed:
    """The replies of one turn, in order. One consumer."""

    __slots__ = (
        "_entries",
        "_error",
        "_hub",
        "_ready",
        "_size",
        "_timer",
        "_until",
        "cursor",
        "key",
        "last_at",
        "parked",
        "read_at_ms",
        "turn_id",
    )

    def __init__(self, hub: "Hub", turn_id: str, key: bytes, now: float) -> None:
        self.turn_id = turn_id
        self.key = key
        self.cursor = b"0"
        """Id of the last entry read from the stream."""
        self.last_at = now
        """Loop time of the last sign of life; an outage of the store does not count as silence."""
        self.parked = False
        self.read_at_ms = 0
        """When the oldest of the entries that wait was read, if its age is to be observed."""
        self._hub = hub
        self._entries: deque[bytes] = deque()
        self._size = 0
        self._ready: asyncio.Future[None] | None = None
        self._error: GatewayError | None = None
        self._until = 0.0
        """Loop time at which the wait under way is over."""
        self._timer: asyncio.TimerHandle | None = None
        """Fires at that time, or earlier: then it is set anew."""

    @property
    def empty(self) -> bool:
        return not self._entries

    def push(self, entries: Sequence[Entry], now: float) -> None:
        for _, payload in entries:
            self._entries.append(payload)
            self._size += len(payload)
        self.cursor = entries[-1][0]
        self.last_at = now
        if self._size >= PARK_AT_BYTES:
            self.parked = True
        self._wake()

    def fail(self, error: GatewayError) -> None:
        """What has arrived is still delivered first."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    async def next(self, *, within_s: float) -> list[ReplyMessage]:
        """All replies that are waiting, at least one; empty when within_s passed without any.

        An entry that cannot be decoded is logged and left out. Raises StoreDataLoss.
        """
        if not self._entries and self._error is None:
            await self._wait(within_s)
        if not self._entries:
            if self._error is not None:
                raise self._error
            return []
        return self._take()

    async def _wait(self, within_s: float) -> None:
        """Until something wakes us. One timer serves many waits: one for each would show in the profile."""
        loop = asyncio.get_running_loop()
        self._until = loop.time() + within_s
        if self._timer is None or self._timer.when() > self._until:
            self._set_timer(loop)
        self._ready = loop.create_future()
        try:
            await self._ready
        finally:
            self._ready = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stop_timer()
        self._timer = loop.call_at(self._until, self._expire, loop)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._ready is None:
            return
        if loop.time() >= self._until:
            self._wake()
        else:
            self._set_timer(loop)

    def _take(self) -> list[ReplyMessage]:
        messages: list[ReplyMessage] = []
        while self._entries:
            payload = self._entries.popleft()
            try:
                messages.append(decode_reply(payload))
            except DecodeProblem as problem:
                log.warning(
                    "hub.reply_undecodable", extra={"turn_id": self.turn_id, "reason": problem.reason}
                )
        self._size = 0
        if self.read_at_ms:
            if messages and (sent_at_ms := messages[0][0].sent_at_ms):
                self._hub.stats.waited(sent_at_ms, self.read_at_ms)
            self.read_at_ms = 0
        if self.parked:
            self.parked = False
            self._hub.rewire(self)
        return messages

    def close(self) -> None:
        self._stop_timer()
        self._hub.unsubscribe(self)


class Hub:
    """Owns the reading loops. `run()` is an async context that keeps them."""

    def __init__(
        self,
        streams: Streams,
        turns: TurnLog,
        keys: Keys,
        replica_id: str,
        clock: Clock,
        watch: WriteWatch | None = None,
    ) -> None:
        self.stats = HubStats()
        self.clock = clock
        self._streams = streams
        self._turns = turns
        self._keys = keys
        self._replica_id = replica_id
        self._watch = watch
        self._feeds: dict[str, Feed] = {}
        self._buckets = [_Bucket(self, streams, key) for key in keys.wakes(replica_id)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loops = [supervise(f"hub.{n}", bucket.run) for n, bucket in enumerate(self._buckets)]
        async with background(*loops):
            yield

    @property
    def turns(self) -> int:
        return len(self._feeds)

    @property
    def parked(self) -> int:
        return sum(feed.parked for feed in self._feeds.values())

    @property
    def down_since(self) -> float | None:
        """Loop time since which reads fail, or writes, so that workers cannot say anything; else None."""
        return self._down_since(self._buckets)

    def down_since_for(self, turn_id: str) -> float | None:
        """The same for one turn, whose stream lives on one node."""
        return self._down_since([self._bucket(turn_id)])

    def _down_since(self, buckets: Iterable["_Bucket"]) -> float | None:
        writes = self._watch.since if self._watch is not None else None
        times = (writes, *(bucket.down_since for bucket in buckets))
        return min((at for at in times if at is not None), default=None)

    @property
    def heard_from(self) -> float:
        """Loop time before which the silence of a worker says nothing."""
        return self._watch.recovered_at if self._watch is not None else float("-inf")

    def subscribe(self, turn_id: str) -> Feed:
        """Read the turn's frames from its first entry on."""
        feed = Feed(self, turn_id, self._keys.frames(turn_id), asyncio.get_running_loop().time())
        self._feeds[turn_id] = feed
        self._bucket(turn_id).add(feed)
        return feed

    def unsubscribe(self, feed: Feed) -> None:
        if self._feeds.get(feed.turn_id) is feed:
            del self._feeds[feed.turn_id]
        self._bucket(feed.turn_id).remove(feed)

    def rewire(self, feed: Feed) -> None:
        """A parked feed has been drained: read it again."""
        self._bucket(feed.turn_id).wake()

    def _bucket(self, turn_id: str) -> "_Bucket":
        return self._buckets[self._keys.bucket_of(turn_id)]

    async def recovered(self, feeds: Sequence[Feed], now: float) -> None:
        """After an outage: silence is counted anew, and turns that the store has lost are told so."""
        known = await self._turns.exists([feed.turn_id for feed in feeds])
        for feed, exists in zip(feeds, known, strict=True):
            feed.last_at = now
            if not exists:
                feed.fail(StoreDataLoss("the store lost this turn while it was running"))


class _Bucket:
    """The feeds whose streams live on one node, and the one read over them."""

    def __init__(self, hub: Hub, streams: Streams, wake_key: bytes) -> None:
        self._hub = hub
        self._streams = streams
        self._wake_key = wake_key
        self._wake_cursor = b"0"
        self._feeds: dict[bytes, Feed] = {}
        self._blocked = False
        self._work = asyncio.Event()
        self._posted = False
        self._kept_at = float("-inf")
        self._reading_since: float | None = None
        self._down_since: float | None = None

    @property
    def down_since(self) -> float | None:
        """Reads fail, or the one under way is long overdue: a store that hangs is away, too."""
        if self._down_since is not None:
            return self._down_since
        since = self._reading_since
        if since is not None and asyncio.get_running_loop().time() - since > OVERDUE_S:
            return since
        return None

    def add(self, feed: Feed) -> None:
        self._feeds[feed.key] = feed
        self.wake()

    def remove(self, feed: Feed) -> None:
        if self._feeds.get(feed.key) is feed:
            del self._feeds[feed.key]

    def wake(self) -> None:
        """Make a blocked read look at its feeds again. A lost wake costs at most BLOCK_MS."""
        self._work.set()
        if self._blocked:
            self._blocked = False
            self._streams.post(self._wake_key, b"", max_len=1)
            self._posted = True

    async def run(self) -> None:
        reader = self._streams.reader(self._wake_key)
        pause = RETRY_MIN_S
        loop = asyncio.get_running_loop()
        try:
            while True:
                if not self._feeds:
                    # Nobody here waits it out, and those of other buckets have not met it.
                    self._down_since = self._reading_since = None
                    await self._rest()
                try:
                    overdue = await self._read(reader)
                    await self._keep(WAKE_KEEP_S)
                    if overdue or self._down_since is not None:
                        self._kept_at = float("-inf")  # it may have come back empty
                        await self._hub.recovered(list(self._feeds.values()), loop.time())
                        self._down_since = None
                        pause = RETRY_MIN_S
                        self._hub.stats.recoveries += 1
                        log.info("hub.recovered", extra={"turns": len(self._feeds)})
                except StoreError as error:
                    if self._down_since is None:
                        self._down_since = self._reading_since or loop.time()
                        log.warning(
                            "hub.store_unavailable", extra={"turns": len(self._feeds), "error": str(error)}
                        )
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, RETRY_MAX_S)
        finally:
            await reader.aclose()

    async def _rest(self) -> None:
        """Until there is a feed."""
        self._work.clear()
        with contextlib.suppress(StoreError):
            await self._keep(0.0)
        await self._work.wait()

    async def _keep(self, every_s: float) -> None:
        """The wake stream of a replica that is gone must not stay for ever."""
        now = asyncio.get_running_loop().time()
        if self._posted and now - self._kept_at >= every_s:
            self._kept_at, self._posted = now, False
            await self._streams.expire(self._wake_key, WAKE_TTL_S)

    async def _read(self, reader: StreamReader) -> bool:
        """One read, handed out. True when its answer was overdue."""
        cursors = {feed.key: feed.cursor for feed in self._feeds.values() if not feed.parked}
        cursors[self._wake_key] = self._wake_cursor
        loop = asyncio.get_running_loop()
        self._blocked = True
        started = self._reading_since = loop.time()
        try:
            found = await reader.read(
                cursors,
                block_ms=BLOCK_MS if self._down_since is None else 1,
                count=ENTRIES_PER_READ,
            )
        except StoreRefused as error:
            if error.word != "WRONGTYPE" or not await self._mend(reader, cursors):
                raise
            found = []
        finally:
            self._blocked = False
        self._reading_since = None
        now = loop.time()
        self._hand_out(found, now)
        return now - started > OVERDUE_S

    def _hand_out(self, found: Sequence[tuple[bytes, list[Entry]]], now: float) -> None:
        brought = 0
        now_ms = self._hub.clock.now_ms()
        for key, entries in found:
            if key == self._wake_key:
                self._wake_cursor = entries[-1][0]
            elif (feed := self._feeds.get(key)) is not None:
                brought += len(entries)
                if now_ms and feed.empty:
                    feed.read_at_ms, now_ms = now_ms, 0  # the age of one reply tells that of a read
                feed.push(entries, now)
        self._hub.stats.read(brought)

    async def _mend(self, reader: StreamReader, cursors: Mapping[bytes, bytes]) -> int:
        """Look for the keys that hold no stream, one by one, and read them no more; how many there were."""
        bad = []
        for key, cursor in cursors.items():
            try:
                await reader.read({key: cursor}, block_ms=0, count=1)  # to be read again, with the others
            except StoreRefused as error:
                if error.word != "WRONGTYPE":
                    raise
                bad.append(key)
        for key in bad:
            log.warning("hub.no_stream", extra={"key": key.decode(errors="replace")})
            if key == self._wake_key:
                await self._streams.delete(key)
                self._wake_cursor, self._kept_at = b"0", float("-inf")
            elif (feed := self._feeds.pop(key, None)) is not None:
                feed.fail(StoreDataLoss("the store holds something else in the place of this turn"))
        return len(bad)
