"""A worker in a process of its own: `python -m workers`, and what `lingma-gateway work` calls.

The first SIGTERM or SIGINT drains, a second one cuts the drain short.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping

from opentelemetry import trace

from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import StoreError, StoreUnavailable
from gateway.store.backends import Stores, open_stores
from gateway.telemetry.logs import setup_logs
from gateway.telemetry.setup import start_tracing
from workers.assemble import assemble
from workers.heartbeat import SOFTWARE
from workers.settings import SettingsProblem, WorkerSettings, load

log = logging.getLogger(__name__)

SERVICE = "lingma-gateway-worker"
USAGE_ERROR = 2
FAILURE = 1
TOLD_TWICE = 130


async def run_work(environ: Mapping[str, str]) -> int:
    """Read the settings and work until stopped. Returns the exit code; what cannot work is said on stderr."""
    try:
        settings = load(environ)
        settings.check()
    except SettingsProblem as problem:
        print(f"lingma-gateway: {problem}", file=sys.stderr)
        return USAGE_ERROR
    setup_logs(settings.log_level.upper())
    tracing = start_tracing(environ, service=SERVICE, instance=settings.worker_id, version=SOFTWARE)
    try:
        return await run_worker(settings, environ, tracing.tracer)
    finally:
        tracing.close()


async def run_worker(
    settings: WorkerSettings, environ: Mapping[str, str], tracer: trace.Tracer | None = None
) -> int:
    """Work until a signal comes or another process takes our name. Returns the exit code."""
    async with open_stores(settings.redis_url.get_secret_value(), SystemClock()) as stores:
        try:
            await check_store(stores)
        except StoreError as error:
            print(f"lingma-gateway: {error}", file=sys.stderr)
            return FAILURE
        worker = assemble(settings, stores, environ=environ, tracer=tracer)
        told = 0

        def signalled() -> None:
            nonlocal told
            told += 1
            worker.leaving.set()
            if told > 1:
                worker.hurry()

        with signals(signalled):
            async with worker.running():
                await worker.leaving.wait()
    return TOLD_TWICE if told > 1 else 0


async def check_store(stores: Stores) -> None:
    """Refuse a Redis that is too old, warn of one that evicts; one that is down may come later.

    Raises StoreError.
    """
    if stores.redis is None:
        return
    try:
        info = await stores.redis.server_info()
    except StoreUnavailable:
        log.warning("worker.waits_for_store")
        return
    if info.maxmemory_policy not in ("", "noeviction"):
        remedy = "set maxmemory-policy to noeviction: turns and sessions must not vanish"
        log.warning("store.evicts", extra={"maxmemory_policy": info.maxmemory_policy, "remedy": remedy})


@contextlib.contextmanager
def signals(callback: Callable[[], None]) -> Iterator[None]:
    """Call back at every SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


if __name__ == "__main__":
    sys.exit(asyncio.run(run_work(os.environ)))
