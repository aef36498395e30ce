"""Ports for servers that tests start: below the range that outgoing connections are given, so that no client
takes one between the choice and the start.
"""

import random
import socket

FIRST, LAST = 10_000, 22_000
"""The bus of a Cluster node listens 10,000 above, below that range too."""

_random = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """One that nobody listens on, and that this process has not been given before."""
    while True:
        port = _random.randint(FIRST, LAST)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
