"""OpenAI's SDK on the gateway, Responses: an answer, a conversation as a stream, and an answer as an object.

GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
"""

# prints: Hello from Responses
# prints: 1 2 3
# prints: completed
# prints: Ada

import os
from typing import Any

from openai import OpenAI
from pydantic import BaseModel

client = OpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8317") + "/v1",
    api_key=os.environ.get("GATEWAY_KEY", "any"),
)
model = os.environ.get("GATEWAY_MODEL", "org_auto")

history: list[Any] = [{"role": "user", "content": "say Hello from Responses"}]
answer = client.responses.create(model=model, input=history)
print(answer.output_text)

# Responses are not stored: the next request brings what came before, the output as it was given.
history += answer.output
history.append({"role": "user", "content": "think about it, then count from 1 to 3"})
with client.responses.stream(model=model, input=history) as stream:
    for event in stream:
        if event.type == "response.reasoning_summary_text.delta":
            print(f"[{event.delta}]", end="", flush=True)
        elif event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    final = stream.get_final_response()
print(f"\n{final.status}")


class Person(BaseModel):
    name: str


parsed = client.responses.parse(model=model, input="say Ada", text_format=Person)
print(parsed.output_parsed)
