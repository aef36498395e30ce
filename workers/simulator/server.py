"""The service process: lock, logs, listeners, discovery files, signals.

Start order and log lines follow the real binary; `.info` appears only when the port behind it answers.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from websockets.asyncio.server import Server, serve

from workers.simulator.ask import Shared
from workers.simulator.handlers import HANDLERS
from workers.simulator.journal import Journal
from workers.simulator.login import Account, machine_id
from workers.simulator.options import KnobReader
from workers.simulator.service import Service
from workers.simulator.sessions import Sessions
from workers.simulator.toolcalls import ToolDesk
from workers.simulator.web import Web

_HOST = "127.0.0.1"
_MAX_MESSAGE_BYTES = 256 * 1024 * 1024
_GOODBYE_S = 0.3
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class StartOptions:
    work_dir: Path
    socket_port: int
    http_port: int
    endpoint: str = ""


class WorkDirTaken(RuntimeError):
    """Another live process holds the work directory."""


async def run(options: StartOptions, environ: Mapping[str, str]) -> int:
    """Serve until SIGTERM, SIGINT or `exit`; the result is the exit code."""
    options.work_dir.mkdir(parents=True, exist_ok=True)
    try:
        lock = take_lock(options.work_dir / ".lock")
    except WorkDirTaken as error:
        print(error, file=sys.stderr)
        return 1
    with lock, Journal(options.work_dir) as journal:
        knobs = KnobReader(
            options.work_dir / "sim.json", environ, lambda text: journal.line(text, level="WARN")
        )
        if knobs.read().die_with_parent:
            _die_with_parent()
        leave = asyncio.Event()
        _obey_signals(leave, knobs, journal)
        serving = asyncio.create_task(_serve(options, knobs, journal, leave))
        leaving = asyncio.create_task(leave.wait())
        await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        serving.cancel()
        try:
            await serving
        except asyncio.CancelledError:
            journal.line("bye")
        except OSError as error:
            journal.line(f"cannot listen: {error}", level="ERROR")
            return 1
    return 0


async def _serve(options: StartOptions, knobs: KnobReader, journal: Journal, leave: asyncio.Event) -> None:
    """Run until cancelled. Raises OSError when the port is taken."""
    await asyncio.sleep(knobs.current.start_delay_ms / 1000)
    work_dir = options.work_dir
    machine_id(work_dir)
    (work_dir / "db").mkdir(exist_ok=True)
    (work_dir / "tmp").mkdir(exist_ok=True)
    journal.line(f"Initializing database with path {work_dir}/cache/db/local.db")
    account = Account(work_dir, knobs.read, journal)
    if not account.logged_in():
        journal.line("No cached user info, please login.")
    sessions = Sessions(work_dir / "db" / "sim.json", load=knobs.current.persist)
    shared = Shared(journal, sessions, ToolDesk())
    service = Service(shared, account, knobs, HANDLERS, endpoint=options.endpoint, leave=leave.set)
    async with _listeners(options, service, account, journal) as socket_port:
        await asyncio.sleep(knobs.current.info_delay_ms / 1000)
        write_info(work_dir, socket_port, knobs.current.info_format)
        journal.line(
            f"Communication servers ready - WebSocket: {socket_port}, HTTP: {service.http_port}, IPC: "
        )
        journal.line("broadcast(call) method: extension/register, 0 clients")
        await asyncio.get_running_loop().create_future()


@contextlib.asynccontextmanager
async def _listeners(
    options: StartOptions, service: Service, account: Account, journal: Journal
) -> AsyncIterator[int]:
    """Both listeners; yields the WebSocket port."""
    quiet = logging.getLogger("workers.simulator.websockets")
    quiet.disabled = True
    # No compression and no pings: this is loopback, and the CPU is shared with what is being measured.
    server = await serve(
        service.serve,
        _HOST,
        options.socket_port,
        compression=None,
        max_size=_MAX_MESSAGE_BYTES,
        ping_interval=None,
        close_timeout=_GOODBYE_S,
        logger=quiet,
    )
    try:
        web = await Web(account, journal, service.announce_login).start(options.http_port)
        try:
            service.http_port = int(web.sockets[0].getsockname()[1])
            journal.line(f"Using http server: {service.http_port}")
            journal.line(f"Using profile websocket channel: {service.http_port}")
            yield int(next(iter(server.sockets)).getsockname()[1])
        finally:
            web.close()
    finally:
        await _say_goodbye(server, service)


async def _say_goodbye(server: Server, service: Service) -> None:
    server.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2 * _GOODBYE_S):
            await service.aclose()
            await server.wait_closed()


def take_lock(path: Path) -> IO[str]:
    """Hold the work directory as long as the returned file is open; the kernel frees it with the process."""
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise WorkDirTaken(f"work directory {path.parent} is in use by process {holder}") from error
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def write_info(work_dir: Path, port: int, form: str) -> None:
    """Write the discovery files, each whole or not at all."""
    pid = os.getpid()
    if form in {"text", "both"}:
        _replace(work_dir / ".info", f"{port}\n{pid}\n")
    if form in {"json", "both"}:
        info = {"websocketPort": port, "pid": pid, "ipcServerPath": "", "isDev": False}
        _replace(work_dir / ".info.json", json.dumps(info))


def _replace(path: Path, content: str) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    fresh.write_text(content)
    fresh.replace(path)


def _obey_signals(leave: asyncio.Event, knobs: KnobReader, journal: Journal) -> None:
    def on_signal(name: str) -> None:
        if name == "SIGTERM" and knobs.read().fail == "ignore_sigterm":
            journal.line("SIGTERM ignored")
            return
        leave.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    # A reader of our output that went away is no reason to die.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _die_with_parent() -> None:
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It died between our birth and the call above.
        os.kill(os.getpid(), signal.SIGKILL)
