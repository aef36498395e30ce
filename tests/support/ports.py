"""Ports for servers that tests start: below the range that outgoing connections are given, so that no client
takes one between the choice and the start.
"""

import random
import socket

FIRST, LAST = 10_000, 32_000
"""With room for the bus of a Cluster node, which listens 10,000 above."""

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
