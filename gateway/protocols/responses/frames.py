"""The messages of a WebSocket of the Responses API, both ways. Pure.

From clients: `response.create`, which is a request with a few fields more, and `response.processed`, which
wants no answer. To clients: the events of the stream over HTTP, each one JSON text, and error frames, which
say what an HTTP answer would.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject, dumps, fragment, loads
from gateway.protocols.answers import Answer, Headers
from gateway.protocols.bodies import check, check_shape, load_object, missing
from gateway.protocols.responses.chain import Past
from gateway.protocols.responses.response import Ending, ended, response_out
from gateway.turn.request import Turn
from gateway.turn.usage import Usage
from gateway.wire.edits import edit_members, member
from gateway.wire.responses import CreateFrame
from gateway.wire.sse import SseSplitter

CREATE: Final = "response.create"
PROCESSED: Final = "response.processed"
LIMIT_REACHED: Final = "websocket_connection_limit_reached"
"""The one code after which every Codex connects anew and sends the whole conversation, silently."""

# -- from clients -----------------------------------------------------------------------------------------


class _Typed(msgspec.Struct):
    type: str = ""


_decode_typed = msgspec.json.Decoder(_Typed).decode


def is_processed(data: bytes) -> bool:
    """Whether a message only says that a response was taken in, whatever else stands in it."""
    if PROCESSED.encode() not in data:
        return False
    try:
        return _decode_typed(data).type == PROCESSED
    except (msgspec.DecodeError, RecursionError):
        return False


class Create(NamedTuple):
    """One `response.create`."""

    body: JsonObject
    """The request in it, without what only means something here."""
    input: list[Json]
    """What it adds to the conversation."""
    previous: str
    """The response it goes on from; empty for none."""
    generate: bool
    stream_id: str
    metadata: Mapping[str, str]
    """What Codex says in headers over HTTP: by lower-case name."""
    size: int
    """Bytes of the message."""


_OF_FRAMES: Final = ("type", "generate", "previous_response_id", "stream_id", "stream")


def read_create(data: bytes) -> Create:
    """Raises InvalidRequest naming the field at fault."""
    raw = load_object(data)
    _check_type(raw)
    frame = check(CreateFrame, raw)
    body = {name: value for name, value in raw.items() if name not in _OF_FRAMES}
    body["stream"] = True
    return Create(
        body=body,
        input=_listed(raw.get("input")),
        previous=frame.previous_response_id or "",
        generate=frame.generate is not False,
        stream_id=frame.stream_id or "",
        metadata=_headers_in(raw.get("client_metadata")),
        size=len(data),
    )


def _check_type(raw: JsonObject) -> None:
    kind = raw.get("type")
    if kind == CREATE:
        return
    if kind is None:
        raise missing("type")
    if not isinstance(kind, str):
        raise InvalidRequest("Invalid 'type': expected a string", param="type", code="invalid_type")
    raise InvalidRequest(
        f"Invalid 'type': expected '{CREATE}' or '{PROCESSED}', but got '{kind[:40]}'",
        param="type",
        code="invalid_value",
    )


def _listed(given: Json) -> list[Json]:
    match given:
        case None:
            return []
        case str():
            return [{"type": "message", "role": "user", "content": given}]
        case list():
            return given
        case _:
            return [given]


_AS_HEADER: Final = "ws_request_header_"


def _headers_in(metadata: Json) -> dict[str, str]:
    """Codex's own alone: nothing that a message says stands for a key, a host or an address."""
    if not isinstance(metadata, dict):
        return {}
    found = {}
    for name, value in metadata.items():
        header = name.lower().removeprefix(_AS_HEADER).replace("_", "-")
        if isinstance(value, str) and header.startswith(("x-codex-", "x-openai-internal-codex-")):
            found[header] = value
    return found


def continued(create: Create, past: Past, items: list[Json]) -> JsonObject:
    """The request for the whole conversation. Raises InvalidRequest when that is more than one may hold."""
    body = create.body
    if past.model and body.get("model") is None:
        body = {**body, "model": past.model}
    if create.previous:
        body = {**body, "input": [*items, *create.input]}
        check_shape(body)
    return body


_AT_ITEM: Final = re.compile(r"\binput\.(\d+)")


def as_sent(error: InvalidRequest, before: int) -> InvalidRequest:
    """The error with items counted as the client did, who has not sent those before."""

    def shifted(found: re.Match[str]) -> str:
        index = int(found[1])
        return f"input.{index - before}" if index >= before else found[0]

    if not before or error.param is None:
        return error
    return InvalidRequest(
        _AT_ITEM.sub(shifted, error.message), param=_AT_ITEM.sub(shifted, error.param), code=error.code
    )


# -- to clients -------------------------------------------------------------------------------------------


_match_plain: Final = re.compile(rb"(?:event: [^\r\n]+\n)?data: (\{[^\r\n]*)\n\n").match


class Events:
    """The events of one stream as JSON texts, byte for byte, out of the stream that HTTP would carry."""

    def __init__(self) -> None:
        self._splitter = SseSplitter()
        self._inside = False
        """Of an event that is not plain a part is still to come."""

    def of(self, data: bytes, *, last: bool = False) -> Iterator[bytes]:
        # The hot path: events as they are written here, and by nearly every upstream.
        at = 0
        while not self._inside and (plain := _match_plain(data, at)) is not None:
            yield plain[1]
            at = plain.end()
        if at == len(data) and not last:
            return
        yield from self._rest(data[at:], last=last)

    def _rest(self, data: bytes, *, last: bool) -> Iterator[bytes]:
        events = self._splitter.feed(data)
        self._inside = bool(self._splitter.pending)
        if last and (cut := self._splitter.eof()) is not None:
            events.append(cut)
        for event in events:
            # Neither comments nor `[DONE]` are messages.
            if event.data is not None and event.data.lstrip().startswith(b"{"):
                yield event.data


def error_frame(answer: Answer, named: Headers = (), stream_id: str = "") -> bytes:
    """An HTTP answer that is an error, as a message, with the headers that it would be found by."""
    frame: dict[str, object] = {"type": "error", "status": answer.status}
    error = member(answer.body, "error")
    frame["error"] = fragment((error or answer.body).decode())
    # Whether to come again is said to clients of HTTP; here the code says it.
    wait = [header for header in answer.headers if header[0] == b"retry-after"]
    if headers := {name.decode(): value.decode("latin-1") for name, value in (*wait, *named)}:
        frame["headers"] = headers
    if stream_id:
        frame["stream_id"] = stream_id
    return dumps(frame)


def prewarmed(turn: Turn) -> tuple[bytes, bytes]:
    """The answer to a request that generates nothing: a beginning and an end."""
    begun = response_out(turn)
    done = ended(begun, Ending("completed"), (), Usage(input_tokens=0, output_tokens=0))
    events = (("response.created", begun), ("response.completed", done))
    first, last = (
        dumps({"type": kind, "sequence_number": number, "response": response})
        for number, (kind, response) in enumerate(events)
    )
    return first, last


def gone_on_from(event: bytes, previous: str) -> bytes:
    """The event; where it repeats the request, with the response that the client went on from."""
    if _find_looked_at(event) is None or (response := member(event, "response")) is None:
        return event
    named = edit_members(response, {"previous_response_id": dumps(previous)})
    return event if named is response else edit_members(event, {"response": named})


# -- what an answer adds to the conversation --------------------------------------------------------------

_find_looked_at = re.compile(rb'"response(?:"|\.output_item\.done")').search
_ENDS: Final = frozenset({"response.completed", "response.done", "response.incomplete"})


class _Response(msgspec.Struct):
    id: str = ""
    output: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    output_index: int | None = None
    item: msgspec.Raw = msgspec.Raw()
    response: _Response | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


class Heard:
    """What a client was sent in one answer: it goes on from that."""

    def __init__(self) -> None:
        self.response_id = ""
        """Of an answer that ended well; empty until then."""
        self._indexed: dict[int, bytes] = {}
        self._others: list[bytes] = []
        self._output: list[msgspec.Raw] = []

    def hear(self, event: bytes) -> None:
        # The hot path: texts hold neither, for their quotes are escaped.
        if _find_looked_at(event) is None:
            return
        try:
            known = _decode_event(event)
        except msgspec.DecodeError:
            return
        if known.type == "response.output_item.done" and (item := bytes(known.item)):
            if known.output_index is None:
                self._others.append(item)
            else:
                self._indexed[known.output_index] = item
        elif known.type in _ENDS and known.response is not None:
            self.response_id = known.response.id
            self._output = known.response.output or []

    @property
    def items(self) -> list[bytes]:
        """In their order; of an answer that never said when they were done, those at its end."""
        done = [*(self._indexed[index] for index in sorted(self._indexed)), *self._others]
        return done or [bytes(item) for item in self._output]


def read_items(items: Sequence[bytes]) -> list[Json]:
    return [loads(item) for item in items]
