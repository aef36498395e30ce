"""Google's SDK on the gateway without blocking: two answers at the same time, and a stream.

GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
"""

# prints: one
# prints: two
# prints: 1 2 3
# prints: STOP

import asyncio
import os

from google import genai
from google.genai import types

client = genai.Client(
    api_key=os.environ.get("GATEWAY_KEY", "any"),
    http_options=types.HttpOptions(
        base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8317")  # without /v1beta
    ),
)
model = os.environ.get("GATEWAY_MODEL", "org_auto")


async def main() -> None:
    async with client.aio as gemini:
        answers = await asyncio.gather(
            gemini.models.generate_content(model=model, contents="say one"),
            gemini.models.generate_content(model=model, contents="say two"),
        )
        for answer in answers:
            print(answer.text)

        finish = None
        async for chunk in await gemini.models.generate_content_stream(
            model=model,
            contents="count from 1 to 3",
            config=types.GenerateContentConfig(system_instruction="Be brief."),
        ):
            print(chunk.text or "", end="", flush=True)
            for candidate in chunk.candidates or []:
                finish = candidate.finish_reason or finish
        print(f"\n{finish.name if finish else 'cut'}")


asyncio.run(main())
