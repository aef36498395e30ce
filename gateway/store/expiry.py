"""When keys of a memory store end. The stores ask it before they answer, so nothing outlives its time by more
than one call, and no task is needed. Not a store: it holds no values.
"""

import heapq

from gateway.kernel.clock import Clock


class Expiries:
    """Keys and their ends. Putting an end off again and again costs a dict write, not a heap entry."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[bytes, float] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._queued: dict[bytes, float] = {}
        """The earliest time at which the heap looks at a key."""

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, key: bytes, ttl_s: float) -> None:
        end = self._clock.monotonic() + ttl_s
        self._ends[key] = end
        queued = self._queued.get(key)
        if queued is None or end < queued:
            self._queued[key] = end
            heapq.heappush(self._heap, (end, key))

    def clear(self, key: bytes) -> None:
        """The key no longer ends by itself, or is gone."""
        self._ends.pop(key, None)

    def left_s(self, key: bytes) -> float | None:
        """Seconds until the end; None for a key without one."""
        end = self._ends.get(key)
        return None if end is None else end - self._clock.monotonic()

    def due(self) -> list[bytes]:
        """Keys whose time has come, each once; they are forgotten here."""
        if not self._heap or self._heap[0][0] > (now := self._clock.monotonic()):
            return []
        keys = []
        while self._heap and self._heap[0][0] <= now:
            looked_at, key = heapq.heappop(self._heap)
            if self._queued.get(key) != looked_at:
                continue  # an earlier look was queued since, and has dealt with the key
            del self._queued[key]
            end = self._ends.get(key)
            if end is None:
                continue
            if end <= now:
                del self._ends[key]
                keys.append(key)
            else:
                self._queued[key] = end
                heapq.heappush(self._heap, (end, key))
        return keys
