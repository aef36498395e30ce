"""The command line of the binary: start, version, status, machine-info.

Both `start --workDir D` and bare `--workDir D` run the service; flags it does not know are ignored, because
launchers pass more than one version of the binary knows.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from workers.simulator.handlers import VERSION
from workers.simulator.journal import Journal
from workers.simulator.login import Account, machine_id
from workers.simulator.options import KnobReader
from workers.simulator.server import StartOptions, run

DEFAULT_SOCKET_PORT = 36510
DEFAULT_HTTP_PORT = 37510
COMMANDS = ("start", "version", "status", "machine-info")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the result is the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    command = args.pop(0) if args and args[0] in COMMANDS else "start"
    parser = _parser()
    known, _ = parser.parse_known_args(args)
    if command == "version":
        print(f"version: {VERSION}")
        return 0
    if known.workDir is None:
        parser.error("--workDir is required")
    work_dir: Path = known.workDir
    if command == "status":
        return _status(work_dir)
    if command == "machine-info":
        print(f"machineToken: sim-{machine_id(work_dir).replace('-', '')}")
        print("machineType: simulator")
        return 0
    options = StartOptions(
        work_dir=work_dir, socket_port=known.socketPort, http_port=known.httpPort, endpoint=known.endpoint
    )
    return asyncio.run(run(options, os.environ))


def _parser() -> argparse.ArgumentParser:
    # No prefix matching: `--work` of some other version must not be read as --workDir.
    parser = argparse.ArgumentParser(prog="Lingma", allow_abbrev=False)
    parser.add_argument("--workDir", type=Path)
    parser.add_argument("--socketPort", type=int, default=DEFAULT_SOCKET_PORT, help="0 picks a free port")
    parser.add_argument("--httpPort", type=int, default=DEFAULT_HTTP_PORT, help="0 picks a free port")
    parser.add_argument("--endpoint", default="")
    parser.add_argument("--transportType", default="websocket")
    parser.add_argument("--copyDataDir", type=Path)
    parser.add_argument("-o", "--output", default="text")
    return parser


def _status(work_dir: Path) -> int:
    knobs = KnobReader(work_dir / "sim.json", os.environ, complain=lambda _: None)
    with Journal(work_dir, silent=True) as journal:
        account = Account(work_dir, knobs.read, journal)
        status = account.status()
    answer: dict[str, object] = {"logged_in": status["status"] == 2, "version": VERSION}
    if answer["logged_in"]:
        answer |= {"username": status["name"], "user_type": status["userType"]}
    print(json.dumps(answer, separators=(",", ":")))
    return 0
