"""h11 0.16 with a short way for what nearly every client does; for server_http1.py alone.

A plain head (one space behind each colon, no folded lines) is read with two expressions, and pieces and ends
of bodies pass a state machine that only looks whether anything else is under way. Everything else takes h11's
own way, which also says what is illegal: nothing is taken here that h11 would refuse.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import h11
from h11._readers import READERS
from h11._readers import maybe_read_from_IDLE_client as read_any_head
from h11._receivebuffer import ReceiveBuffer

_line: Final = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.1\r\n").match
_fields: Final = re.compile(rb"([-!#$%&'*+.^_`|~0-9a-zA-Z]+): ([!-~](?:[\t -~]*[!-~])?)\r\n").findall
_UNDER_WAY: Final = frozenset({h11.SEND_RESPONSE, h11.SEND_BODY, h11.DONE})
"""States of the other side in which the end of a message changes nothing but its sender's."""


def read_head(buffer: ReceiveBuffer) -> h11.Request | None:
    data = buffer._data
    end = data.find(b"\r\n\r\n")
    head = bytes(data[: end + 2])
    line = _line(head)
    if end < 0 or line is None:
        return read_any_head(buffer)
    fields = _fields(head, line.end())
    if line.end() + sum([len(name) + len(value) + 4 for name, value in fields]) != len(head):
        return read_any_head(buffer)  # something stands between those that were found
    buffer._extract(end + 4)
    return h11.Request(method=line[1], target=line[2], headers=fields, http_version=b"1.1", _parsed=True)


class PlainConnection(h11.Connection):
    """The server's side of a connection."""

    def _get_io_object(self, role: Any, event: Any, io_dict: Any) -> Callable[..., Any] | None:
        if io_dict is READERS and self._cstate.states[role] is h11.IDLE:
            return read_head
        return super()._get_io_object(role, event, io_dict)

    def _process_event(self, role: Any, event: Any) -> None:
        cstate = self._cstate
        states = cstate.states
        kind = type(event)
        if states[role] is not h11.SEND_BODY or kind not in (h11.Data, h11.EndOfMessage):
            super()._process_event(role, event)
            return
        if kind is h11.EndOfMessage:
            other = states[h11.SERVER if role is h11.CLIENT else h11.CLIENT]
            if not cstate.keep_alive or cstate.pending_switch_proposals or other not in _UNDER_WAY:
                super()._process_event(role, event)
                return
            states[role] = h11.DONE
            if role is h11.SERVER:
                self._writer = None
            else:
                self._reader = READERS[h11.CLIENT, h11.DONE]  # type: ignore[assignment]
        if role is h11.CLIENT:
            self.client_is_waiting_for_100_continue = False
