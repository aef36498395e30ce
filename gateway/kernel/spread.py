"""Weighted rendezvous hashing: who of several should serve a key, on every replica and after restarts alike.

Each name gets a score for the key; the highest serves. When a name leaves, only its own keys move.
"""

import hashlib
import math
from collections.abc import Mapping

_BITS = 64


def score(affinity: str, name: str, weight: float = 1.0) -> float:
    """Higher is better; over many keys a name wins as often as its weight says."""
    digest = hashlib.blake2b(f"{affinity}\x1f{name}".encode(), digest_size=_BITS // 8).digest()
    uniform = (int.from_bytes(digest) + 0.5) / 2**_BITS
    return -weight / math.log(uniform)


def ranked(affinity: str, weights: Mapping[str, float]) -> list[str]:
    """The names, best first."""
    if len(weights) == 1:
        return list(weights)
    return sorted(weights, key=lambda name: score(affinity, name, weights[name]), reverse=True)
