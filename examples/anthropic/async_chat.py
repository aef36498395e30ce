"""Anthropic's SDK on the gateway without blocking: two answers at the same time, and a stream.

GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
"""

# prints: one
# prints: two
# prints: 1 2 3
# prints: end_turn

import asyncio
import os

from anthropic import AsyncAnthropic

model = os.environ.get("GATEWAY_MODEL", "org_auto")


async def ask(client: AsyncAnthropic, text: str) -> str:
    answer = await client.messages.create(
        model=model, max_tokens=1024, messages=[{"role": "user", "content": text}]
    )
    return "".join(block.text for block in answer.content if block.type == "text")


async def main() -> None:
    async with AsyncAnthropic(
        base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8317"),  # without /v1
        api_key=os.environ.get("GATEWAY_KEY", "any"),
    ) as client:
        for answer in await asyncio.gather(ask(client, "say one"), ask(client, "say two")):
            print(answer)

        async with client.messages.stream(
            model=model, max_tokens=1024, messages=[{"role": "user", "content": "count from 1 to 3"}]
        ) as stream:
            async for text in stream.text_stream:
                print(text, end="", flush=True)
            final = await stream.get_final_message()
        print(f"\n{final.stop_reason}")


asyncio.run(main())
