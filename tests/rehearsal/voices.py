"""The official SDKs as their users have them: retries of their own, nothing set but where they go.

A voice asks one turn of a conversation and notes what it hears, so that what was heard before an exception is
known as well. Exceptions are the SDK's own.
"""

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anthropic
import msgspec
import openai
from google import genai
from google.genai import types
from google.genai.errors import APIError

from tests.support.dialects import SPOKEN, Said

TIMEOUT_S = 120
SESSION_HEADER = "x-claude-code-session-id"
RETRY_HEADER = "x-stainless-retry-count"
_SPOKEN = {spoken.name: spoken for spoken in SPOKEN}


class Question(msgspec.Struct):
    conversation: str
    model: str
    said: Sequence[Said]
    stream: bool

    def body(self, protocol: str) -> dict[str, Any]:
        return _SPOKEN[protocol].request(self.said, stream=self.stream, model=self.model)[1]


class Heard(msgspec.Struct):
    text: str = ""
    begun: bool = False
    """An answer has been given to the caller, be it an empty stream."""
    ended: bool = False
    """The last event of the protocol has come, or an answer that is no stream."""
    failed: str = ""
    """What a stream told as its end, where the SDK makes no exception of it."""
    first_at: float = 0.0

    def hear(self, text: str | None) -> None:
        if text:
            self.first_at = self.first_at or time.monotonic()
            self.text += text

    def whole(self, text: str | None) -> None:
        self.begun = self.ended = True
        self.hear(text)


class Clients:
    """One of each SDK."""

    def __init__(self, url: str) -> None:
        self.retries = 0
        """Requests that were sent again, by the SDKs that say so."""
        hooks = {"request": [self._note]}
        self.openai = openai.AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key="any",
            timeout=TIMEOUT_S,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks),
        )
        self.claude = anthropic.AsyncAnthropic(
            base_url=url,
            api_key="any",
            timeout=TIMEOUT_S,
            http_client=anthropic.DefaultAsyncHttpxClient(event_hooks=hooks),
        )
        options = types.HttpOptions(base_url=url, timeout=TIMEOUT_S * 1000)
        self.google = genai.Client(api_key="any", http_options=options).aio

    async def _note(self, request: Any) -> None:
        self.retries += int(request.headers.get(RETRY_HEADER, "0")) > 0

    async def aclose(self) -> None:
        await self.openai.close()
        await self.claude.close()
        await self.google.aclose()


Voice = Callable[[Clients, Question, Heard], Coroutine[Any, Any, None]]


async def chat(on: Clients, question: Question, heard: Heard) -> None:
    answer = await on.openai.chat.completions.create(**question.body("chat"))
    if not question.stream:
        heard.whole(answer.choices[0].message.content)
        return
    heard.begun = True
    async for chunk in answer:
        for choice in chunk.choices:
            heard.hear(choice.delta.content)
            heard.ended = heard.ended or choice.finish_reason is not None


async def responses(on: Clients, question: Question, heard: Heard) -> None:
    answer = await on.openai.responses.create(**question.body("responses"))
    if not question.stream:
        heard.whole(answer.output_text)
        return
    heard.begun = True
    async for event in answer:
        match event.type:
            case "response.output_text.delta":
                heard.hear(event.delta)
            case "response.completed":
                heard.ended = True
            case "response.incomplete" | "response.failed":
                heard.failed = str(event)


async def messages(on: Clients, question: Question, heard: Heard) -> None:
    headers = {SESSION_HEADER: question.conversation}
    answer = await on.claude.messages.create(**question.body("messages"), extra_headers=headers)
    if not question.stream:
        heard.whole("".join(block.text for block in answer.content if block.type == "text"))
        return
    heard.begun = True
    async for event in answer:
        match event.type:
            case "content_block_delta" if event.delta.type == "text_delta":
                heard.hear(event.delta.text)
            case "message_stop":
                heard.ended = True


async def gemini(on: Clients, question: Question, heard: Heard) -> None:
    asked: Any = {"model": question.model, "contents": question.body("gemini")["contents"]}
    if not question.stream:
        heard.whole((await on.google.models.generate_content(**asked)).text)
        return
    async for chunk in await on.google.models.generate_content_stream(**asked):
        heard.begun = True  # only now is anything known of the answer
        heard.hear(chunk.text)
        heard.ended = heard.ended or any(one.finish_reason for one in chunk.candidates or ())


VOICES: dict[str, Voice] = {"chat": chat, "responses": responses, "messages": messages, "gemini": gemini}


def said_by_the_gateway(error: Exception) -> bool:
    """What it answered, as an exception; else a connection has ended."""
    gone = (openai.APIConnectionError, anthropic.APIConnectionError)
    return isinstance(error, openai.APIError | anthropic.APIError | APIError) and not isinstance(error, gone)
