"""OpenAI's SDK on the gateway without blocking: two answers at the same time, and a stream.

GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
"""

# prints: one
# prints: two
# prints: 1 2 3

import asyncio
import os

from openai import AsyncOpenAI

model = os.environ.get("GATEWAY_MODEL", "org_auto")


async def ask(client: AsyncOpenAI, text: str) -> str:
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or ""


async def main() -> None:
    async with AsyncOpenAI(
        base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8317") + "/v1",
        api_key=os.environ.get("GATEWAY_KEY", "any"),
    ) as client:
        for answer in await asyncio.gather(ask(client, "say one"), ask(client, "say two")):
            print(answer)

        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "count from 1 to 3"}], stream=True
        )
        async for chunk in stream:
            for choice in chunk.choices:
                print(choice.delta.content or "", end="", flush=True)
        print()


asyncio.run(main())
