"""How often Python looks for garbage that holds itself: rarely, in a process that serves.

Turns leave hardly any cycles behind, but make thousands of objects each, and the default looks at the young
ones after every 700 of them.
"""

import gc
from typing import Final

YOUNG: Final = 20_000
"""Objects made, less those freed, before the young ones are looked at."""


def settle() -> None:
    """To be called once everything is imported: what is there by then stays, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 20)
