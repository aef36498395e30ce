"""The official SDKs against a gateway in this process, and a strict Gemini upstream behind: reasoning.

What clients are shown of it, streamed or not, plain and inside Code Assist's envelope.
"""

from typing import Any

from tests.fakes.antigravity_brain import Reply
from tests.fakes.antigravity_server import AntigravityServer
from tests.support.antigravity_sdks import MODEL, each_envelope, serving
from tests.support.sdks import conformance, streamed_or_not, user
from tests.support.sdks_reasoning import each_that_shows, messages_shows

pytestmark = conformance


THOUGHTS = Reply(
    (
        ({"text": "let me ", "thought": True},),
        ({"text": "see", "thought": True},),
        ({"text": "", "thought": True, "sign": True},),
        ({"text": "it is "},),
        ({"text": "done"},),
        ({"text": "", "sign": True},),
    )
)


@each_that_shows
@streamed_or_not
@each_envelope
async def test_reasoning_is_shown_by_every_protocol(shows: Any, stream: bool, envelope: bool) -> None:
    async with serving(AntigravityServer(envelope=envelope)) as on:
        on.server.queue = [THOUGHTS]
        shown = await shows(on, "hi", stream=stream)
        assert "".join(shown.thought) == "let me see"
        assert stream or len(shown.thought) == 1  # pieces that come together are one
        assert (shown.order, shown.text) == (["thought", "text"], "it is done")
        if shows is messages_shows:
            assert shown.signature == on.server.signatures.given_out[0]
        wanted = on.last["generationConfig"]["thinkingConfig"]
        assert wanted.get("includeThoughts", wanted.get("include_thoughts")) is True
        assert on.server.refusals == []


@each_that_shows
@each_envelope
async def test_reasoning_that_is_not_signed_is_shown(shows: Any, envelope: bool) -> None:
    async with serving(AntigravityServer(envelope=envelope)) as on:
        shown = await shows(on, "think let me see then say done", stream=True)
        assert ("".join(shown.thought), shown.text) == ("let me see", "done")


async def test_thinking_is_asked_for_as_the_client_wants_it() -> None:
    async with serving() as on:
        await messages_shows(on, "think a then say b", stream=False)
        wanted = {"includeThoughts": True, "thinkingBudget": 2000}
        assert on.last["generationConfig"]["thinkingConfig"] == wanted
        response: Any = await on.openai.responses.create(model=MODEL, input="hi", reasoning={"effort": "low"})
        assert response.usage.output_tokens_details.reasoning_tokens == 3


@streamed_or_not
@each_envelope
async def test_thinking_that_a_client_keeps_is_given_back(stream: bool, envelope: bool) -> None:
    """Claude's clients keep their blocks, and the signature of each goes back to what it signed."""
    async with serving(AntigravityServer(envelope=envelope), replay=False) as on:
        on.server.queue = [THOUGHTS]
        messages: list[Any] = user("hi")
        thinking: Any = {"type": "enabled", "budget_tokens": 2000}
        asked: Any = {"model": MODEL, "max_tokens": 5000, "thinking": thinking}
        if stream:
            async with on.claude.messages.stream(messages=messages, **asked) as events:
                first: Any = await events.get_final_message()
        else:
            first = await on.claude.messages.create(messages=messages, **asked)
        content = [block.model_dump(exclude_none=True) for block in first.content]
        messages = [*messages, {"role": "assistant", "content": content}, *user("say so")]
        await on.claude.messages.create(messages=messages, **asked)
        thought = on.last["contents"][1]["parts"][0]
        assert (thought["text"], thought["thought"]) == ("let me see", True)
        assert thought["thoughtSignature"] == on.server.signatures.given_out[0]
        assert on.server.refusals == []
