"""The chunks of a fake Gemini upstream's answer: ids of calls, signatures, usage, the envelope around them.

What is answered is antigravity_brain.py's, and what becomes of the signatures antigravity_history.py's.
"""

from dataclasses import replace
from typing import Any

from tests.fakes.antigravity_brain import Part, Reply
from tests.fakes.antigravity_fields import is_newer
from tests.fakes.antigravity_history import Runs, Signatures


class ChunkWriter:
    def __init__(self, signatures: Signatures, *, envelope: bool, ids: bool) -> None:
        self._signatures = signatures
        self._envelope = envelope
        self._ids = ids
        self._calls = 0
        self._answers = 0

    def whole(self, reply: Reply, model: str) -> dict[str, Any]:
        """The answer to who wants no stream."""
        parts = tuple(part for chunk in reply.chunks for part in chunk)
        chunks = (_joined(parts),) if reply.chunks else ()
        (chunk,) = self.chunks(replace(reply, chunks=chunks, ends_late=False), model)
        return chunk

    def chunks(self, reply: Reply, model: str) -> list[dict[str, Any]]:
        self._answers += 1
        runs = Runs()
        written = [[self._written(part, model, runs) for part in parts] for parts in reply.chunks] or (
            [[]] if reply.blocked is None else []
        )
        chunks: list[dict[str, Any]] = []
        for at, parts in enumerate(written):
            last = at == len(written) - 1
            candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
            if last and not reply.ends_late:
                candidate |= self._end(reply)
            chunks.append(self._chunk([{**candidate, "index": 0}], model, at + 1))
        if reply.ends_late:
            chunks.append(self._chunk([{**self._end(reply), "index": 0}], model, len(chunks)))
            chunks.append(self._chunk(None, model, len(chunks)))
        if reply.blocked is not None:
            blocked = self._chunk(None, model, 0)
            chunks.append({"promptFeedback": {"blockReason": reply.blocked}, **blocked})
        if not self._envelope:
            return chunks
        return [{"response": chunk, "traceId": f"trace{self._answers}"} for chunk in chunks]

    def _end(self, reply: Reply) -> dict[str, Any]:
        end: dict[str, Any] = {} if reply.finish is None else {"finishReason": reply.finish}
        if reply.message is not None:
            end["finishMessage"] = reply.message
        return end | reply.candidate

    def _chunk(self, candidates: list[Any] | None, model: str, written: int) -> dict[str, Any]:
        usage = {
            "promptTokenCount": 11,
            "candidatesTokenCount": written,
            "totalTokenCount": 14 + written,
            "cachedContentTokenCount": 4,
            "thoughtsTokenCount": 3,
        }
        chunk: dict[str, Any] = {} if candidates is None else {"candidates": candidates}
        return {
            **chunk,
            "usageMetadata": usage,
            "modelVersion": f"{model}-001",
            "responseId": f"resp{self._answers}",
        }

    def _written(self, part: Part, model: str, runs: Runs) -> Part:
        signed = bool(part.get("sign")) and is_newer(model)
        part = {name: value for name, value in part.items() if name != "sign"}
        if "functionCall" in part:
            self._calls += 1
            call = part["functionCall"]
            part = {**part, "functionCall": {"id": f"fc-{self._calls}", **call} if self._ids else call}
        kind, subject = runs.subject(part)
        if not signed:
            return part
        runs.end()
        return {**part, "thoughtSignature": self._signatures.mint(model, self._answers, kind, subject)}


def _joined(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Texts that follow each other are one in a whole answer, up to a signature."""
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else {}
        goes_on = "text" in part and "text" in last and not last.get("sign")
        if goes_on and part.get("thought") == last.get("thought"):
            joined[-1] = {**last, **part, "text": last["text"] + part["text"]}
        else:
            joined.append(part)
    return tuple(joined)
