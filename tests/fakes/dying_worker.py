"""Starts a Lingma subprocess in argv[1] and waits to be killed: for tests of what happens to it then."""

import asyncio
import sys
from pathlib import Path

from workers.lingma.config import InstanceConfig
from workers.lingma.process import LingmaProcess


async def main() -> None:
    child = Path(__file__).with_name("lingma_child.py")
    words = "start --workDir {work_dir} --socketPort {socket_port}"
    process = LingmaProcess(
        InstanceConfig(work_dir=Path(sys.argv[1]), binary=sys.executable, arguments=f"{child} {words}")
    )
    await process.start()
    print(process.pid, flush=True)
    await asyncio.sleep(600)


asyncio.run(main())
