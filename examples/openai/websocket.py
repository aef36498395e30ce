"""OpenAI's SDK on the gateway, Responses over one WebSocket: what was said is not sent again.

GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
Needs `pip install "openai[realtime]"`.
"""

# prints: Hello over a socket
# prints: turns=2

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("GATEWAY_URL", "http://127.0.0.1:8317") + "/v1",
    api_key=os.environ.get("GATEWAY_KEY", "any"),
)
model = os.environ.get("GATEWAY_MODEL", "org_auto")

with client.responses.connect() as connection:
    previous: str | None = None
    for words in ("say Hello over a socket", "report"):
        connection.response.create(model=model, input=words, previous_response_id=previous)
        for event in connection:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "response.completed":
                previous = event.response.id
                print()
                break
