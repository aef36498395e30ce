"""The worker inside `lingma-gateway up`: same code, the gateway's event loop and stores, no port of its own.

Unlike `work` it runs without a Lingma: when no binary is named and none is installed, the bundled simulator
stands in. Called by the composition root of `up`.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from gateway.store.backends import Stores
from workers.assemble import assemble, binary_preparer, worker_tracer
from workers.bootstrap.errors import BootstrapFailed
from workers.lingma.config import SIMULATOR
from workers.settings import WorkerSettings, load
from workers.supervisor import Worker


def embedded_settings(environ: Mapping[str, str]) -> WorkerSettings:
    """What is to be told of names and words, the gateway's half tells. Raises SettingsError."""
    settings, _ = load(environ)
    named = bool(environ.get("LINGMA_BIN", "").strip())
    if named or Path(settings.lingma_bin).exists():
        return settings
    return settings.model_copy(update={"lingma_bin": SIMULATOR})


async def require_binary(settings: WorkerSettings) -> None:
    """Somebody at a terminal wants to know at once. Raises BootstrapFailed with a remedy."""
    try:
        await binary_preparer(settings)()
    except BootstrapFailed as error:
        raise BootstrapFailed(
            f"no Lingma at {settings.lingma_bin}: {error}. "
            "Set LINGMA_BIN to the binary, or LINGMA_BIN=simulator for the bundled stand-in"
        ) from error


@contextlib.asynccontextmanager
async def open_worker(
    settings: WorkerSettings, stores: Stores, environ: Mapping[str, str]
) -> AsyncIterator[Worker]:
    """A worker for the length of a block; `await worker.started()` waits until it can work."""
    with contextlib.ExitStack() as stack:
        if settings.simulated and "lingma_work_dir" not in settings.model_fields_set:
            # Nothing of the stand-in is worth keeping, and two of them must not meet in one directory.
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="lingma-simulator-"))
            settings = settings.model_copy(update={"lingma_work_dir": Path(directory)})
        tracer = stack.enter_context(worker_tracer(settings, environ))
        worker = assemble(settings, stores, tracer=tracer, health=False)
        async with worker.running():
            yield worker
