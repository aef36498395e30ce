"""Whether an answer is one that a client may get, whatever it sent."""

import re
from typing import Any

from gateway.kernel.json import dumps, loads
from tests.fuzz.requests import Request
from tests.matrix.column import Column
from tests.matrix.matrix import COLUMNS
from tests.support.edge import Reply

BY_NAME: dict[str, Column] = {column.name: column for column in COLUMNS}
READERS = {"chat": "chat", "messages": "messages", "responses": "responses", "gemini": "gemini_array"}

LEGAL = {200, 400, 401, 404, 405, 413, 415}
LEGAL_ELSEWHERE = LEGAL | {301, 307, 501}
"""Where the address is no longer that of a turn, and where Google has methods that are not here."""

_EXPLAINS = re.compile(
    r"'[^']+'|JSON|UTF-8|request body|no text in the messages|model|[Cc]ontent-[Ee]ncoding|compressed|header"
)
"""What a message has to say where the envelope has no place for the field at fault."""


def judge(request: Request, reply: Reply) -> list[str]:
    """Everything that is wrong with an answer."""
    found: list[str] = []
    legal = LEGAL if request.surface in ("chat", "messages", "responses") else LEGAL_ELSEWHERE
    if reply.status not in legal:
        found.append(f"status {reply.status}")
    if not reply.headers.get("x-request-id"):
        found.append("no request id")
    if any(char in value for value in reply.headers.values() for char in "\r\n\0"):
        found.append("a header that is several lines")
    try:
        _read(request, reply)
    except Exception as error:
        found.append(f"{type(error).__name__}: {str(error)[:1500]}")
    return found


def _read(request: Request, reply: Reply) -> None:
    if request.method == "HEAD":
        return
    if reply.status >= 400:
        _read_error(request, reply)
    elif request.surface == "any":
        if reply.headers.get("content-type", "").startswith("application/json"):
            loads(reply.body)
    else:
        _read_answer(request, reply)


def _without_echo(body: bytes) -> bytes:
    """An answer of Responses without what comes back to its client as it came: its effort and its tools.

    Of the tools only those of types whose shape nobody here looks into; functions are checked.
    """
    return b"\n".join(_strip(line) for line in body.split(b"\n"))


def _strip(line: bytes) -> bytes:
    head, text = (b"data: ", line[6:]) if line.startswith(b"data: {") else (b"", line)
    if not text.startswith(b"{"):
        return line
    value: Any = loads(text)
    for response in (value, value.get("response")):
        if isinstance(response, dict) and "tools" in response:
            response["tools"] = [tool for tool in response["tools"] if tool["type"] == "function"]
            if isinstance(response["tool_choice"], dict):
                response["tool_choice"] = "auto"
            response["reasoning"]["effort"] = None
    return head + dumps(value)


def _read_answer(request: Request, reply: Reply) -> None:
    kind = reply.headers["content-type"]
    body = _without_echo(reply.body) if request.surface == "responses" else reply.body
    column = BY_NAME[READERS[request.surface]]
    if request.path.endswith(("count_tokens", "countTokens")):
        value: Any = loads(reply.body)
        tokens = value.get("input_tokens", value.get("totalTokens"))
        assert isinstance(tokens, int)
        assert tokens >= 0
    elif kind.startswith("text/event-stream"):
        if request.surface == "gemini":
            official = any(name == b"x-goog-api-client" for name, _ in request.headers)
            column = BY_NAME["gemini_sdk" if official else "gemini_sse"]
        _whole(column.read(body))
    elif request.surface == "gemini" and "streamGenerateContent" in request.path:
        _whole(column.read(body))
    else:
        column.read_whole(column.turn(), body)


def _whole(read: Any) -> None:
    assert read.error is None, f"a stream that failed: {read.error}"


def _read_error(request: Request, reply: Reply) -> None:
    assert reply.headers["content-type"].startswith("application/json"), reply.headers["content-type"]
    assert int(reply.headers["content-length"]) == len(reply.body)
    if request.surface != "any":
        error = BY_NAME[READERS[request.surface]].read_error(reply.body)
    else:
        error = _any_envelope(reply.body)
    message = str(error["message"])
    assert message
    assert len(message) < 2000, "a message that tells the client's body back"
    if reply.status == 400:
        value: Any = loads(reply.body)
        named = value["error"].get("param") or value["error"].get("details")
        assert named or _EXPLAINS.search(message), f"400 without a reason: {message}"


def _any_envelope(body: bytes) -> Any:
    """Of whichever protocol the path spoke in the end."""
    value: Any = loads(body)
    if "type" in value:
        return BY_NAME["messages"].read_error(body)
    if "code" in value["error"] and "status" in value["error"]:
        return BY_NAME["gemini_array"].read_error(body)
    return BY_NAME["chat"].read_error(body)
