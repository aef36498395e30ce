"""Gemini's three forms: as Google's SDK reads it, as server-sent events by their standard, as one array."""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

import httpx2
from google import genai
from google.genai import types
from google.genai.errors import APIError

from gateway.kernel.json import Json, JsonObject, dumps, loads
from gateway.protocols.answers import ClientProtocol
from gateway.protocols.gemini.encode import GeminiEncoder
from gateway.protocols.gemini.framing import EventFraming, Framing, SdkFraming
from gateway.protocols.gemini.parse import parse_generate
from gateway.protocols.gemini.routes import GEMINI, GEMINI_ARRAY, GEMINI_SDK
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn
from gateway.wire.sse import SseSplitter
from tests.matrix.column import MODEL, SCHEMA, Apart, Folded, context
from tests.matrix.gallery import Offer


class _GeminiColumn:
    suffix = "sse"
    custom_tools = False
    resumable = True
    takes_back = False
    apart: Apart = MappingProxyType(
        {"reasoning_summary_and_full": "a stream goes on with the channel that came first"}
    )

    def turn(self, offers: Sequence[Offer] = (), *, stream: bool = True, resumable: bool = False) -> Turn:
        body: JsonObject = {
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
        }
        if offers:
            functions: Json = [{"name": offer.name, "parametersJsonSchema": SCHEMA} for offer in offers]
            body["tools"] = [{"functionDeclarations": functions}]
        method = "streamGenerateContent" if stream else "generateContent"
        named = {"model": MODEL, "method": method}
        return parse_generate(dumps(body), context(resumable=resumable, path_params=named))

    def read_whole(self, turn: Turn, body: bytes) -> JsonObject:
        return _added_up([loads(body)])

    def read_error(self, body: bytes) -> JsonObject:
        value: Any = loads(body)
        assert value.keys() == {"error"}
        error: JsonObject = value["error"]
        assert {"code", "message", "status"} <= error.keys() <= {"code", "message", "status", "details"}
        return error

    def events(self, data: bytes) -> list[bytes]:
        assert data.endswith(b"\n\n")
        return [event + b"\n\n" for event in data.split(b"\n\n")[:-1]]

    def _folded(self, values: Sequence[Any]) -> Folded:
        assert values, "a stream without a chunk"
        *before, last = values
        assert not any("error" in value for value in before), "an error is the last chunk"
        if "error" in last:
            for value in before:
                _check(value)
            return Folded(error=self.read_error(dumps(last)))
        return Folded(answer=_added_up(values))


class GeminiSdkColumn(_GeminiColumn):
    name = "gemini_sdk"
    protocol: ClientProtocol = GEMINI_SDK

    def read(self, data: bytes, *, rewritten: bool = False) -> Folded:
        said: list[Any] = []
        try:
            for chunk in _asked(data):
                said.append(_as_sent(chunk))
        except APIError as error:
            assert data.endswith(b"\n\n")
            return self._folded([*said, error.details])
        answer = self._folded(said)
        sent = [loads(event.removeprefix(b"data: ")) for event in self.events(data)]
        assert answer == self._folded(sent), "the SDK reads all that was sent"
        return answer

    def resumed(self, turn: Turn, losses: list[Loss], after: int) -> Encoder:
        return GeminiEncoder(turn, SdkFraming(), losses=losses, starting_after=after)


class GeminiEventsColumn(_GeminiColumn):
    name = "gemini_sse"
    protocol: ClientProtocol = GEMINI

    def read(self, data: bytes, *, rewritten: bool = False) -> Folded:
        splitter = SseSplitter()
        values = [loads(event.data) for event in splitter.feed(data) if event.data is not None]
        assert splitter.pending == b""
        return self._folded(values)

    def resumed(self, turn: Turn, losses: list[Loss], after: int) -> Encoder:
        framing: Framing = EventFraming()
        return GeminiEncoder(turn, framing, losses=losses, starting_after=after)


class GeminiArrayColumn(_GeminiColumn):
    name = "gemini_array"
    suffix = "json"
    resumable = False
    protocol: ClientProtocol = GEMINI_ARRAY

    def read(self, data: bytes, *, rewritten: bool = False) -> Folded:
        values = loads(data)
        assert isinstance(values, list)
        return self._folded(values)

    def resumed(self, turn: Turn, losses: list[Loss], after: int) -> Encoder:
        raise NotImplementedError("an array cannot be begun in its middle")

    def events(self, data: bytes) -> list[bytes]:
        return data.splitlines(keepends=True)


# -- the SDK ----------------------------------------------------------------------------------------------

_answer: list[bytes] = []


def _transport() -> httpx2.MockTransport:
    return httpx2.MockTransport(
        lambda request: httpx2.Response(
            200, content=_answer[-1], headers={"content-type": "text/event-stream"}, request=request
        )
    )


def _client() -> genai.Client:
    options = types.HttpOptions(
        base_url="http://127.0.0.1:9", httpx_client=httpx2.Client(transport=_transport())
    )
    return genai.Client(api_key="any", http_options=options)


_CLIENT = _client()


def _asked(data: bytes) -> Iterable[Any]:
    """What the SDK's own stream gives for an answer of these bytes."""
    _answer.append(data)
    try:
        yield from _CLIENT.models.generate_content_stream(model=MODEL, contents="hi")
    finally:
        _answer.pop()


def _as_sent(chunk: types.GenerateContentResponse) -> Any:
    value = chunk.model_dump(mode="json", by_alias=True, exclude_none=True)
    del value["sdkHttpResponse"]
    for candidate in value.get("candidates", ()):
        for part in candidate.get("content", {}).get("parts", ()):
            if signature := part.get("thoughtSignature"):
                # The SDK decodes it, and writes it in the other alphabet of Base64.
                part["thoughtSignature"] = signature.replace("-", "+").replace("_", "/")
    return value


# -- what chunks add up to --------------------------------------------------------------------------------


def _check(value: Any) -> None:
    """The types of the SDK refuse fields that they do not have."""
    types.GenerateContentResponse.model_validate(value)
    assert value.keys() <= {"candidates", "usageMetadata", "modelVersion", "responseId"}


def _added_up(values: Sequence[Any]) -> JsonObject:
    """As clients do it: texts that follow each other are one, the last chunk has the last word."""
    parts: list[Any] = []
    candidate: dict[str, Any] = {}
    whole: dict[str, Any] = {}
    for value in values:
        _check(value)
        assert "finishReason" not in candidate, "a chunk behind the last"
        [candidate] = value["candidates"]
        assert candidate["content"]["role"] == "model"
        assert candidate["content"]["parts"], "the SDKs take a content without parts for a broken one"
        for part in candidate["content"]["parts"]:
            _add(parts, dict(part))
        whole |= {name: value[name] for name in value.keys() - {"candidates"}}
    assert "finishReason" in candidate, "no chunk was the last"
    more = {name: candidate[name] for name in candidate.keys() - {"content", "index"}}
    return {**whole, **more, "parts": [part for part in parts if part != {"text": ""}]}


def _add(parts: list[Any], part: dict[str, Any]) -> None:
    last = parts[-1] if parts else {}
    both_texts = "text" in last and "text" in part and last.get("thought") == part.get("thought")
    if both_texts and not ("thoughtSignature" in last and "thoughtSignature" in part):
        last["text"] += part.pop("text")
        last.update(part)
    else:
        parts.append(part)
