"""The official SDKs of all protocols on one gateway, and a small client of each, for what all of them do.

None of them tries anything twice. `user()` is one user's words in all protocols but Gemini's, which takes
them as they are.
"""

from functools import cached_property
from typing import Any

import anthropic
import openai
import pytest
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from google.genai.client import AsyncClient
from google.genai.errors import APIError
from openai import AsyncOpenAI

TIMEOUT_S = 30
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Sdks:
    """Each is opened when it is first asked for."""

    def __init__(self, url: str, model: str) -> None:
        self.url = url
        self.model = model

    @cached_property
    def openai(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="any", max_retries=0, timeout=TIMEOUT_S)

    @cached_property
    def claude(self) -> AsyncAnthropic:
        return AsyncAnthropic(base_url=self.url, api_key="any", max_retries=0, timeout=TIMEOUT_S)

    @cached_property
    def google(self) -> AsyncClient:
        options = types.HttpOptions(base_url=self.url, timeout=TIMEOUT_S * 1000)
        return genai.Client(api_key="any", http_options=options).aio

    async def aclose(self) -> None:
        opened = vars(self)
        if "openai" in opened:
            await self.openai.close()
        if "claude" in opened:
            await self.claude.close()
        if "google" in opened:
            await self.google.aclose()


def user(words: Any) -> list[Any]:
    return [{"role": "user", "content": words}]


# -- what they say ----------------------------------------------------------------------------------------


async def by_chat(on: Sdks, words: str, *, stream: bool) -> str:
    asked: Any = {"model": on.model, "messages": user(words)}
    if not stream:
        answer = await on.openai.chat.completions.create(**asked)
        return answer.choices[0].message.content or ""
    said = ""
    async for chunk in await on.openai.chat.completions.create(**asked, stream=True):
        said += "".join(choice.delta.content or "" for choice in chunk.choices)
    return said


async def by_responses(on: Sdks, words: str, *, stream: bool) -> str:
    if not stream:
        return (await on.openai.responses.create(model=on.model, input=words)).output_text
    said = ""
    async for event in await on.openai.responses.create(model=on.model, input=words, stream=True):
        if event.type == "response.output_text.delta":
            said += event.delta
        elif event.type == "response.failed":
            raise Failed(event.response.error.message if event.response.error else "")
    return said


async def by_messages(on: Sdks, words: str, *, stream: bool) -> str:
    asked: Any = {"model": on.model, "max_tokens": 500, "messages": user(words)}
    if not stream:
        answer = await on.claude.messages.create(**asked)
        return "".join(block.text for block in answer.content if block.type == "text")
    async with on.claude.messages.stream(**asked) as events:
        return "".join([piece async for piece in events.text_stream])


async def by_gemini(on: Sdks, words: str, *, stream: bool) -> str:
    if not stream:
        return (await on.google.models.generate_content(model=on.model, contents=words)).text or ""
    said = ""
    async for chunk in await on.google.models.generate_content_stream(model=on.model, contents=words):
        said += chunk.text or ""
    return said


class Failed(Exception):
    """A stream of Responses that said so."""


PROTOCOLS = {"chat": by_chat, "responses": by_responses, "messages": by_messages, "gemini": by_gemini}
ERRORS = (openai.APIError, anthropic.APIError, APIError, Failed)
each_protocol = pytest.mark.parametrize("ask", PROTOCOLS.values(), ids=PROTOCOLS)
streamed_or_not = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
conformance = [
    pytest.mark.conformance,
    # The SDK makes a class out of one of aiohttp's, which aiohttp would rather it did not.
    pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning"),
]


def status_of(raised: BaseException) -> int | None:
    return int(raised.code) if isinstance(raised, APIError) else getattr(raised, "status_code", None)
