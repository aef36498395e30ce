"""Ports for servers that tests start: below the range that outgoing connections are given, so that no client
takes one between the choice and the start. Nor does another process of the same run of tests, each of which
chooses from a share of its own: a server that is down for a moment finds its port free again.
"""

import os
import random
import socket

FIRST, LAST = 10_000, 22_000
"""The bus of a Cluster node listens 10,000 above, below that range too."""

_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_OURS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
"""Which share is this process's."""

_random = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """One that nobody listens on, and that this process has not been given before."""
    while True:
        port = _random.randrange(FIRST + _OURS, LAST, _PROCESSES)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
