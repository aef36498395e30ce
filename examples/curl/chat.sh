#!/bin/sh
# OpenAI Chat Completions: whole, as a stream, and with a compressed body.
# GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
set -eu
url=${GATEWAY_URL:-http://127.0.0.1:8317}
key=${GATEWAY_KEY:-any}
model=${GATEWAY_MODEL:-org_auto}

# prints: "content":"Hello from Chat Completions"
# prints: "finish_reason":"stop"
curl -sS --fail-with-body "$url/v1/chat/completions" \
  -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d '{"model": "'"$model"'", "messages": [{"role": "user", "content": "say Hello from Chat Completions"}]}'
echo

# prints: "object":"chat.completion.chunk"
# prints: "usage":{"prompt_tokens":
# prints: data: [DONE]
curl -sSN --fail-with-body "$url/v1/chat/completions" \
  -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d '{"model": "'"$model"'", "stream": true, "stream_options": {"include_usage": true},
       "messages": [{"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "count from 1 to 3"}]}'

# prints: "content":"Hello from a packed body"
echo '{"model": "'"$model"'", "messages": [{"role": "user", "content": "say Hello from a packed body"}]}' | gzip |
  curl -sS --fail-with-body "$url/v1/chat/completions" \
    -H "Authorization: Bearer $key" -H "Content-Type: application/json" -H "Content-Encoding: gzip" \
    --data-binary @-
echo
