"""How a process is told to stop: once for an end in good order, twice for an end now.

Used by whatever runs as a process of its own: replicas, workers, `up`.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

TOLD_TWICE = 130
"""Exit code of a process that was not given the time it asked for."""
_STOP = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_signals(on_first: Callable[[], None], on_second: Callable[[], None]) -> Iterator[None]:
    """Call on_first at SIGTERM or SIGINT, and on_second whenever one comes again."""
    loop = asyncio.get_running_loop()
    seen = 0

    def handler() -> None:
        nonlocal seen
        seen += 1
        (on_first if seen == 1 else on_second)()

    for number in _STOP:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in _STOP:
            loop.remove_signal_handler(number)
