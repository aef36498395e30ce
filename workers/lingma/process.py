"""One Lingma subprocess: start it, find its port, notice its end, end it. Nothing here speaks to it.

The subprocess leads a session of its own, so that its whole group can be ended, and dies with the worker
even when that is killed (launcher.py). No zombies: whoever exits is reaped at once. Called by client.py.
"""

import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from gateway.kernel.aio import shielded
from workers.lingma.config import SIMULATOR, InstanceConfig, arguments, program
from workers.lingma.discovery import Info, forget_info, info_files, read_info
from workers.lingma.errors import LingmaStartFailed
from workers.lingma.leftover import InUse, forget_pid_file, kill_leftover, start_ticks, write_pid_file

log = logging.getLogger(__name__)

INFO_POLL_S = 0.1
EXIT_POLL_S = 0.1
CONNECT_TIMEOUT_S = 0.5
KILL_TIMEOUT_S = 5.0
OUTPUT_TIMEOUT_S = 0.5
LEFTOVER_POLL_S = 0.01
LEFTOVER_POLLS = 200
MAX_LINE_BYTES = 4096
LAUNCHER = Path(__file__).with_name("launcher.py")


class LingmaProcess:
    """Started and stopped any number of times, one process at a time."""

    def __init__(self, config: InstanceConfig) -> None:
        self._config = config
        self._child: subprocess.Popen[bytes] | None = None
        self._exited: asyncio.Future[int] | None = None
        self._pidfd = -1
        self._output: _OutputLog | None = None
        self.http_port = 0
        """Where its login pages are."""

    @property
    def pid(self) -> int:
        """0 when none runs."""
        return self._child.pid if self._child is not None and self.alive else 0

    @property
    def alive(self) -> bool:
        return self._exited is not None and not self._exited.done()

    async def start(self) -> int:
        """Start a process and return the port it listens on. Raises LingmaStartFailed; none runs then."""
        if self._child is not None:
            await self.stop()
        await self._clear_the_place()
        port = 0
        try:
            self._spawn()
            await self._drain_output()
            port = await self._wait_for_port()
        finally:
            if not port:
                await shielded(self.stop(), within_s=self._config.stop_grace_s + KILL_TIMEOUT_S + 1)
        return port

    async def stop(self) -> None:
        """SIGTERM to the group, SIGKILL after the grace. Nothing of it is left when this returns."""
        if self._child is None or self._exited is None:
            return
        if not self._exited.done():
            self._signal(signal.SIGTERM)
            await asyncio.wait({self._exited}, timeout=self._config.stop_grace_s)
        if not self._exited.done():
            log.warning("lingma.killed", extra={"instance": self._config.name, "pid": self._child.pid})
            self._signal(signal.SIGKILL)
            await asyncio.wait({self._exited}, timeout=KILL_TIMEOUT_S)
        if self._output is not None:
            await self._output.aclose()
        if self._exited.done():
            self._child = None
            forget_pid_file(self._config.work_dir)

    # -- start --------------------------------------------------------------------------------------------

    async def _clear_the_place(self) -> None:
        work_dir = self._config.work_dir
        try:
            work_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            leftover = kill_leftover(work_dir)
            forget_info(work_dir)
        except InUse as error:
            raise LingmaStartFailed(
                f"another worker uses the work directory of {self._config.name}; set LINGMA_WORK_DIR"
            ) from error
        except OSError as error:
            raise LingmaStartFailed(f"the work directory of {self._config.name} cannot be used") from error
        if leftover is None:
            return
        for _ in range(LEFTOVER_POLLS):
            if start_ticks(leftover) is None:
                break
            await asyncio.sleep(LEFTOVER_POLL_S)

    def _spawn(self) -> None:
        config = self._config
        if config.binary != SIMULATOR and not os.access(config.binary, os.X_OK):
            log.error("lingma.binary_missing", extra={"instance": config.name, "path": config.binary})
            raise LingmaStartFailed("LINGMA_BIN names no file that can be executed")
        socket_port, self.http_port = choose_ports(config.socket_port, config.http_port)
        words = arguments(config, socket_port, self.http_port)
        launch = [sys.executable, "-S", "-E", str(LAUNCHER), str(os.getpid())]
        try:
            self._child = subprocess.Popen(  # noqa: S603
                [*launch, *program(config), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(config.environment),
                start_new_session=True,
            )
        except OSError as error:
            raise LingmaStartFailed(f"{config.name} could not be started") from error
        self._watch(self._child.pid)
        write_pid_file(config.work_dir, self._child.pid, words)
        log.info(
            "lingma.started",
            extra={"instance": config.name, "pid": self._child.pid, "socket_port": socket_port},
        )

    async def _drain_output(self) -> None:
        """A pipe that nobody reads would block the child."""
        assert self._child is not None
        self._output = output = _OutputLog(self._config.name)
        await asyncio.get_running_loop().connect_read_pipe(lambda: output, self._child.stdout)

    async def _wait_for_port(self) -> int:
        assert self._exited is not None
        limit_s = self._config.startup_timeout_s
        deadline = asyncio.get_running_loop().time() + limit_s
        while asyncio.get_running_loop().time() < deadline:
            if self._exited.done():
                status = self._exited.result()
                raise LingmaStartFailed(f".info not ready: {self._config.name} exited with status {status}")
            info = self._current_info()
            if info is not None and await accepts(info.port):
                return info.port
            await asyncio.wait({self._exited}, timeout=INFO_POLL_S)
        raise LingmaStartFailed(f".info not ready: {self._config.name} did not listen within {limit_s:g} s")

    def _current_info(self) -> Info | None:
        """What our own process wrote; a file of another one is stale."""
        for path in info_files(self._config.work_dir):
            info = read_info(path)
            if info is not None and self._is_ours(info.pid):
                return info
        return None

    def _is_ours(self, pid: int) -> bool:
        """The child itself, or one it started: the binary may be a wrapper."""
        assert self._child is not None
        try:
            return pid == self._child.pid or os.getpgid(pid) == self._child.pid
        except OSError:
            return False

    # -- end ----------------------------------------------------------------------------------------------

    def _watch(self, pid: int) -> None:
        loop = asyncio.get_running_loop()
        self._exited = loop.create_future()
        try:
            self._pidfd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            # Not Linux, or a sandbox without it.
            loop.call_later(EXIT_POLL_S, self._poll_exit)
        else:
            loop.add_reader(self._pidfd, self._reap)

    def _poll_exit(self) -> None:
        assert self._child is not None
        if os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            asyncio.get_running_loop().call_later(EXIT_POLL_S, self._poll_exit)
        else:
            self._reap()

    def _reap(self) -> None:
        assert self._child is not None
        assert self._exited is not None
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        # What it has started goes with it. Before the pid is given back, so that it can mean nobody else.
        self._signal(signal.SIGKILL)
        status = self._child.wait()
        self._exited.set_result(status)
        log.info(
            "lingma.exited",
            extra={"instance": self._config.name, "pid": self._child.pid, "status": status},
        )

    def _signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        try:
            os.killpg(self._child.pid, number)
        except (ProcessLookupError, PermissionError):
            log.debug("lingma.signal_missed", extra={"instance": self._config.name, "signal": number.name})


class _OutputLog(asyncio.Protocol):
    """Puts what the subprocess prints into our log, at DEBUG, a line a record."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._transport: asyncio.BaseTransport | None = None
        self._rest = b""
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def aclose(self) -> None:
        """Wait for the last words, but not for those of somebody who inherited the pipe."""
        if self._transport is None:
            return
        await asyncio.wait({self._closed}, timeout=OUTPUT_TIMEOUT_S)
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not log.isEnabledFor(logging.DEBUG):
            return
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:MAX_LINE_BYTES]
        for line in lines:
            text = line[:MAX_LINE_BYTES].decode("utf-8", "replace").rstrip()
            log.debug("lingma.output", extra={"instance": self._instance, "line": text})


QUIET_PORTS: Final = range(22_000, 32_000)
"""Linux as it comes gives these to no outgoing connection: what is free now is still free when the subprocess
has started.
"""
QUIET_TRIES: Final = 20


def choose_ports(*wanted: int) -> list[int]:
    """A different port of 127.0.0.1 for each wish: the wished one when it is free, else any free one."""
    held: list[socket.socket] = []
    try:
        held.extend(_bound(port) for port in wanted)
        return [int(holder.getsockname()[1]) for holder in held]
    finally:
        for holder in held:
            holder.close()


def _bound(port: int) -> socket.socket:
    if port:
        try:
            return _listening(port)
        except OSError:
            log.warning("lingma.port_taken", extra={"port": port})
    for quiet in random.sample(QUIET_PORTS, QUIET_TRIES):
        with contextlib.suppress(OSError):
            return _listening(quiet)
    return _listening(0)


def _listening(port: int) -> socket.socket:
    """Raises OSError when somebody else does."""
    holder = socket.socket()
    # A port that only lingers after an earlier run is free for us, as it is for the subprocess.
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(("127.0.0.1", port))
        holder.listen(1)  # before that, two may share the port
    except OSError:
        holder.close()
        raise
    return holder


async def accepts(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, "127.0.0.1", port
            )
    except OSError:
        return False
    transport.close()
    return True
