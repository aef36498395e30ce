"""A subprocess for tests of its supervision: listens, writes its discovery file, misbehaves as told.

    python lingma_child.py start --workDir D --socketPort N [--httpPort M] [MODE…]

It speaks no protocol; tests that need one use the simulator.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

MODES = {"ignore-term", "flood", "stale-first", "never-ready", "exit", "grandchild", "no-listen"}


def write_info(work_dir: Path, port: int, pid: int) -> None:
    temporary = work_dir / ".info.new"
    temporary.write_text(f"{port}\n{pid}\n")
    temporary.replace(work_dir / ".info")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb")
    parser.add_argument("--workDir", type=Path)
    parser.add_argument("--socketPort", type=int)
    parser.add_argument("--httpPort", type=int)
    parser.add_argument("modes", nargs="*")
    options = parser.parse_intermixed_args()
    modes = set(options.modes)
    assert modes <= MODES
    if "ignore-term" in modes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "exit" in modes:
        sys.exit(3)
    if "grandchild" in modes:
        helper = subprocess.Popen(["sleep", "600"])
        (options.workDir / "grandchild").write_text(str(helper.pid))
    if "flood" in modes:
        for _ in range(5 * 1024):
            os.write(2, b"x" * 1023 + b"\n")
    listener = socket.create_server(("127.0.0.1", options.socketPort))
    if "stale-first" in modes:
        write_info(options.workDir, 1, 1)
        time.sleep(0.5)
    if "no-listen" in modes:
        listener.close()
    if "never-ready" not in modes:
        write_info(options.workDir, options.socketPort, os.getpid())
    while True:
        time.sleep(60)


main()
