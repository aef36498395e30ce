#!/bin/sh
# Two turns of one Gemini CLI session, with settings.json and gateway.env in a home of its own: your ~/.gemini is
# not touched. GATEWAY_URL (http://127.0.0.1:8317) and GATEWAY_KEY (any) from the environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
GEMINI_CLI_HOME=$(mktemp -d)
trap 'rm -rf "$GEMINI_CLI_HOME"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export GEMINI_CLI_HOME GEMINI_CLI_TRUST_WORKSPACE=true
mkdir "$GEMINI_CLI_HOME/.gemini"
cp "$here/settings.json" "$GEMINI_CLI_HOME/.gemini/settings.json"
sed -e "s#http://127.0.0.1:8317#${GATEWAY_URL:-http://127.0.0.1:8317}#" -e "s#=any#=${GATEWAY_KEY:-any}#" \
  "$here/gateway.env" >"$GEMINI_CLI_HOME/.gemini/.env"

gemini -m org_auto -p "Say hello" </dev/null
gemini -m org_auto -p "Say goodbye" --resume latest </dev/null
