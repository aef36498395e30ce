#!/bin/sh
# Anthropic Messages: whole, as a stream, and a count of tokens.
# GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
set -eu
url=${GATEWAY_URL:-http://127.0.0.1:8317}
key=${GATEWAY_KEY:-any}
model=${GATEWAY_MODEL:-org_auto}

# prints: "text":"Hello from Messages"
# prints: "stop_reason":"end_turn"
curl -sS --fail-with-body "$url/v1/messages" \
  -H "x-api-key: $key" -H "anthropic-version: 2023-06-01" -H "Content-Type: application/json" \
  -d '{"model": "'"$model"'", "max_tokens": 1024,
       "messages": [{"role": "user", "content": "say Hello from Messages"}]}'
echo

# prints: event: message_start
# prints: event: content_block_delta
# prints: event: message_stop
curl -sSN --fail-with-body "$url/v1/messages" \
  -H "x-api-key: $key" -H "anthropic-version: 2023-06-01" -H "Content-Type: application/json" \
  -d '{"model": "'"$model"'", "max_tokens": 1024, "stream": true, "system": "Be brief.",
       "messages": [{"role": "user", "content": "count from 1 to 3"}]}'

# prints: {"input_tokens":
curl -sS --fail-with-body "$url/v1/messages/count_tokens" \
  -H "x-api-key: $key" -H "anthropic-version: 2023-06-01" -H "Content-Type: application/json" \
  -d '{"model": "'"$model"'", "messages": [{"role": "user", "content": "How long is this?"}]}'
echo
