"""Anthropic's SDK on the gateway: a message, a conversation as a stream, thinking, and a count of tokens.

GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
"""

# prints: tokens to read:
# prints: Hello from the gateway
# prints: 1 2 3 4 5
# prints: end_turn

import os

from anthropic import Anthropic
from anthropic.types import MessageParam

client = Anthropic(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8317"),  # without /v1
    api_key=os.environ.get("GATEWAY_KEY", "any"),
)
model = os.environ.get("GATEWAY_MODEL", "org_auto")

history: list[MessageParam] = [{"role": "user", "content": "say Hello from the gateway"}]
print("tokens to read:", client.messages.count_tokens(model=model, messages=history).input_tokens)

answer = client.messages.create(model=model, max_tokens=1024, messages=history)
for block in answer.content:
    if block.type == "text":
        print(block.text)

history += [answer.to_param(), {"role": "user", "content": "think about it, then count from 1 to 5"}]
with client.messages.stream(
    model=model, max_tokens=2048, messages=history, thinking={"type": "adaptive"}
) as stream:
    for event in stream:
        if event.type == "thinking":
            print(f"[{event.thinking}]", end="", flush=True)
        elif event.type == "text":
            print(event.text, end="", flush=True)
    final = stream.get_final_message()
print(f"\n{final.stop_reason}, {final.usage.output_tokens} tokens written")
