#!/usr/bin/env bash
# Resolve both lock files: universal, with hashes, without index addresses. Usage: scripts/lock.sh PATH_TO_UV
set -euo pipefail
uv=$1
compile=("$uv" pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header -p 3.11)
"${compile[@]}" --group build pyproject.toml -o requirements.lock
"${compile[@]}" --group build --group dev pyproject.toml -c requirements.lock -o requirements-dev.lock
