"""h11 0.16 with a short way for what nearly every client does; for server/http1.py alone.

A plain head (one space behind each colon, no folded lines) is read with two expressions, and pieces and ends
of bodies pass a state machine that only looks whether anything else is under way. Everything else takes h11's
own way, which also says what is illegal: nothing is taken here that h11 would refuse.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import h11
from h11._readers import READERS, ContentLengthReader
from h11._readers import maybe_read_from_IDLE_client as read_any_head
from h11._receivebuffer import ReceiveBuffer
from h11._writers import ChunkedWriter, ContentLengthWriter, write_any_response

_line: Final = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.1\r\n").match
_fields: Final = re.compile(rb"([-!#$%&'*+.^_`|~0-9a-zA-Z]+): ([!-~](?:[\t -~]*[!-~])?)\r\n").findall
_UNDER_WAY: Final = frozenset({h11.SEND_RESPONSE, h11.SEND_BODY, h11.DONE})
"""States of the other side in which the end of a message changes nothing but its sender's."""
_SAYS_MORE: Final = frozenset({b"connection", b"upgrade", b"expect", b"transfer-encoding"})
_NO_BODY: Final = frozenset({204, 304})


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
        kind = type(event)
        if kind is h11.Data or kind is h11.EndOfMessage:
            plain = self._goes_on(role, ends=kind is h11.EndOfMessage)
        else:
            plain = kind is h11.Request and self._begins(event)
        if not plain:
            super()._process_event(role, event)

    def _begins(self, request: h11.Request) -> bool:
        """A request that asks for nothing but its answer."""
        cstate = self._cstate
        states = cstate.states
        if states[h11.CLIENT] is not h11.IDLE or states[h11.SERVER] is not h11.IDLE or not cstate.keep_alive:
            return False
        length = 0
        for _, name, value in request.headers._full_items:
            if name in _SAYS_MORE:
                return False
            if name == b"content-length":
                length = int(value)
        if request.method == b"CONNECT" or request.http_version != b"1.1":
            return False
        states[h11.CLIENT], states[h11.SERVER] = h11.SEND_BODY, h11.SEND_RESPONSE
        self._request_method, self.their_http_version = request.method, request.http_version
        self._reader, self._writer = ContentLengthReader(length), write_any_response
        return True

    def _goes_on(self, role: Any, *, ends: bool) -> bool:
        """A piece of a body, or its end."""
        cstate = self._cstate
        states = cstate.states
        if states[role] is not h11.SEND_BODY:
            return False
        if ends:
            other = states[h11.SERVER if role is h11.CLIENT else h11.CLIENT]
            if not cstate.keep_alive or cstate.pending_switch_proposals or other not in _UNDER_WAY:
                return False
            states[role] = h11.DONE
            if role is h11.SERVER:
                self._writer = None
            else:
                self._reader = READERS[h11.CLIENT, h11.DONE]  # type: ignore[assignment]
        if role is h11.CLIENT:
            self.client_is_waiting_for_100_continue = False
        return True

    def send_with_data_passthrough(self, event: Any) -> list[bytes] | None:
        if type(event) is h11.Response and (writer := self._plain_body(event)) is not None:
            head: list[bytes] = []
            write_any_response(event, head.append)
            if type(writer) is ChunkedWriter:
                head.insert(-1, b"Transfer-Encoding: chunked\r\n")  # before the blank line
            self._cstate.states[h11.SERVER] = h11.SEND_BODY
            self._writer = writer
            self.client_is_waiting_for_100_continue = False
            return head
        return super().send_with_data_passthrough(event)

    def _plain_body(self, response: h11.Response) -> ContentLengthWriter | ChunkedWriter | None:
        """Of an answer whose head is to be sent as it is; where it says no length, with how it is framed."""
        cstate = self._cstate
        if (
            cstate.states[h11.SERVER] is not h11.SEND_RESPONSE
            or not cstate.keep_alive
            or cstate.pending_switch_proposals
            or self._request_method == b"HEAD"
            or self.their_http_version != b"1.1"
            or response.status_code in _NO_BODY
        ):
            return None
        writer: ContentLengthWriter | ChunkedWriter = ChunkedWriter()
        for _, name, value in response.headers._full_items:
            if name == b"transfer-encoding" or (name == b"connection" and value != b"keep-alive"):
                return None
            if name == b"content-length":
                writer = ContentLengthWriter(int(value))
        return writer
