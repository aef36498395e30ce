"""Grounding and citations of a Gemini answer as annotations of its text, in OpenAI's form. Pure.

Google counts places in bytes of UTF-8 and within a part that a stream may have cut; the text that it says it
means is looked for where the place does not fit.
"""

import itertools
from collections.abc import Iterator
from typing import Final

from gateway.kernel.json import Json, JsonObject
from gateway.replay.lookups import at

MAX_ANNOTATIONS: Final = 1000
"""Of a message."""
_STEP: Final = 4096
_CONTINUING: Final = bytes(range(0x80, 0xC0))


class _Text:
    """A text whose places are asked for in bytes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.raw = text.encode("utf-8", "surrogatepass")
        self._ascii = text.isascii()
        self._before = [0]
        """Characters that begin before each step."""
        if not self._ascii:
            for start in range(0, len(self.raw), _STEP):
                self._before.append(self._before[-1] + _beginnings(self.raw[start : start + _STEP]))

    def characters(self, size: int) -> int:
        """Whole ones in that many bytes of its beginning."""
        size = min(size, len(self.raw))
        if self._ascii:
            return size
        step = size // _STEP
        begun = self._before[step] + _beginnings(self.raw[step * _STEP : size])
        cut = size < len(self.raw) and 0x80 <= self.raw[size] < 0xC0
        return begun - cut


def _beginnings(raw: bytes) -> int:
    return len(raw.translate(None, _CONTINUING))


def annotations(text: str, grounding: Json, citations: Json) -> list[JsonObject]:
    """For a message with this text: what it rests on, then what it repeats."""
    if not grounding and not citations:
        return []
    placed = _Text(text)
    found = itertools.chain(_grounded(placed, grounding), _cited(placed, citations))
    return list(itertools.islice(found, MAX_ANNOTATIONS))


def _grounded(text: _Text, grounding: Json) -> Iterator[JsonObject]:
    sources = [_source(chunk) for chunk in _objects(at(grounding, "groundingChunks"))]
    used: set[int] = set()
    for support in _objects(at(grounding, "groundingSupports")):
        indices = support.get("groundingChunkIndices")
        for index in indices if isinstance(indices, list) else []:
            if isinstance(index, int) and 0 <= index < len(sources) and (source := sources[index]):
                used.add(index)
                yield _annotation(source, *_place(text, support.get("segment")))
    for index, source in enumerate(sources):
        if source and index not in used:
            yield _annotation(source, 0, 0)


def _cited(text: _Text, citations: Json) -> Iterator[JsonObject]:
    for name in ("citations", "citationSources"):
        for citation in _objects(at(citations, name)):
            if source := _link(citation):
                yield _annotation(source, *_place(text, citation))


def _source(chunk: JsonObject) -> tuple[str, str] | None:
    for kind in ("web", "retrievedContext", "maps"):
        if isinstance(found := chunk.get(kind), dict):
            return _link(found)
    return None


def _link(value: JsonObject) -> tuple[str, str] | None:
    """Address and title."""
    uri, title = value.get("uri"), value.get("title")
    if not isinstance(uri, str) or not uri:
        return None
    return uri, title if isinstance(title, str) and title else uri


def _annotation(source: tuple[str, str], start: int, end: int) -> JsonObject:
    uri, title = source
    return {"type": "url_citation", "url": uri, "title": title, "start_index": start, "end_index": end}


def _place(placed: _Text, segment: Json) -> tuple[int, int]:
    """In characters; all of the text when nothing says where."""
    text = placed.text
    start, end, said = at(segment, "startIndex") or 0, at(segment, "endIndex"), at(segment, "text")
    if isinstance(start, int) and isinstance(end, int) and 0 <= start < end:
        before = placed.characters(start)
        meant = placed.raw[start:end].decode("utf-8", "ignore")
        if meant and (said is None or said == meant):
            return before, before + len(meant)
    if isinstance(said, str) and said and (found := text.find(said)) >= 0:
        return found, found + len(said)
    return 0, len(text)


def _objects(value: Json) -> list[JsonObject]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
