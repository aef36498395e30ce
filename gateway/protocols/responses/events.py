"""Writes the numbered events of one Responses stream. Pure.

Numbers begin at 0 and have no gaps. A resumed stream is the same stream without the events that the client
has; neither keep-alives nor the last line of a stream are numbered.
"""

from collections.abc import Mapping

from gateway.kernel.json import dumps
from gateway.wire.sse import write_event

DONE = write_event(b"[DONE]")


class EventWriter:
    def __init__(self, starting_after: int = -1) -> None:
        """`starting_after`: the number of the last event that the client has."""
        self._next = 0
        self._starting_after = starting_after
        self._out: list[bytes] = []

    @property
    def last_number(self) -> int:
        """Of the event written last; 0 before the first."""
        return max(0, self._next - 1)

    def event(self, type_: str, fields: Mapping[str, object]) -> None:
        number = self._next
        self._next += 1
        if number > self._starting_after:
            name = type_.encode()
            data = dumps({"type": type_, "sequence_number": number, **fields})
            self._out.append(b"event: %b\ndata: %b\n\n" % (name, data))

    def passed(self, data: bytes) -> None:
        """An event as an upstream wrote it, its own number in it."""
        self._out.append(data)

    def go_on_behind(self, number: int) -> None:
        """What is written next has the number after that one."""
        self._next = number + 1

    def prepared(self, head: bytes, middle: bytes, value: bytes, tail: bytes) -> None:
        """An event whose bytes are known but for its number and one value."""
        number = self._next
        self._next += 1
        if number > self._starting_after:
            self._out.append(b"%b%d%b%b%b" % (head, number, middle, value, tail))

    def done(self) -> None:
        self._out.append(DONE)

    def keepalive(self) -> None:
        """An event and no comment: Codex counts only events as signs of life. It repeats the last number, for
        clients that take the number of whatever came last for their place in the stream.
        """
        data = dumps({"type": "keepalive", "sequence_number": self.last_number})
        self._out.append(write_event(data, event="keepalive"))

    def take(self) -> bytes:
        data = b"".join(self._out)
        self._out.clear()
        return data
