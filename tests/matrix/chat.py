"""Chat Completions as OpenAI's SDK reads it."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import httpx2
from openai import APIError, OpenAI, Stream
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gateway.kernel.json import Json, JsonObject, dumps, loads
from gateway.protocols.chat.encode import ChatEncoder
from gateway.protocols.chat.parse import parse_chat
from gateway.protocols.chat.routes import CHAT
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn
from gateway.wire.sse import SseSplitter
from tests.matrix.column import MODEL, SCHEMA, Apart, Folded, context, strict
from tests.matrix.gallery import Offer

_CLIENT = OpenAI(api_key="any", base_url="http://127.0.0.1:9")
_OURS = {"reasoning_content", "estimated", "annotations"}
"""What chunks and messages carry beyond OpenAI's types. Annotations are in those of a whole message only."""


class ChatColumn:
    name = "chat"
    suffix = "sse"
    protocol = CHAT
    custom_tools = True
    resumable = True
    takes_back = False
    apart: Apart = MappingProxyType(
        {
            "reasoning_summary_and_full": "a stream goes on with the channel that came first",
        }
    )

    def turn(self, offers: Sequence[Offer] = (), *, stream: bool = True, resumable: bool = False) -> Turn:
        body: JsonObject = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hi"}],
            "stream": stream,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        if offers:
            body["tools"] = [_offered(offer) for offer in offers]
        return parse_chat(dumps(body), context(resumable=resumable))

    def read(self, data: bytes, *, rewritten: bool = False) -> Folded:
        state: Any = ChatCompletionStreamState()
        response = httpx2.Response(200, content=data, request=httpx2.Request("POST", "http://127.0.0.1:9"))
        chunks = 0
        try:
            for chunk in Stream(cast_to=ChatCompletionChunk, response=response, client=_CLIENT):
                chunks += 1
                state.handle_chunk(chunk)
        except APIError as error:
            assert self._values(data)[-1] == {"error": error.body}, "an error is the last event"
            return Folded(error=_object(error.body))
        values = self._values(data)
        assert values.pop() == "[DONE]"
        assert len(values) == chunks
        for value in values:
            strict(ChatCompletionChunk, _without_custom_calls(value), _ours)
        _check_order(values)
        return Folded(answer=_comparable(state.current_completion_snapshot.to_dict()))

    def read_whole(self, turn: Turn, body: bytes) -> JsonObject:
        value = loads(body)
        strict(ChatCompletion, value, _ours)
        return _comparable(value)

    def read_error(self, body: bytes) -> JsonObject:
        value = _object(loads(body))
        assert value.keys() == {"error"}
        error = _object(value["error"])
        assert error.keys() == {"message", "type", "param", "code"}
        return error

    def resumed(self, turn: Turn, losses: list[Loss], after: int) -> Encoder:
        return ChatEncoder(turn, True, losses=losses, starting_after=after)

    def events(self, data: bytes) -> list[bytes]:
        return [event.raw for event in SseSplitter().feed(data)]

    def _values(self, data: bytes) -> list[Json]:
        splitter = SseSplitter()
        events = [event.data for event in splitter.feed(data) if event.data is not None]
        assert splitter.pending == b""
        return ["[DONE]" if event == b"[DONE]" else loads(event) for event in events]


def _offered(offer: Offer) -> Json:
    if offer.kind == "custom":
        return {"type": "custom", "custom": {"name": offer.name}}
    return {"type": "function", "function": {"name": offer.name, "parameters": SCHEMA}}


def _ours(path: str) -> bool:
    return path.rpartition(".")[2] in _OURS


def _check_order(chunks: list[Any]) -> None:
    """A role first, the reason last, usage behind it, and one head for all."""
    *spoken, usage = chunks if not chunks[-1]["choices"] else [*chunks, None]
    deltas = [chunk["choices"][0] for chunk in spoken]
    assert [("role" in delta["delta"]) for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    assert [bool(delta["finish_reason"]) for delta in deltas] == [False] * (len(deltas) - 1) + [True]
    assert all(chunk.get("usage") is None for chunk in spoken)
    assert usage is None or usage["usage"]
    assert len({tuple((name, chunk[name]) for name in ("id", "created", "model")) for chunk in chunks}) == 1


def _without_custom_calls(value: Any) -> Json:
    """OpenAI streams them too, but the SDK's type of a chunk knows functions only."""
    choices = []
    for choice in value["choices"]:
        calls = [call for call in choice["delta"].get("tool_calls", ()) if "custom" not in call]
        choices.append({**choice, "delta": {**choice["delta"], "tool_calls": calls}})
    return {**value, "choices": choices}


def _object(value: object) -> JsonObject:
    assert isinstance(value, dict)
    return value


def _comparable(completion: Any) -> JsonObject:
    """A completion without what differs by nature: what kind of object it is, and how calls are numbered."""
    [choice] = completion["choices"]
    message = {name: value for name, value in choice["message"].items() if value not in (None, "", [])}
    for call in message.get("tool_calls", ()):
        call.pop("index", None)
        if call.get("function") is None:
            call.pop("function", None)
        else:
            call["function"].pop("parsed_arguments", None)
    message.pop("parsed", None)
    for annotation in message.get("annotations", ()):
        annotation.pop("index", None)
    return {
        **{name: completion.get(name) for name in ("id", "created", "model", "service_tier", "usage")},
        "message": message,
        "finish_reason": choice["finish_reason"],
    }
