"""The worker inside `lingma-gateway up`: same code, the gateway's event loop and stores, no port of its own.

Unlike `work` it runs without a Lingma: when no binary is named and none is installed, the bundled simulator
stands in. Called by the composition root of `up`.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from gateway.store.backends import Stores
from workers.assemble import assemble
from workers.settings import SIMULATOR, WorkerSettings, load
from workers.supervisor import Worker


def embedded_settings(environ: Mapping[str, str]) -> WorkerSettings:
    """Raises SettingsProblem."""
    settings = load(environ)
    named = bool(environ.get("LINGMA_BIN", "").strip())
    if named or Path(settings.lingma_bin).exists():
        return settings
    return settings.model_copy(update={"lingma_bin": SIMULATOR})


@contextlib.asynccontextmanager
async def open_worker(settings: WorkerSettings, stores: Stores) -> AsyncIterator[Worker]:
    """A worker for the length of a block; `await worker.started()` waits until it can work."""
    worker = assemble(settings, stores, health=False)
    async with worker.running():
        yield worker
