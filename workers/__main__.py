"""A worker in a process of its own: `python -m workers`, and what `lingma-gateway work` calls.

The first SIGTERM or SIGINT drains, a second one cuts the drain short.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Mapping

from opentelemetry import trace

from gateway.environ import SettingsError, seal_ring
from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import StoreError, StoreForbidden
from gateway.kernel.signals import TOLD_TWICE, stop_signals
from gateway.store.backends import check_store, open_stores
from gateway.telemetry.logs import setup_logs
from workers.assemble import assemble, worker_tracer
from workers.settings import WorkerSettings, load

USAGE_ERROR = 2
FAILURE = 1


async def run_work(environ: Mapping[str, str]) -> int:
    """Read the settings and work until stopped. Returns the exit code; what cannot work is said on stderr."""
    try:
        settings, warnings = load(environ)
        settings.check()
    except SettingsError as error:
        print(f"lingma-gateway: {error}", file=sys.stderr)
        return USAGE_ERROR
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    setup_logs(settings.log_level)
    with worker_tracer(settings, environ) as tracer:
        return await run_worker(settings, environ, tracer)


async def run_worker(
    settings: WorkerSettings, environ: Mapping[str, str], tracer: trace.Tracer | None = None
) -> int:
    """Work until a signal comes or another process takes our name. Returns the exit code."""
    url, ring = settings.store_url, seal_ring(settings.state_keys)
    async with open_stores(url, SystemClock(), ring=ring) as stores:
        try:
            await check_store(stores)
        except StoreForbidden as error:
            print(f"lingma-gateway: {error}", file=sys.stderr)
            return USAGE_ERROR
        except StoreError as error:
            print(f"lingma-gateway: {error}", file=sys.stderr)
            return FAILURE
        worker = assemble(settings, stores, environ=environ, tracer=tracer)
        with stop_signals(worker.leaving.set, worker.hurry):
            try:
                async with worker.running():
                    await worker.leaving.wait()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                where = f"port {settings.port} on {settings.host}"
                print(f"lingma-gateway: {where} is in use; choose another with WORKER_PORT=", file=sys.stderr)
                return FAILURE
    return TOLD_TWICE if worker.hurried else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run_work(os.environ)))
