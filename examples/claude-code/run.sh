#!/bin/sh
# Two turns of one Claude Code session, with settings.json in a home of its own: your ~/.claude is not touched.
# GATEWAY_URL (http://127.0.0.1:8317) and GATEWAY_KEY (any) from the environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
CLAUDE_CONFIG_DIR=$(mktemp -d)
trap 'rm -rf "$CLAUDE_CONFIG_DIR"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export CLAUDE_CONFIG_DIR
sed -e "s#http://127.0.0.1:8317#${GATEWAY_URL:-http://127.0.0.1:8317}#" -e "s#\"any\"#\"${GATEWAY_KEY:-any}\"#" \
  "$here/settings.json" >"$CLAUDE_CONFIG_DIR/settings.json"

claude -p "Say hello" </dev/null
claude -p "Say goodbye" --continue </dev/null
