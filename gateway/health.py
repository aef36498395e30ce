"""The health check of a container, `python -m gateway.health [worker]`: exit code 0 when all is well, else 1.

It finds the process by the settings that the process itself was given, asks once and judges by the JSON
member `ok`, whatever the status. No part of the command line interface: it runs every few seconds beside a
process that needs the time itself, so it reads no settings but an address and imports next to nothing. A
gateway is `ok` when it can ask Lingma; whoever wants to know whether it takes requests asks /readyz. Called
by the HEALTHCHECK of the Dockerfile.
"""

import http.client
import os
import sys
from collections.abc import Mapping, Sequence

from gateway.kernel import json

LIMIT_S = 3.0
"""For the connection, and for each read after it."""
MAX_BODY_BYTES = 1024 * 1024

WORKER = "worker"
GATEWAY_NAMES = (("GATEWAY__SERVER__HOST", "HOST"), ("GATEWAY__SERVER__PORT", "PORT"), 8317)
WORKER_NAMES = (("WORKER_HOST", "HOST"), ("WORKER_PORT", "PORT"), 8318)
"""Variables that hold the address and the port, the winner first, and the port without any."""

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a process is found that listens on all interfaces."""


def address(environ: Mapping[str, str], *, worker: bool) -> tuple[str, int]:
    """Where the process listens. Raises ValueError when the port is no number."""
    hosts, ports, default = WORKER_NAMES if worker else GATEWAY_NAMES
    host = _first(environ, hosts)
    return _EVERYWHERE.get(host, host), int(_first(environ, ports) or default)


def _first(environ: Mapping[str, str], names: Sequence[str]) -> str:
    """The first that has a value; as in gateway/environ.py, an empty one is none."""
    return next((value for name in names if (value := environ.get(name, "").strip())), "")


def judge(body: bytes) -> tuple[bool, str]:
    """Whether an answer of /healthz means health, and what to tell people."""
    document = json.loads(body)
    if not isinstance(document, dict):
        return False, "the answer is no object"
    ready, size = document.get("pool_ready"), document.get("pool_size")
    return document.get("ok") is True, f"{ready} of {size} instances ready"


def ask(host: str, port: int) -> bytes:
    """The body of GET /healthz. Raises OSError or HTTPException when there is none in time."""
    connection = http.client.HTTPConnection(host, port, timeout=LIMIT_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().read(MAX_BODY_BYTES)
    finally:
        connection.close()


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print one line, which `docker inspect` shows, and return the exit code."""
    try:
        ok, told = judge(ask(*address(environ, worker=WORKER in arguments)))
    except (OSError, http.client.HTTPException, ValueError) as error:
        ok, told = False, f"{type(error).__name__}: {error}"
    print(f"{'ok' if ok else 'not ok'}: {told}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
