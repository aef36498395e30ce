"""The official Anthropic SDK against `lingma-gateway up`: what a person who has only that SDK sees."""

import os
import subprocess
import sys
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import Message, MessageParam, TextBlock, ToolParam

from tests.support.processes import Service, asks_of

pytestmark = pytest.mark.conformance

MODEL = "org_auto"
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def sync_client(service: Service, **options: Any) -> Anthropic:
    return Anthropic(**{"base_url": service.url, "api_key": "any", "max_retries": 0, "timeout": 60} | options)


def async_client(service: Service, **options: Any) -> AsyncAnthropic:
    chosen = {"base_url": service.url, "api_key": "any", "max_retries": 0, "timeout": 60} | options
    return AsyncAnthropic(**chosen)


def user(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


# -- answers ----------------------------------------------------------------------------------------------


def test_a_message(live: Service) -> None:
    with sync_client(live) as client:
        message = client.messages.create(model=MODEL, max_tokens=64, messages=user("say hello"))
    assert isinstance(message, Message)
    assert isinstance(message.content[0], TextBlock)
    assert message.content[0].text == "hello"
    assert (message.stop_reason, message.stop_sequence, message.model) == ("end_turn", None, MODEL)
    assert message.id.startswith("msg_")
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert message._request_id


def test_a_stream(live: Service) -> None:
    with sync_client(live) as client:
        events = list(
            client.messages.create(
                model=MODEL, max_tokens=64, messages=user("count from 1 to 5"), stream=True
            )
        )
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    text = "".join(
        event.delta.text
        for event in events
        if event.type == "content_block_delta" and event.delta.type == "text_delta"
    )
    assert [int(word) for word in text.replace(",", " ").split()] == [1, 2, 3, 4, 5]


def test_the_stream_helper_ends_with_the_whole_message(live: Service) -> None:
    asked = user("say one two three")
    with sync_client(live) as client:
        whole = client.messages.create(model=MODEL, max_tokens=64, messages=asked)
        with client.messages.stream(model=MODEL, max_tokens=64, messages=asked) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert text == text_of(final) == text_of(whole) == "one two three"
    assert final.stop_reason == whole.stop_reason
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens


async def test_the_async_client(live: Service) -> None:
    async with async_client(live) as client:
        message = await client.messages.create(model=MODEL, max_tokens=64, messages=user("say hi"))
        assert text_of(message) == "hi"
        async with client.messages.stream(model=MODEL, max_tokens=64, messages=user("say ho")) as stream:
            assert "".join([text async for text in stream.text_stream]) == "ho"
            assert text_of(await stream.get_final_message()) == "ho"


async def test_the_beta_namespace(live: Service) -> None:
    async with async_client(live) as client:
        message = await client.beta.messages.create(
            model=MODEL,
            max_tokens=64,
            messages=user("say beta"),
            betas=["context-management-2025-06-27", "from-the-future-2031-01-01"],
            context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        )
        assert text_of(message) == "beta"
        async with client.beta.messages.stream(
            model=MODEL, max_tokens=64, messages=user("say gamma")
        ) as stream:
            assert text_of(await stream.get_final_message()) == "gamma"
        counted = await client.beta.messages.count_tokens(model=MODEL, messages=user("say beta"))
        assert counted.input_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_comes_to_those_who_ask_for_it(live: Service, stream: bool) -> None:
    asked = user("think about 7, then say done")
    with sync_client(live) as client:

        def answer(**more: Any) -> Any:
            if not stream:
                return client.messages.create(model=MODEL, max_tokens=2048, messages=asked, **more)
            with client.messages.stream(model=MODEL, max_tokens=2048, messages=asked, **more) as streamed:
                return streamed.get_final_message()

        asking = answer(thinking={"type": "enabled", "budget_tokens": 1024})
        assert [block.type for block in asking.content] == ["thinking", "text"]
        assert asking.content[0].thinking
        assert "<think>" not in text_of(asking)
        assert [block.type for block in answer().content] == ["text"]


# -- conversations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_keeps_one_session(live: Service, stream: bool) -> None:
    """With a system prompt of blocks and thinking in between, as Claude Code sends them back."""
    history: list[Any] = user(f"say alpha {stream}")
    said: Any = None
    with sync_client(live) as client:
        for number in range(3):
            marker = f"x-anthropic-billing-header: cc_version=2; cch={number};"
            request: Any = {
                "model": MODEL,
                "max_tokens": 2048,
                "system": [
                    {"type": "text", "text": marker},
                    {"type": "text", "text": "Be brief", "cache_control": {"type": "ephemeral"}},
                ],
                "thinking": {"type": "adaptive"},
                "messages": history,
            }
            if stream:
                with client.messages.stream(**request) as streamed:
                    said = streamed.get_final_message()
            else:
                said = client.messages.create(**request)
            history = [*history, said.to_param(), *user(f"think and report {number}")]
    assert "turns=3 isReply=true" in text_of(said)


async def test_cv_70_a_cut_stream_is_asked_again_without_one(live: Service) -> None:
    """Given Claude Code's stream cut in its middle: expect its second request, without `stream`, to get
    JSON.
    """
    body: Any = {"model": MODEL, "max_tokens": 64, "messages": user("count slowly from 1 to 60")}
    async with async_client(live) as client:
        stream = await client.messages.create(**body, stream=True)
        async for event in stream:
            if event.type == "content_block_delta":
                break
        await stream.close()
        message = await client.messages.create(**body)
    assert text_of(message).endswith("60")
    assert message.stop_reason == "end_turn"


def test_what_claude_code_sends_is_taken(live: Service) -> None:
    """Its HEAD, its betas and a body with all that it marks, offers and manages."""
    betas = "claude-code-20250219,interleaved-thinking-2025-05-14,mid-conversation-system-2026-04-07"
    with sync_client(live) as client:
        assert httpx2.head(live.url).status_code == 200
        answer: Any = client.post(
            "/v1/messages?beta=true",
            cast_to=Message,
            options={"headers": {"anthropic-beta": betas, "user-agent": "claude-cli/2.1.197"}},
            body={
                "model": "claude-opus-4-8",
                "max_tokens": 64000,
                "system": [{"type": "text", "text": "You are Claude Code"}],
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "<system-reminder>be careful</system-reminder>"},
                            {"type": "text", "text": "say ran", "cache_control": {"type": "ephemeral"}},
                        ],
                    },
                    {"role": "system", "content": "More instructions"},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "text", "text": "Let me check."},
                            {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}},
                        ],
                    },
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "toolu_1",
                                "content": "tool-ran-42",
                                "is_error": False,
                            }
                        ],
                    },
                ],
                "tools": [{"name": "Bash", "description": "runs", "input_schema": {"type": "object"}}],
                "metadata": {"user_id": '{"session_id":"5b1a9b7e"}'},
                "thinking": {"type": "adaptive"},
                "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
                "output_config": {"effort": "high"},
            },
        )
    assert answer.stop_reason == "end_turn"
    assert "tool-ran-42" in text_of(answer)


# -- what is asked for ------------------------------------------------------------------------------------


def test_images_become_placeholders_and_are_told(live: Service) -> None:
    with sync_client(live) as client:
        raw = client.messages.with_raw_response.create(
            model=MODEL,
            max_tokens=64,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "say seen-by-messages"},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                        },
                    ],
                }
            ],
        )
    assert "messages.0.content.1:placeholder" in raw.headers["x-gateway-losses"]
    asked = [ask["params"]["questionText"] for ask in asks_of(live.directory)]
    assert "say seen-by-messages\n[image]" in asked


def test_tools_are_offered_to_lingma(live: Service) -> None:
    with sync_client(live) as client:
        message = client.messages.create(
            model=MODEL,
            max_tokens=64,
            messages=user("say offered"),
            tools=[WEATHER],
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        )
    assert text_of(message) == "offered"
    (ask,) = [a for a in asks_of(live.directory) if a["params"]["questionText"].endswith("say offered")]
    assert [tool["function"]["name"] for tool in ask["params"]["tools"]] == ["get_weather"]


def test_unknown_models_are_served_and_told(live: Service) -> None:
    with sync_client(live) as client:
        raw = client.messages.with_raw_response.create(
            model="claude-opus-4-8", max_tokens=64, messages=user("say x")
        )
    assert raw.parse().model == "claude-opus-4-8"
    assert "model:served-by-org_auto" in raw.headers["x-gateway-losses"]


def test_lv_77_tokens_are_counted_without_an_instance(live: Service) -> None:
    """Given count_tokens for two short messages: expect {"input_tokens": n>0}, no instance used, no slot
    used.
    """
    before = len(asks_of(live.directory))
    two: list[MessageParam] = [*user("hi"), {"role": "assistant", "content": "ho"}]
    with sync_client(live) as client:
        few = client.messages.count_tokens(model=MODEL, messages=two)
        more = client.messages.count_tokens(
            model=MODEL, messages=two, system="Be brief", tools=[WEATHER], thinking={"type": "adaptive"}
        )
    assert 0 < few.input_tokens < more.input_tokens
    assert len(asks_of(live.directory)) == before


def test_models_are_listed_and_found(live: Service) -> None:
    with sync_client(live) as client:
        models = list(client.models.list())
        assert MODEL in [model.id for model in models]
        assert client.models.retrieve(models[0].id).id == models[0].id
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("no-such-model")


def test_the_example_runs(live: Service) -> None:
    done = subprocess.run(
        [sys.executable, "examples/anthropic/chat.py"],
        env={**os.environ, "GATEWAY_URL": live.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Hello from the gateway" in done.stdout
    assert "end_turn" in done.stdout
