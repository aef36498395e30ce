"""Messages as Anthropic's SDK reads it."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import httpx2
from anthropic import Anthropic, APIStatusError, Stream
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from gateway.kernel.json import Json, JsonObject, dumps, loads
from gateway.protocols.messages.encode import MessagesEncoder
from gateway.protocols.messages.parse import parse_messages
from gateway.protocols.messages.routes import MESSAGES
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn
from gateway.wire.sse import SseSplitter
from tests.matrix.column import MODEL, SCHEMA, Apart, Folded, context, unknown_fields
from tests.matrix.gallery import Offer

_CLIENT = Anthropic(api_key="any", base_url="http://127.0.0.1:9")
_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
_OURS = {"message.usage.estimated", "usage.estimated"}
_OTHER_ERRORS = {"request_too_large"}
"""Documented types that the SDK's types leave out."""


class MessagesColumn:
    name = "messages"
    suffix = "sse"
    protocol = MESSAGES
    custom_tools = False
    resumable = True
    takes_back = False
    apart: Apart = MappingProxyType({})

    def turn(self, offers: Sequence[Offer] = (), *, stream: bool = True, resumable: bool = False) -> Turn:
        body: JsonObject = {
            "model": MODEL,
            "max_tokens": 1000,
            "messages": [{"role": "user", "content": "hi"}],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "stream": stream,
        }
        if offers:
            body["tools"] = [{"name": offer.name, "input_schema": SCHEMA} for offer in offers]
        return parse_messages(dumps(body), context(resumable=resumable))

    def read(self, data: bytes, *, rewritten: bool = False) -> Folded:
        values = self._values(data)
        response = httpx2.Response(200, content=data, request=httpx2.Request("POST", "http://127.0.0.1:9"))
        snapshot: Any = None
        buffers: dict[int, bytes] = {}
        stopped = False
        try:
            stream: Any = Stream(cast_to=RawMessageStreamEvent, response=response, client=_CLIENT)  # type: ignore[arg-type]
            for event in stream:
                assert not stopped, "an event after message_stop"
                snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
                stopped = event.type == "message_stop"
        except APIStatusError as error:
            assert values[-1] == error.body
            return Folded(error=self.read_error(dumps(error.body)))
        assert stopped
        for value in values:
            _check_event(value)
        return Folded(answer=_comparable(snapshot.to_dict(warnings=False)))

    def read_whole(self, turn: Turn, body: bytes) -> JsonObject:
        value: Any = loads(body)
        known = {**value, "content": [block for block in value["content"] if not _is_result(block)]}
        assert unknown_fields(Message.model_validate(known)) <= _OURS
        return _comparable(value)

    def read_error(self, body: bytes) -> JsonObject:
        value: Any = loads(body)
        assert value.keys() == {"type", "error"}
        error: JsonObject = value["error"]
        if error["type"] not in _OTHER_ERRORS:
            ErrorResponse.model_validate({"request_id": None, **value})
        assert error.keys() == {"type", "message"}
        return error

    def resumed(self, turn: Turn, losses: list[Loss], after: int) -> Encoder:
        return MessagesEncoder(turn, losses=losses, starting_after=after)

    def events(self, data: bytes) -> list[bytes]:
        return [event.raw for event in SseSplitter().feed(data)]

    def _values(self, data: bytes) -> list[Any]:
        splitter = SseSplitter()
        values: list[Any] = []
        for event in splitter.feed(data):
            assert event.data is not None
            value: Any = loads(event.data)
            assert value["type"] == event.event, "the name of the event is its type"
            if event.event != "ping":
                values.append(value)
        assert splitter.pending == b""
        return values


def _is_result(block: Any) -> bool:
    """A block that no answer of Anthropic's has: what a tool gave that the upstream has run."""
    return bool(block["type"] == "tool_result")


def _check_event(value: Any) -> None:
    if value["type"] == "content_block_start" and _is_result(value["content_block"]):
        assert value["content_block"].keys() == {"type", "tool_use_id", "content"}
        return
    assert unknown_fields(_EVENT.validate_python(value)) <= _OURS


def _comparable(message: Any) -> JsonObject:
    """A message without what is null: the SDK leaves that out, or puts it in."""
    usage = {name: value for name, value in message["usage"].items() if name != "estimated"}
    dense = _dense({**message, "usage": usage})
    assert isinstance(dense, dict)
    return dense


def _dense(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _dense(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_dense(item) for item in value]
    return value
