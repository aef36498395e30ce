"""What the fake Gemini upstream answers: told by the test, or read off what the user says.

say WORDS                       those words, in pieces
think WORDS then COMMAND        thoughts first, which are shown to who asked for them
call NAME {JSON} [and ...]      functions, in parallel
steps NAME N                    N calls of it, one after another with {"step": 1} and so on, then "done N"
draw                            a picture
json                            {"answer": 42}, for who asked for JSON
long N                          N pieces
echo                            how many contents, images and responses there were
"""

import asyncio
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

Part = dict[str, Any]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@dataclass(frozen=True)
class Reply:
    """One answer, and how it goes wrong."""

    chunks: tuple[tuple[Part, ...], ...] = ()
    """Parts by the chunk that they come in. A part with `sign: True` gets a signature."""
    finish: str | None = "STOP"
    message: str | None = None
    candidate: dict[str, Any] = field(default_factory=dict)
    """More members of the last chunk's candidate."""
    blocked: str | None = None
    status: int = 200
    error: dict[str, Any] | None = None
    """Instead of an answer; with status 200, as the chunk behind the others."""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    """The connection is broken off behind the chunks."""
    hangs: bool = False
    """Nothing comes behind the chunks, and the connection stays."""
    pause_s: float = 0.0
    """Before each chunk."""
    gate: asyncio.Event | None = None
    """Waited for behind the chunks, before the error, the cut or the end."""
    raw: tuple[bytes, ...] | None = None
    """Bytes to send instead of chunks."""
    ends_late: bool = False
    """The finish reason comes in a chunk of its own, and the usage in another."""


def error(
    status: int, word: str, message: str, *details: dict[str, Any], headers: dict[str, str] | None = None
) -> Reply:
    body = {"code": status, "message": message, "status": word}
    return Reply(
        status=status,
        error={"error": {**body, "details": list(details)} if details else body},
        headers=headers or {},
    )


def detail(kind: str, **members: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **members}


def limited(*, reason: str = "", delay: str = "", quota: str = "") -> Reply:
    details = []
    if reason:
        details.append(detail("ErrorInfo", reason=reason, domain="googleapis.com"))
    if quota:
        details.append(detail("QuotaFailure", violations=[{"quotaId": quota}]))
    if delay:
        details.append(detail("RetryInfo", retryDelay=delay))
    message = (
        "You exceeded your current quota, please check your plan and billing details. Quota exceeded for "
        "consumer 'project_number:123456789012'."
    )
    return error(429, "RESOURCE_EXHAUSTED", message, *details)


NO_CAPACITY = error(503, "UNAVAILABLE", "No capacity available for model on the server")
OVERLOADED = error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
FORBIDDEN = error(403, "PERMISSION_DENIED", "The caller does not have permission")


def text(words: str) -> tuple[tuple[Part, ...], ...]:
    """In pieces of a word each."""
    return tuple(({"text": piece},) for piece in re.findall(r"\S+\s*", words))


def answer(request: dict[str, Any], *, thinks: bool) -> Reply:
    """By the last thing that the user said, and what has come of it since."""
    contents = request["contents"]
    asked, since = _asked(contents)
    shown = request.get("generationConfig", {}).get("thinkingConfig", {}).get("includeThoughts") is True
    thought: tuple[tuple[Part, ...], ...] = ()
    if found := re.match(r"think (.+?) then (.+)", asked, re.DOTALL):
        asked = found[2]
        words = text(found[1])
        thought = tuple(({**part, "thought": True},) for (part,) in words) if shown and not since else ()
    reply = _command(asked, since, request)
    chunks = reply.chunks
    if thinks and chunks and "text" in chunks[-1][-1] and reply.finish == "STOP":
        chunks = (*chunks, ({"text": "", "sign": True},))
    return replace(reply, chunks=thought + chunks)


def _command(asked: str, since: list[Part], request: dict[str, Any]) -> Reply:
    word, _, rest = asked.partition(" ")
    if word == "call" and not since:
        calls = [_call(*one) for one in re.findall(r"([\w.:-]+)\s+(\{.*?\})(?:\s+and\s+|$)", rest)]
        return Reply((tuple({**part, "sign": at == 0} for at, part in enumerate(calls)),))
    if word == "steps":
        name, count = rest.split()[0], int(rest.split()[1])
        done = len(since)
        if done < count:
            return Reply((({**_call(name, json.dumps({"step": done + 1})), "sign": True},),))
        return Reply(text(f"done {done}"))
    if word == "call":
        given = [json.dumps(part["functionResponse"]["response"], sort_keys=True) for part in since]
        return Reply(text(f"got {' '.join(given)}"))
    if word == "draw":
        picture: Part = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
        return Reply((({"text": "here "},), (picture,)))
    if word == "json":
        return Reply((({"text": '{"answer": '},), ({"text": "42}"},)))
    if word == "long":
        return Reply(tuple(({"text": f"{at} "},) for at in range(int(rest))))
    if word == "echo":
        return Reply(text(_echo(request)))
    return Reply(text(rest if word == "say" else f"you said: {asked}"))


def _call(name: str, args: str) -> Part:
    return {"functionCall": {"name": name, "args": json.loads(args)}}


def _asked(contents: list[dict[str, Any]]) -> tuple[str, list[Part]]:
    """What the user said last, and the responses that came behind it."""
    asked, since = "", []
    for content in contents:
        for part in content["parts"]:
            if content.get("role") != "model" and part.get("text", "").strip():
                asked, since = part["text"].strip(), []
            elif "functionResponse" in part:
                since.append(part)
    return asked, since


def _echo(request: dict[str, Any]) -> str:
    parts = [part for content in request["contents"] for part in content["parts"]]
    told = {
        "contents": len(request["contents"]),
        "media": sum("inlineData" in part or "fileData" in part for part in parts),
        "responses": sum("functionResponse" in part for part in parts),
        "system": "systemInstruction" in request,
    }
    return " ".join(f"{name}={value}" for name, value in told.items())
