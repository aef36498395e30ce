"""The strict fake of codex as a process, on a host of its own:

    python -m tests.rehearsal.upstream HOST PORT FILE

SIGTERM ends it; then the file says in JSON how many requests were answered, and how much reasoning was
missing in them.
"""

import asyncio
import signal
import sys
from pathlib import Path

from gateway.kernel.json import dumps
from tests.fakes.codex_server import CodexServer
from tests.support.edge import serving

PACE_S = 0.02


async def main(host: str, port: int, path: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = CodexServer()
    server.pace_s = PACE_S
    async with serving(server, port=port, host=host):
        await stop.wait()
    missing = sum(request.missing for request in server.requests)
    path.write_bytes(dumps({"answered": len(server.answered), "missing": missing}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
