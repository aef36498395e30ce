#!/bin/sh
# What can be asked for: the list for OpenAI's, Anthropic's and Codex's clients, one model, and Gemini's list.
# GATEWAY_URL (http://127.0.0.1:8317), GATEWAY_KEY (any) and GATEWAY_MODEL (org_auto) from the environment.
set -eu
url=${GATEWAY_URL:-http://127.0.0.1:8317}
key=${GATEWAY_KEY:-any}
model=${GATEWAY_MODEL:-org_auto}

# prints: {"object":"list","data":[{"id":"org_auto","object":"model"
curl -sS --fail-with-body "$url/v1/models" -H "Authorization: Bearer $key"
echo

# prints: "has_more":true
curl -sS --fail-with-body "$url/v1/models?limit=1" -H "x-api-key: $key" -H "anthropic-version: 2023-06-01"
echo

# prints: {"id":"org_auto"
# prints: "type":"model","display_name":"Auto"
curl -sS --fail-with-body "$url/v1/models/$model" -H "Authorization: Bearer $key"
echo

# prints: "name":"models/org_auto"
curl -sS --fail-with-body "$url/v1beta/models" -H "x-goog-api-key: $key"
echo
