#!/bin/sh
# OpenAI Responses: whole, and as a stream.
# GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
set -eu
url=${GATEWAY_URL:-http://127.0.0.1:8317}
key=${GATEWAY_KEY:-any}
model=${GATEWAY_MODEL:-org_auto}

# prints: "status":"completed"
# prints: "text":"Hello from Responses"
curl -sS --fail-with-body "$url/v1/responses" \
  -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d '{"model": "'"$model"'", "input": "say Hello from Responses"}'
echo

# prints: event: response.created
# prints: event: response.output_text.delta
# prints: event: response.completed
curl -sSN --fail-with-body "$url/v1/responses" \
  -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d '{"model": "'"$model"'", "stream": true, "instructions": "Be brief.",
       "input": [{"role": "user", "content": "count from 1 to 3"}]}'
