"""A Responses upstream as strict as the original, for tests: an ASGI app, to be served on loopback.

Requests are held to codex_rules.py, sealed reasoning to codex_blobs.py, and codex_brain.py says what is
answered. Everything that was asked is recorded. What is wrong with a request is answered in the vendor's own
words, and nothing wrong is let pass.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from gateway.kernel.json import JsonError, dumps, loads
from tests.fakes.codex_blobs import MOMENT, Vault
from tests.fakes.codex_brain import Answer, Speaker, answer_to
from tests.fakes.codex_exchange import (
    BREATH_S,
    USAGE,
    Cut,
    Exchange,
    Fault,
    Recorded,
    ended_as,
    first_words,
    prompt_of,
    response_of,
)
from tests.fakes.codex_rules import Refusal, check_calls, check_ids, check_settings, refuse, request_check

REASONING_MODEL = "gpt-5.2"
PLAIN_MODEL = "gpt-4.1"


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
        exchange = Exchange(request, receive, send)
        try:
            await exchange.read()
            await self._route(scope["method"], request, exchange)
        except Refusal as refusal:
            await exchange.whole(refusal.status, refusal.body, refusal.headers)
        except Cut:
            pass  # an app that ends without ending its answer has its connection closed

    async def _route(self, method: str, request: Recorded, exchange: "Exchange") -> None:
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

    async def _respond(self, request: Recorded, exchange: "Exchange", organisation: str) -> None:
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
        response = response_of(number, body)
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
        prompt = prompt_of(request.items)
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
        conversation = f"{organisation}\0{body['model']}\0{first_words(items)}"
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
        exchange: "Exchange",
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
                raise Cut
            if answer.end == "hang":
                await exchange.left.wait()
            if answer.end in ("hang", "eof"):
                return
            if answer.end == "error":
                await exchange.piece(speaker.event("error", param=None, **answer.error))
            else:
                kind, ended = ended_as(answer, response, output)
                await exchange.piece(speaker.event(f"response.{kind}", response=ended))
            if self._done_line:
                await exchange.piece(b"data: [DONE]\n\n")

    async def _whole(
        self, exchange: "Exchange", answer: Answer, response: dict[str, Any], output: list[dict[str, Any]]
    ) -> None:
        if answer.gate_after is not None:
            await self.gate.wait()
        match answer.end:
            case "hang":
                await exchange.until_left()
            case "cut":
                await exchange.half(dumps(ended_as(answer, response, output)[1]))
            case _:
                await exchange.whole(200, ended_as(answer, response, output)[1])

    # -- compaction ---------------------------------------------------------------------------------------

    async def _compact(self, request: Recorded, exchange: "Exchange", organisation: str) -> None:
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
            "usage": USAGE,
        }
        await exchange.whole(200, compacted)
