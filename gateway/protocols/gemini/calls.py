"""Which call a function's response answers. Pure.

Called by contents.py, once for every call and every response of a conversation.
"""

from collections import defaultdict, deque

import msgspec


class Call(msgspec.Struct):
    call_id: str
    name: str
    answered: bool = False


class Calls:
    """The calls that have no response yet: found by id or by name without going through all of them."""

    def __init__(self) -> None:
        self._by_id: defaultdict[str, deque[Call]] = defaultdict(deque)
        self._by_name: defaultdict[str, deque[Call]] = defaultdict(deque)

    def add(self, call_id: str, name: str) -> None:
        call = Call(call_id, name)
        self._by_id[call_id].append(call)
        self._by_name[name].append(call)

    def answered(self, call_id: str | None, name: str | None) -> Call | None:
        """The oldest call of that id, else of that name; it is answered then."""
        call = _oldest(self._by_id.get(call_id)) if call_id else None
        if call is None and name is not None:
            call = _oldest(self._by_name.get(name))
        if call is not None:
            call.answered = True
        return call


def _oldest(calls: deque[Call] | None) -> Call | None:
    """Those that were answered under their other key go."""
    while calls:
        call = calls.popleft()
        if not call.answered:
            return call
    return None
