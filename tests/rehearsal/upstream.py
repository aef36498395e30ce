"""The fake of codex as a process, on a host of its own: python -m tests.rehearsal.upstream HOST PORT FILE

The file always holds how much of the reasoning that belonged into requests was missing so far.
SIGTERM ends it.
"""

import asyncio
import signal
import sys
from pathlib import Path

from starlette.types import Receive, Scope, Send

from tests.fakes.codex_server import CodexServer
from tests.support.edge import serving

PACE_S = 0.02


class Counting:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._server = CodexServer(demand=False)
        self._server.pace_s = PACE_S
        self._note()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._server(scope, receive, send)
        self._note()

    def _note(self) -> None:
        """Whole at any time: somebody may be reading it."""
        missing = sum(request.missing for request in self._server.requests)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(str(missing))
        fresh.replace(self._path)


async def main(host: str, port: int, path: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serving(Counting(path), port=port, host=host):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
