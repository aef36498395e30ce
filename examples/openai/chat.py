"""OpenAI's SDK on the gateway, Chat Completions: an answer, and a conversation as a stream.

GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
"""

# prints: Hello from Chat
# prints: 1 2 3
# prints: stop

import os

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

client = OpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8317") + "/v1",
    api_key=os.environ.get("GATEWAY_KEY", "any"),
)
model = os.environ.get("GATEWAY_MODEL", "org_auto")

history: list[ChatCompletionMessageParam] = [{"role": "user", "content": "say Hello from Chat"}]
answer = client.chat.completions.create(model=model, messages=history)
print(answer.choices[0].message.content)

history += [
    {"role": "assistant", "content": answer.choices[0].message.content},
    {"role": "user", "content": "count from 1 to 3"},
]
finish = None
for chunk in client.chat.completions.create(model=model, messages=history, stream=True):
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
        finish = choice.finish_reason or finish
print(f"\n{finish}")
