"""What the official SDKs show of reasoning, streamed and whole: one small client for each protocol."""

from typing import Any, NamedTuple

import pytest
from google.genai import types

from tests.support.sdks import Sdks, user


class Shown(NamedTuple):
    thought: list[str]
    """In the pieces that it came in."""
    text: str
    signature: str
    """What the protocol has to prove it with; empty where it has nothing."""
    order: list[str]
    """Of what followed what."""


class _Told:
    def __init__(self) -> None:
        self._thought: list[str] = []
        self._text = ""
        self._order: list[str] = []
        self.signature = ""

    def thought(self, piece: str | None) -> None:
        if piece:
            self._thought.append(piece)
            self._follows("thought")

    def text(self, piece: str | None) -> None:
        if piece:
            self._text += piece
            self._follows("text")

    def _follows(self, kind: str) -> None:
        if self._order[-1:] != [kind]:
            self._order.append(kind)

    def shown(self) -> Shown:
        return Shown(self._thought, self._text, self.signature, self._order)


async def chat_shows(on: Sdks, words: str, *, stream: bool) -> Shown:
    """`reasoning_content`, which many clients look for."""
    told = _Told()
    asked: Any = {"model": on.model, "messages": user(words), "reasoning_effort": "low"}
    if stream:
        async for chunk in await on.openai.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                told.thought((choice.delta.model_extra or {}).get("reasoning_content"))
                told.text(choice.delta.content)
    else:
        message: Any = (await on.openai.chat.completions.create(**asked)).choices[0].message
        told.thought(message.model_extra["reasoning_content"])
        told.text(message.content)
    return told.shown()


async def responses_shows(on: Sdks, words: str, *, stream: bool) -> Shown:
    """Events of the summary, and the item that they are put together to."""
    told = _Told()
    asked: Any = {"model": on.model, "input": words, "reasoning": {"effort": "low", "summary": "auto"}}
    if stream:
        async with on.openai.responses.stream(**asked) as events:
            async for event in events:
                if event.type == "response.reasoning_summary_text.delta":
                    told.thought(event.delta)
                elif event.type == "response.output_text.delta":
                    told.text(event.delta)
            response: Any = await events.get_final_response()
    else:
        response = await on.openai.responses.create(**asked)
    summary = "".join(part.text for part in response.output[0].summary)
    if stream:
        assert "".join(told.shown().thought) == summary
    else:
        told.thought(summary)
        told.text(response.output_text)
    assert [item.type for item in response.output] == ["reasoning", "message"]
    told.signature = response.output[0].encrypted_content or ""
    return told.shown()


async def messages_shows(on: Sdks, words: str, *, stream: bool) -> Shown:
    """Deltas of a block of thinking, and its signature."""
    told = _Told()
    thinking: Any = {"type": "enabled", "budget_tokens": 2000}
    asked: Any = {"model": on.model, "max_tokens": 5000, "messages": user(words), "thinking": thinking}
    if stream:
        deltas: list[str] = []
        async with on.claude.messages.stream(**asked) as events:
            async for event in events:
                if event.type == "content_block_delta":
                    delta: Any = event.delta
                    deltas.append(delta.type)
                    told.thought(delta.thinking if delta.type == "thinking_delta" else None)
                    told.text(delta.text if delta.type == "text_delta" else None)
            message: Any = await events.get_final_message()
        if "signature_delta" in deltas:
            assert deltas.index("signature_delta") == deltas.count("thinking_delta"), "it ends its block"
    else:
        message = await on.claude.messages.create(**asked)
    thought, said = message.content
    assert (thought.type, said.type) == ("thinking", "text")
    if stream:
        assert "".join(told.shown().thought) == thought.thinking
    else:
        told.thought(thought.thinking)
        told.text(said.text)
    told.signature = thought.signature
    return told.shown()


async def gemini_shows(on: Sdks, words: str, *, stream: bool) -> Shown:
    """Parts that are thoughts."""
    told = _Told()
    thinking = types.ThinkingConfig(include_thoughts=True)
    config = types.GenerateContentConfig(thinking_config=thinking)
    asked: Any = {"model": on.model, "contents": words, "config": config}
    if stream:
        answers: Any = [chunk async for chunk in await on.google.models.generate_content_stream(**asked)]
    else:
        answers = [await on.google.models.generate_content(**asked)]
    for answer in answers:
        for part in answer.candidates[0].content.parts or ():
            (told.thought if part.thought else told.text)(part.text)
    return told.shown()


SHOWING = {
    "chat": chat_shows,
    "responses": responses_shows,
    "messages": messages_shows,
    "gemini": gemini_shows,
}
each_that_shows = pytest.mark.parametrize("shows", SHOWING.values(), ids=SHOWING)
