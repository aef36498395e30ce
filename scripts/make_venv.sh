#!/usr/bin/env bash
# Create a virtual environment with what a fresh machine has: python3 -m venv, else Debian's python3-venv as root.
set -euo pipefail
python=$1 target=$2
if ! command -v "$python" >/dev/null; then
  echo "lingma-gateway needs Python 3.11 or newer; '$python' was not found" >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "lingma-gateway needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1). Say: make PYTHON=python3.11 …" >&2
  exit 1
fi
if "$python" -m venv "$target" 2>/dev/null; then exit 0; fi
rm -rf "$target"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "python3 has no venv module: installing Debian's python3-venv"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
  exec "$python" -m venv "$target"
fi
echo "'$python -m venv' does not work here. Install it (Debian: apt-get install python3-venv) and run make again." >&2
exit 1
