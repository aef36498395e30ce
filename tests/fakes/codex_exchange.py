"""How the fake Responses upstream reads a request and sends an answer, and what its responses look like."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.types import Message, Receive, Send

from gateway.kernel.json import dumps
from tests.fakes.codex_blobs import MOMENT, Findings, kind_of, text_of
from tests.fakes.codex_brain import Answer

HANG_S = 60
BREATH_S = 0.1
"""Between what an answer says and its bad end, for a caller to read the one before it meets the other."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is none. A raw body is for what proxies say."""

    status: int
    error: Mapping[str, Any] = {}
    body: bytes | None = None
    headers: Mapping[str, str] = {}


class Recorded:
    """One request, as it came, and what became of it."""

    def __init__(self, path: str, headers: Mapping[str, str]) -> None:
        self.path = path
        self.headers = headers
        self.raw = b""
        self.body: dict[str, Any] = {}
        self.key = ""
        self.status = 0
        self.gone = False
        """The caller closed the connection before the answer was over."""
        self.found = Findings()
        self.sealed: list[str] = []
        """Reasoning that the answer brought."""

    @property
    def items(self) -> list[Any]:
        given = self.body["input"]
        return given if isinstance(given, list) else [{"role": "user", "content": given}]

    @property
    def missing(self) -> int:
        return self.found.missing

    @property
    def blobs(self) -> list[str]:
        return [item["encrypted_content"] for item in self.items if item.get("type") == "reasoning"]


class Cut(Exception):
    """Ends the connection in the middle of an answer."""


class Exchange:
    def __init__(self, request: Recorded, receive: Receive, send: Send) -> None:
        self._request = request
        self._receive = receive
        self._send = send
        self._pending = b""
        self._slice = 0
        self.left = asyncio.Event()

    async def read(self) -> None:
        pieces = []
        while True:
            message = await self._receive()
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                self._request.raw = b"".join(pieces)
                return

    async def whole(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        await self._body(status, dumps(body), "application/json", headers or {})

    async def half(self, body: bytes) -> None:
        """An answer that breaks off in the middle of its body."""
        await self._start(200, {"content-type": "application/json", "content-length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        raise Cut

    async def fault(self, fault: Fault) -> None:
        if fault.body is not None:
            await self._body(fault.status, fault.body, "text/html", fault.headers)
        else:
            await self._body(fault.status, dumps({"error": fault.error}), "application/json", fault.headers)

    async def _body(self, status: int, body: bytes, kind: str, headers: Mapping[str, str]) -> None:
        await self._start(status, {**headers, "content-type": kind, "content-length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self._request.status = status
        given = {
            "x-request-id": f"req_{id(self._request):x}",
            "openai-processing-ms": "7",
            "openai-version": "2020-10-01",
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-remaining-requests": "499",
            **headers,
        }
        pairs = [(name.encode(), value.encode()) for name, value in given.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    @contextlib.asynccontextmanager
    async def streaming(self, slice_bytes: int) -> Any:
        """Noticing when the caller has gone."""
        self._slice = slice_bytes
        await self._start(200, {"content-type": "text/event-stream; charset=utf-8"})
        watcher = asyncio.get_running_loop().create_task(self._watch())
        try:
            yield
        except Cut:
            raise
        else:
            await self.flush()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watcher.cancel()

    async def until_left(self) -> None:
        async with asyncio.timeout(HANG_S):
            await self._watch()

    async def _watch(self) -> None:
        while True:
            message: Message = await self._receive()
            if message["type"] == "http.disconnect":
                self._request.gone = True
                self.left.set()
                return

    async def piece(self, data: bytes) -> None:
        if not self._slice:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            await asyncio.sleep(0)
            return
        self._pending += data
        while len(self._pending) >= self._slice:
            piece, self._pending = self._pending[: self._slice], self._pending[self._slice :]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def flush(self) -> None:
        if self._pending:
            piece, self._pending = self._pending, b""
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})


# -- the response -----------------------------------------------------------------------------------------


def prompt_of(items: list[Any]) -> str:
    """The newest words of the user."""
    return next((text_of(item) for item in reversed(items) if item.get("role") == "user"), "")


def first_words(items: list[Any]) -> str:
    return next(
        (text_of(item) for item in items if kind_of(item) == "message" and item["role"] == "user"), ""
    )


USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 56,
}


def response_of(number: int, body: Mapping[str, Any]) -> dict[str, Any]:
    wanted = body.get("reasoning") or {}
    text = body.get("text") or {}
    return {
        "id": f"resp_{number:06x}",
        "object": "response",
        "created_at": MOMENT,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": f"{body['model']}-2026-01-01",
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": wanted.get("effort"), "summary": wanted.get("summary")},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {
            "format": text.get("format", {"type": "text"}),
            "verbosity": text.get("verbosity", "medium"),
        },
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": [
            {"parameters": None, "strict": None, "description": None, **tool}
            for tool in body.get("tools") or ()
        ],
        "top_logprobs": 0,
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation", "disabled"),
        "usage": None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def ended_as(
    answer: Answer, response: Mapping[str, Any], output: list[dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """The kind of the terminal event, and its response."""
    given: list[dict[str, Any]] = []
    if answer.output == "whole":
        given = output
    elif answer.output == "without_ids":
        given = [{name: value for name, value in item.items() if name != "id"} for item in output]
    ended = {**response, "completed_at": MOMENT + 1, "output": given, "usage": USAGE}
    match answer.end:
        case "max_output_tokens" | "content_filter":
            return "incomplete", {
                **ended,
                "status": "incomplete",
                "incomplete_details": {"reason": answer.end},
            }
        case "failed":
            return "failed", {**ended, "status": "failed", "error": dict(answer.error), "usage": None}
        case _:
            return "completed", {**ended, "status": "completed"}
