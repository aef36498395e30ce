"""The official SDKs against a gateway in this process, and a strict Gemini upstream behind: reasoning.

What clients are shown of it, streamed or not, plain and inside Code Assist's envelope.
"""

from typing import Any

from google.genai import types

from tests.support.antigravity_sdks import MODEL, serving
from tests.support.sdks import conformance, user

pytestmark = conformance


async def test_reasoning_is_shown_by_every_protocol() -> None:
    words = "think let me see then say done"
    async with serving() as on:
        completion = await on.openai.chat.completions.create(
            model=MODEL, messages=user(words), reasoning_effort="low"
        )
        assert completion.choices[0].message.model_extra["reasoning_content"] == "let me see"  # type: ignore[index]
        response: Any = await on.openai.responses.create(
            model=MODEL, input=words, reasoning={"effort": "high", "summary": "auto"}
        )
        assert response.output[0].summary[0].text == "let me see"
        assert response.usage.output_tokens_details.reasoning_tokens == 3
        message: Any = await on.claude.messages.create(
            model=MODEL,
            max_tokens=5000,
            messages=user(words),
            thinking={"type": "enabled", "budget_tokens": 2000},
        )
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert on.last["generationConfig"]["thinkingConfig"] == {
            "includeThoughts": True,
            "thinkingBudget": 2000,
        }
        thinking = types.ThinkingConfig(include_thoughts=True)
        config = types.GenerateContentConfig(thinking_config=thinking)
        answer: Any = await on.google.models.generate_content(model=MODEL, contents=words, config=config)
        shown = [part.text for part in answer.candidates[0].content.parts if part.thought]
        assert shown == ["let me see"]
