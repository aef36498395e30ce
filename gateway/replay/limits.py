"""How much replay state is kept, and for how long. The figures are those of CLIProxyAPI.

How many entries a process keeps without a shared store, and how many it evicts at once, is the bound of the
store in memory (store/kv_memory.py): 10,240 and the 128 least recently used.
"""

from typing import Final

TTL_S: Final = 3600.0
"""Seconds from the last use, reads included."""

CAS_ATTEMPTS: Final = 32
"""How often an append is tried while others write the same entry."""
APPEND_WITHIN_S: Final = 10.0
"""Seconds after which an append is given up, waiting for others of its process included."""
MAX_TURNS: Final = 256
"""Turns of one Codex entry; the oldest go."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""Bytes of one entry, before base64: the sum of its items, markers included."""
MAX_VALUE_BYTES: Final = 24 * 1024 * 1024
"""Bytes of a stored value; a longer one is a miss, unread."""

CHAIN_CAS_ATTEMPTS: Final = 4
"""How often a chain of signatures is written, or its absence fenced."""
MAX_CHAIN_ITEMS: Final = 4096
"""Items of a chain of signatures; a longer one is not stored at all, for a gap would break its order."""
