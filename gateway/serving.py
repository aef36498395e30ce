"""Serve an ASGI app with Hypercorn, and stop it in our own order (engine/drain.py).

Hypercorn's defaults are for short requests; what is set here is for streams. It knows nothing of our drain:
it is told to stop only when nothing runs any more.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework
from starlette.types import ASGIApp

from gateway.container import open_deps
from gateway.engine.drain import Drain
from gateway.kernel.aio import Tasks
from gateway.kernel.errors import GatewayError
from gateway.kernel.signals import TOLD_TWICE, stop_signals
from gateway.server import disconnects, http1, repairs, websocket
from gateway.settings import GatewaySettings, ServerSettings
from gateway.telemetry.logs import server_logger, setup_logs

log = logging.getLogger(__name__)

NEVER = 2**31 - 1
GRACEFUL_S = 3.0
"""For Hypercorn to close connections once nothing runs; our own drain has waited before."""


MAX_MESSAGE_BYTES = 128 * 1024 * 1024
PING_S = 10.0
"""Of WebSockets, for what stands between and to learn of clients that have vanished."""


class PortInUse(GatewayError):
    pass


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises PortInUse with a remedy, or GatewayError naming the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} on {host} is in use; stop what listens there or choose another with PORT="
            ) from error
        raise GatewayError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    sock.setblocking(False)
    sock.set_inheritable(True)
    return sock


def prepare_server() -> None:
    """What is ours in Hypercorn."""
    repairs.apply()
    disconnects.apply()
    http1.apply()
    websocket.apply()


def hypercorn_config(
    sock: socket.socket, *, max_message_bytes: int = MAX_MESSAGE_BYTES, ping_s: float = PING_S
) -> Config:
    """Hands the socket over to the server."""
    config = Config()
    config.bind = [f"fd://{sock.detach()}"]  # the server closes it
    config.accesslog = None
    config.errorlog = server_logger()
    config.backlog = 4096
    config.keep_alive_max_requests = NEVER
    config.keep_alive_timeout = 75.0
    config.graceful_timeout = GRACEFUL_S
    config.max_app_queue_size = 64
    config.h2_max_concurrent_streams = 1000
    config.websocket_max_message_size = max_message_bytes
    config.websocket_ping_interval = ping_s
    config.include_server_header = False
    return config


async def serve_until_stopped(
    asgi: ASGIApp,
    sock: socket.socket,
    drain: Drain,
    *,
    limits: ServerSettings,
    tell: Callable[[str], None] = lambda _text: None,
) -> int:
    """Serve until a signal, then drain, then stop; a second signal cuts the drain short.

    Returns the exit code: 0, or 130 when told twice. `tell` speaks to whoever pressed Ctrl-C.
    """
    stop = asyncio.Event()
    hard = False
    tasks = Tasks()

    async def leave() -> None:
        await drain.drain()
        stop.set()

    def first() -> None:
        if drain.in_flight:
            tell(f"stopping: {drain.in_flight} running turns may end; Ctrl-C again cuts them short")
        tasks.spawn(leave(), name="drain")

    def second() -> None:
        nonlocal hard
        hard = True
        drain.hurry()

    prepare_server()
    with stop_signals(first, second):
        config = hypercorn_config(sock, max_message_bytes=limits.max_body_bytes, ping_s=limits.keepalive_s)
        await serve(cast(ASGIFramework, asgi), config, shutdown_trigger=stop.wait, mode="asgi")
    await tasks.aclose()
    return TOLD_TWICE if hard else 0


async def run_serve(settings: GatewaySettings) -> int:
    """`lingma-gateway serve`: one replica, until it is told to stop."""
    setup_logs(settings.server.log_level)
    host = settings.server.host or "0.0.0.0"
    sock = listen(host, settings.server.port)
    if not settings.access.api_keys and settings.access.key_file is None:
        log.warning("access.open", extra={"remedy": "set API_KEYS; until then everybody may use /v1"})
    async with open_deps(settings) as deps:
        log.info("server.started", extra={"host": host, "port": sock.getsockname()[1]})
        return await serve_until_stopped(deps.asgi, sock, deps.drain, limits=settings.server)
