"""The answer in what a Gemini upstream sends, with its exact bytes, whatever is around it. Pure.

Around it may be the envelope of Code Assist, and a list: upstreams that know no server-sent events answer a
stream with one list, and errors often come as a list of one.
"""

from typing import NamedTuple

import msgspec

from gateway.kernel.json import Json, JsonError, JsonObject, dumps, loads
from gateway.upstreams.antigravity.merge import merged


class Unreadable(ValueError):
    """Neither an answer nor an error."""


class Read(NamedTuple):
    answer: JsonObject | None
    """None for an error, and for what concerns nobody but the upstream."""
    raw: bytes | None = None
    """Of the answer."""
    error: JsonObject | None = None
    """The object that holds it, behind the answer if there is one."""


class _Envelope(msgspec.Struct):
    """Anything may stand beside the answer."""

    response: msgspec.Raw = msgspec.Raw()


_open_envelope = msgspec.json.Decoder(_Envelope).decode


class _TextPart(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _TextContent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    parts: tuple[_TextPart]
    role: str = ""


class _TextCandidate(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: _TextContent
    index: int = 0


class _TextChunk(msgspec.Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    candidates: tuple[_TextCandidate]
    usage_metadata: JsonObject | None = None
    model_version: str = ""
    response_id: str = ""


_decode_text = msgspec.json.Decoder(_TextChunk).decode


class Text(NamedTuple):
    text: str
    usage: JsonObject | None


def read_text(data: bytes) -> Text | None:
    """A chunk that holds one piece of text and nothing else, as nearly all of them; None for others."""
    if not data.startswith(b'{"candidates"'):
        return None
    try:
        chunk = _decode_text(data)
    except msgspec.DecodeError:
        return None
    return Text(chunk.candidates[0].content.parts[0].text, chunk.usage_metadata)


def read_chunk(data: bytes) -> Read:
    """Raises Unreadable."""
    try:
        value = loads(data)
    except JsonError:
        raise Unreadable("The upstream sent something that is no JSON") from None
    if isinstance(value, list):
        return _read_list(value)
    if not isinstance(value, dict):
        raise Unreadable("The upstream sent JSON that is no object")
    if value.get("error"):
        return Read(None, error=value)
    if "candidates" in value:
        return Read(value, data)
    if isinstance(inner := value.get("response"), dict):
        return Read(inner, bytes(_open_envelope(data).response))
    return Read(None) if "traceId" in value else Read(value, data)


def _read_list(values: list[Json]) -> Read:
    answers: list[JsonObject] = []
    error: JsonObject | None = None
    for value in values:
        if isinstance(value, dict) and value.get("error"):
            error = value
            break
        if isinstance(value, dict):
            inner = value.get("response")
            answers.append(inner if isinstance(inner, dict) and "candidates" not in value else value)
    if not answers and error is None:
        raise Unreadable("The upstream sent a list without an answer")
    answer = merged(answers) if len(answers) > 1 else next(iter(answers), None)
    return Read(answer, None if answer is None else dumps(answer), error)
