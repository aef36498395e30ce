"""The chunks of a Gemini stream put together into the answer that was not streamed. Pure.

For clients of Gemini's own whose whole answer has to be asked for as a stream, and for upstreams that answer
a stream with one list. Texts that follow each other are one text; what a later chunk says of the answer as a
whole replaces what an earlier one said.
"""

from collections.abc import Iterable

from gateway.kernel.json import Json, JsonObject

_TEXT = {"text", "thought"}


def merged(chunks: Iterable[JsonObject]) -> JsonObject:
    answer: JsonObject = {}
    candidates: dict[int, JsonObject] = {}
    for chunk in chunks:
        answer.update({name: value for name, value in chunk.items() if name != "candidates"})
        listed = chunk.get("candidates")
        for place, candidate in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(candidate, dict):
                index = candidate.get("index")
                key = index if isinstance(index, int) else place
                candidates[key] = _candidate(candidates.get(key, {}), candidate)
    if not candidates:
        return answer
    return {"candidates": [candidates[key] for key in sorted(candidates)], **answer}


def _candidate(earlier: JsonObject, later: JsonObject) -> JsonObject:
    content, more = earlier.get("content"), later.get("content")
    if not isinstance(content, dict) or not isinstance(more, dict):
        kept = content if isinstance(content, dict) else more
        return {**earlier, **later} | ({} if kept is None else {"content": kept})
    parts = _parts(content.get("parts"), more.get("parts"))
    both: JsonObject = {**content, **more}
    return {**earlier, **later, "content": {**both, "parts": parts} if parts else both}


def _parts(earlier: Json, later: Json) -> list[Json]:
    parts = list(earlier) if isinstance(earlier, list) else []
    for part in later if isinstance(later, list) else []:
        last = parts[-1] if parts else None
        if isinstance(last, dict) and isinstance(part, dict) and _goes_on(last, part):
            parts[-1] = {**last, **part, "text": f"{last['text']}{part['text']}"}
        else:
            parts.append(part)
    return parts


def _goes_on(last: JsonObject, part: JsonObject) -> bool:
    """A text that is signed ends there: the signature is for what came before it, too."""
    if last.keys() - _TEXT or part.keys() - _TEXT - {"thoughtSignature"}:
        return False
    return "text" in last and "text" in part and last.get("thought") == part.get("thought")
