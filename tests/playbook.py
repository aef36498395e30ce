"""The sans-I/O test language: raw upstream messages in, events out.

    Playbook(decoder) >> raw(...) << TextDelta(0, "a")

`>>` feeds one message, `<<` takes the next event and compares it; `end()` asserts that nothing is left.
"""

from gateway.kernel.json import dumps
from gateway.turn.events import TurnEvent
from gateway.turn.ports import Decoder


def push(method: str, **params: object) -> bytes:
    """A JSON-RPC notification of Lingma's."""
    return dumps({"jsonrpc": "2.0", "method": method, "params": params})


class Playbook:
    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._seq = 0
        self.events: list[TurnEvent] = []
        self._read = 0

    def __rshift__(self, message: bytes) -> "Playbook":
        self._seq += 1
        self.events.extend(self._decoder.feed(message, self._seq).events)
        return self

    def __lshift__(self, expected: TurnEvent | type) -> "Playbook":
        assert self._read < len(self.events), f"no event left; expected {expected!r}"
        event = self.events[self._read]
        self._read += 1
        if isinstance(expected, type):
            assert type(event) is expected, f"{event!r} is no {expected.__name__}"
        else:
            assert event == expected
        return self

    def eof(self) -> "Playbook":
        frame = self._decoder.eof()
        if frame is not None:
            self.events.extend(frame.events)
        return self

    def end(self) -> None:
        assert self.events[self._read :] == []
