"""Google's SDK on the gateway: a count of tokens, a chat, also as a stream, and an answer in JSON.

GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
"""

# prints: tokens to read:
# prints: Hello from Gemini
# prints: 1 2 3
# prints: STOP
# prints: {"city":

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

counted = client.models.count_tokens(model=model, contents="say Hello from Gemini")
print("tokens to read:", counted.total_tokens)

chat = client.chats.create(model=model)
print(chat.send_message("say Hello from Gemini").text)

finish = None
for chunk in chat.send_message_stream("count from 1 to 3"):
    print(chunk.text or "", end="", flush=True)
    for candidate in chunk.candidates or []:
        finish = candidate.finish_reason or finish
print(f"\n{finish.name if finish else 'cut'}")

answer = client.models.generate_content(
    model=model,
    contents="Name a city",
    config=types.GenerateContentConfig(
        system_instruction="Be brief.",
        response_mime_type="application/json",
        response_json_schema={
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    ),
)
print(answer.text)
