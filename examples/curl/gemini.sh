#!/bin/sh
# Gemini: whole, as a stream, and a count of tokens.
# GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
set -eu
url=${GATEWAY_URL:-http://127.0.0.1:8317}
key=${GATEWAY_KEY:-any}
model=${GATEWAY_MODEL:-org_auto}

# prints: "text":"Hello from Gemini"
# prints: "finishReason":"STOP"
curl -sS --fail-with-body "$url/v1beta/models/$model:generateContent" \
  -H "x-goog-api-key: $key" -H "Content-Type: application/json" \
  -d '{"contents": [{"role": "user", "parts": [{"text": "say Hello from Gemini"}]}]}'
echo

# prints: data: {
# prints: "finishReason":"STOP"
curl -sSN --fail-with-body "$url/v1beta/models/$model:streamGenerateContent?alt=sse" \
  -H "x-goog-api-key: $key" -H "Content-Type: application/json" \
  -d '{"systemInstruction": {"parts": [{"text": "Be brief."}]},
       "contents": [{"role": "user", "parts": [{"text": "count from 1 to 3"}]}]}'

# prints: "totalTokens":
curl -sS --fail-with-body "$url/v1beta/models/$model:countTokens" \
  -H "x-goog-api-key: $key" -H "Content-Type: application/json" \
  -d '{"contents": [{"role": "user", "parts": [{"text": "How long is this?"}]}]}'
echo
