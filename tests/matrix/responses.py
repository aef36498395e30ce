"""Responses as OpenAI's SDK and the public schema read it."""

import re
import warnings
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import httpx2
from openai import OpenAI, Stream, omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from gateway.kernel.json import Json, JsonObject, dumps, loads
from gateway.protocols.responses.encode import ResponsesEncoder
from gateway.protocols.responses.parse import parse_responses
from gateway.protocols.responses.routes import Responses
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn
from gateway.wire.sse import SseSplitter
from tests.matrix.column import MODEL, SCHEMA, Apart, Folded, context
from tests.matrix.gallery import Offer
from tests.support.responses_schema import validate_response, validate_stream

_CLIENT = OpenAI(api_key="any", base_url="http://127.0.0.1:9")
_WHEN = re.compile(r"\. Please try again in [\d.]+m?s$")
"""How a stream says what a whole answer says in its header Retry-After."""


class ResponsesColumn:
    name = "responses"
    suffix = "sse"
    protocol = Responses()
    custom_tools = True
    resumable = True
    takes_back = True
    apart: Apart = MappingProxyType({})

    def turn(self, offers: Sequence[Offer] = (), *, stream: bool = True, resumable: bool = False) -> Turn:
        body: JsonObject = {
            "model": MODEL,
            "input": "hi",
            "include": ["reasoning.encrypted_content"],
            "stream": stream,
        }
        if offers:
            body["tools"] = [_offered(offer) for offer in offers]
        return parse_responses(dumps(body), context(resumable=resumable))

    def read(self, data: bytes, *, rewritten: bool = False) -> Folded:
        response = validate_stream(data, rewritten=rewritten).response
        self._accumulate(data)
        if response["status"] == "failed":
            return Folded(error={"message": _WHEN.sub("", response["error"]["message"])})
        return Folded(answer=_comparable(response))

    def _accumulate(self, data: bytes) -> None:
        """The SDK checks as it goes: indices, ids, what is open when."""
        state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
        response = httpx2.Response(200, content=data, request=httpx2.Request("POST", "http://127.0.0.1:9"))
        stream: Any = Stream(cast_to=ResponseStreamEvent, response=response, client=_CLIENT)  # type: ignore[arg-type]
        with warnings.catch_warnings():
            # What passes through although the SDK does not know it makes pydantic wonder.
            warnings.simplefilter("ignore")
            for event in stream:
                if event.type != "keepalive":
                    state.handle_event(event)

    def read_whole(self, turn: Turn, body: bytes) -> JsonObject:
        value: Any = loads(body)
        validate_response(value)
        return _comparable(value)

    def read_error(self, body: bytes) -> JsonObject:
        value: Any = loads(body)
        assert value.keys() == {"error"}
        assert value["error"].keys() == {"message", "type", "param", "code"}
        return {"message": value["error"]["message"]}

    def resumed(self, turn: Turn, losses: list[Loss], after: int) -> Encoder:
        return ResponsesEncoder(turn, losses=losses, starting_after=after - 1)

    def events(self, data: bytes) -> list[bytes]:
        return [event.raw for event in SseSplitter().feed(data)]


def _offered(offer: Offer) -> Json:
    if offer.namespace is not None:
        name = offer.name.removeprefix(f"{offer.namespace}__")
        inner: Json = {"type": "function", "name": name, "parameters": SCHEMA}
        return {"type": "namespace", "name": offer.namespace, "description": "", "tools": [inner]}
    if offer.kind == "custom":
        return {"type": "custom", "name": offer.name}
    return {"type": "function", "name": offer.name, "parameters": SCHEMA}


def _comparable(response: JsonObject) -> JsonObject:
    """A response without `output_text`, which only whole answers carry."""
    return {name: value for name, value in response.items() if name != "output_text"}
