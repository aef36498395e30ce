#!/bin/sh
# Two turns of one Codex session, with config.toml in a home of its own: your ~/.codex is not touched.
# GATEWAY_URL (http://127.0.0.1:8317) and GATEWAY_KEY (any) from the environment.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
CODEX_HOME=$(mktemp -d)
trap 'rm -rf "$CODEX_HOME"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export CODEX_HOME GATEWAY_KEY="${GATEWAY_KEY:-any}"
sed "s#http://127.0.0.1:8317#${GATEWAY_URL:-http://127.0.0.1:8317}#" "$here/config.toml" >"$CODEX_HOME/config.toml"

codex exec --skip-git-repo-check "Say hello" </dev/null
codex exec --skip-git-repo-check resume --last "Say goodbye" </dev/null
