"""A Responses upstream as strict as the original, for tests: an ASGI app, to be served on loopback.

Requests are held to codex_rules.py, sealed reasoning to codex_blobs.py, and codex_brain.py says what is
answered. Everything that was asked is recorded. What is wrong with a request is answered in the vendor's own
words, and nothing wrong is let pass.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from starlette.types import Message, Receive, Scope, Send

from gateway.kernel.json import JsonError, dumps, loads
from tests.fakes.codex_blobs import MOMENT, Findings, Vault, kind_of, text_of
from tests.fakes.codex_brain import Answer, Speaker, answer_to
from tests.fakes.codex_rules import Refusal, check_calls, check_ids, check_settings, refuse, request_check

HANG_S = 60
BREATH_S = 0.1
"""Between what an answer says and its bad end, for a caller to read the one before it meets the other."""
REASONING_MODEL = "gpt-5.2"
PLAIN_MODEL = "gpt-4.1"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is none. A raw body is for what proxies say."""

    status: int
    error: Mapping[str, Any] = {}
    body: bytes | None = None
    headers: Mapping[str, str] = {}


UNAUTHORISED = Fault(
    status=401,
    error={
        "message": "Incorrect API key provided: sk-on********key. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    },
)
RATE_LIMITED = Fault(
    status=429,
    error={
        "message": "Rate limit reached for gpt-5.2 in organization org-one on tokens per min (TPM): Limit "
        "30000, Used 29000, Requested 2000. Please try again in 2s. Visit "
        "https://platform.openai.com/account/rate-limits to learn more.",
        "type": "tokens",
        "param": None,
        "code": "rate_limit_exceeded",
    },
    headers={"retry-after": "2", "retry-after-ms": "2000", "x-ratelimit-remaining-tokens": "1000"},
)
NO_QUOTA = Fault(
    status=429,
    error={
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    },
)
SERVER_ERROR = Fault(
    status=500,
    error={
        "message": "The server had an error while processing your request. Sorry about that!",
        "type": "server_error",
        "param": None,
        "code": None,
    },
)
OVERLOADED = Fault(
    status=503,
    error={
        "message": "Our servers are currently overloaded. Please try again later.",
        "type": "service_unavailable_error",
        "param": None,
        "code": "server_is_overloaded",
    },
)
BAD_GATEWAY = Fault(status=502, body=b"<html><body>502 Bad Gateway</body></html>")
USAGE_LIMIT = Fault(
    status=429,
    error={
        "type": "usage_limit_reached",
        "message": "The usage limit has been reached",
        "plan_type": "pro",
        "resets_in_seconds": 90,
    },
)


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


class CodexServer:
    """The app. Everything a test wants of it is set before it asks."""

    def __init__(
        self,
        *,
        keys: Mapping[str, str] | None = None,
        models: Mapping[str, bool] | None = None,
        demand: bool = True,
        compaction: bool = True,
        stream_only: bool = False,
        done_line: bool = False,
    ) -> None:
        """keys: which organisation each belongs to. models: whether each reasons. demand: reasoning that is
        missing is refused. done_line: streams end with `[DONE]`, as those of other vendors do.
        """
        self.keys = dict(keys or {"sk-one": "org-one", "sk-two": "org-one", "sk-other": "org-other"})
        self.models = dict(models or {REASONING_MODEL: True, PLAIN_MODEL: False})
        self.vault = Vault(demand=demand)
        self.requests: list[Recorded] = []
        self.queue: list[Answer | Fault] = []
        """What the next requests are answered, whatever they ask."""
        self.by_prompt: dict[str, Answer | Fault] = {}
        self.faults: dict[str, Fault] = {}
        """By key: how every request with it is answered."""
        self.gate = asyncio.Event()
        """What answers with a gate wait for."""
        self.slice_bytes = 0
        """Streams leave in pieces of this size; 0 sends each event for itself."""
        self.pace_s = 0.0
        """Between two events, as of a model that thinks."""
        self._compaction = compaction
        self._stream_only = stream_only
        self._done_line = done_line
        self._check = request_check(compaction=compaction)
        self._check_compact = request_check(compaction=compaction, compact=True)

    @property
    def answered(self) -> list[Recorded]:
        return [request for request in self.requests if request.status == 200]

    # -- HTTP ---------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        request = Recorded(scope["path"], headers)
        self.requests.append(request)
        exchange = _Exchange(request, receive, send)
        try:
            await exchange.read()
            await self._route(scope["method"], request, exchange)
        except Refusal as refusal:
            await exchange.whole(refusal.status, refusal.body, refusal.headers)
        except _Cut:
            pass  # an app that ends without ending its answer has its connection closed

    async def _route(self, method: str, request: Recorded, exchange: "_Exchange") -> None:
        organisation = self._authenticated(request)
        match method, request.path:
            case "GET", "/v1/models":
                data = [
                    {"id": name, "object": "model", "created": MOMENT, "owned_by": "fake"}
                    for name in self.models
                ]
                await exchange.whole(200, {"object": "list", "data": data})
            case "POST", "/v1/responses":
                await self._respond(request, exchange, organisation)
            case "POST", "/v1/responses/compact" if self._compaction:
                await self._compact(request, exchange, organisation)
            case _:
                raise Refusal(404, f"Invalid URL ({method} {request.path})")

    def _authenticated(self, request: Recorded) -> str:
        given = request.headers.get("authorization", "")
        if not given.startswith("Bearer "):
            raise Refusal(401, "Missing bearer or basic authentication in header")
        request.key = given.removeprefix("Bearer ")
        if request.key not in self.keys:
            raise Refusal(401, UNAUTHORISED.error["message"], code="invalid_api_key")
        return self.keys[request.key]

    # -- answers ------------------------------------------------------------------------------------------

    async def _respond(self, request: Recorded, exchange: "_Exchange", organisation: str) -> None:
        body = self._read(request, self._check)
        if self._stream_only and not body.get("stream"):
            await exchange.whole(400, {"detail": "Stream must be set to true"})
            return
        answer = self._answer(request, body)
        if isinstance(answer, Fault):
            await exchange.fault(answer)
            return
        conversation = self._checked(request, body, organisation)
        number = self.vault.answer()
        model = body["model"]
        response = _response(number, body)
        speaker = Speaker(number, response, lambda: self.vault.seal(model, organisation, number))
        output = [speaker.item(index, piece) for index, piece in enumerate(answer.pieces)]
        request.sealed = [item["encrypted_content"] for item in output if "encrypted_content" in item]
        if answer.end == "completed":
            self.vault.remember(model, organisation, conversation, number, output)
        if body.get("stream"):
            await self._stream(exchange, speaker, answer, response, output)
        else:
            await self._whole(exchange, answer, response, output)

    def _read(self, request: Recorded, check: Callable[[Any, str], None]) -> dict[str, Any]:
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Refusal(
                400,
                "Unsupported content type. Try again with a content type of 'application/json'.",
                code="unsupported_content_type",
            )
        try:
            body = loads(request.raw)
        except JsonError:
            raise Refusal(400, "We could not parse the JSON body of your request.") from None
        check(body, "")
        assert isinstance(body, dict)
        request.body = body
        if body["model"] not in self.models:
            raise refuse(f"The requested model '{body['model']}' does not exist.", "model", "model_not_found")
        return body

    def _answer(self, request: Recorded, body: Mapping[str, Any]) -> Answer | Fault:
        if request.key in self.faults:
            return self.faults[request.key]
        if self.queue:
            return self.queue.pop(0)
        prompt = _prompt(request.items)
        if prompt in self.by_prompt:
            return self.by_prompt[prompt]
        return answer_to(request.items, reasons=self.models[body["model"]])

    def _checked(self, request: Recorded, body: Mapping[str, Any], organisation: str) -> str:
        """Raises Refusal. Gives the name of the conversation."""
        items = request.items
        reasons = self.models[body["model"]]
        if body.get("previous_response_id"):
            raise refuse(
                f"Previous response with id '{body['previous_response_id']}' not found.",
                "previous_response_id",
                "previous_response_not_found",
            )
        check_ids(items, stored=body.get("store") is not False)
        check_calls(items)
        check_settings(body, reasons=reasons)
        conversation = f"{organisation}\0{body['model']}\0{_first_words(items)}"
        self.vault.check(
            items,
            model=body["model"],
            organisation=organisation,
            conversation=conversation,
            found=request.found,
        )
        return conversation

    async def _stream(
        self,
        exchange: "_Exchange",
        speaker: Speaker,
        answer: Answer,
        response: dict[str, Any],
        output: list[dict[str, Any]],
    ) -> None:
        async with exchange.streaming(self.slice_bytes):
            for count, event in enumerate(speaker.events(answer, output)):
                if count == answer.stop_after:
                    break
                if count == answer.gate_after:
                    await exchange.flush()
                    await self.gate.wait()
                await exchange.piece(event)
                if self.pace_s:
                    await asyncio.sleep(self.pace_s)
            await exchange.flush()
            if answer.end != "completed":
                await asyncio.sleep(BREATH_S)
            if answer.end == "cut":
                raise _Cut
            if answer.end == "hang":
                await exchange.left.wait()
            if answer.end in ("hang", "eof"):
                return
            if answer.end == "error":
                await exchange.piece(speaker.event("error", param=None, **answer.error))
            else:
                kind, ended = _ended(answer, response, output)
                await exchange.piece(speaker.event(f"response.{kind}", response=ended))
            if self._done_line:
                await exchange.piece(b"data: [DONE]\n\n")

    async def _whole(
        self, exchange: "_Exchange", answer: Answer, response: dict[str, Any], output: list[dict[str, Any]]
    ) -> None:
        if answer.gate_after is not None:
            await self.gate.wait()
        match answer.end:
            case "hang":
                await exchange.until_left()
            case "cut":
                await exchange.half(dumps(_ended(answer, response, output)[1]))
            case _:
                await exchange.whole(200, _ended(answer, response, output)[1])

    # -- compaction ---------------------------------------------------------------------------------------

    async def _compact(self, request: Recorded, exchange: "_Exchange", organisation: str) -> None:
        body = self._read(request, self._check_compact)
        if request.key in self.faults:
            await exchange.fault(self.faults[request.key])
            return
        if self.queue and isinstance(fault := self.queue.pop(0), Fault):
            await exchange.fault(fault)
            return
        self._checked(request, body, organisation)
        number = self.vault.answer()
        kept = [item for item in request.items if item.get("role") == "user"]
        blob = self.vault.seal(body["model"], organisation, number)
        sealed = {"id": f"cmp_{number:06x}", "type": "compaction", "encrypted_content": blob}
        compacted = {
            "id": f"resp_{number:06x}",
            "object": "response.compaction",
            "created_at": MOMENT,
            "output": [*kept, sealed],
            "usage": _USAGE,
        }
        await exchange.whole(200, compacted)


class _Cut(Exception):
    """Ends the connection in the middle of an answer."""


class _Exchange:
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
        raise _Cut

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
        except _Cut:
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


def _prompt(items: list[Any]) -> str:
    """The newest words of the user."""
    return next((text_of(item) for item in reversed(items) if item.get("role") == "user"), "")


def _first_words(items: list[Any]) -> str:
    return next(
        (text_of(item) for item in items if kind_of(item) == "message" and item["role"] == "user"), ""
    )


_USAGE = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 56,
}


def _response(number: int, body: Mapping[str, Any]) -> dict[str, Any]:
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


def _ended(
    answer: Answer, response: Mapping[str, Any], output: list[dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """The kind of the terminal event, and its response."""
    given: list[dict[str, Any]] = []
    if answer.output == "whole":
        given = output
    elif answer.output == "without_ids":
        given = [{name: value for name, value in item.items() if name != "id"} for item in output]
    ended = {**response, "completed_at": MOMENT + 1, "output": given, "usage": _USAGE}
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
