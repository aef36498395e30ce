"""`lingma-gateway up`: gateway and worker in one process and one event loop, through the same job interfaces.

A composition root, hence the one module beside cli.py that may import `workers`, and does so when it runs.
"""

import contextlib
import sys
from collections.abc import Mapping

from gateway.container import open_deps
from gateway.environ import seal_ring
from gateway.kernel.clock import SystemClock
from gateway.serving import listen, serve_until_stopped
from gateway.settings import GatewaySettings
from gateway.store.backends import open_stores
from gateway.telemetry.logs import setup_logs

UP_DRAIN_S = 10.0
"""A person who pressed Ctrl-C waits no longer than this for answers to end."""


async def run_up(settings: GatewaySettings, environ: Mapping[str, str]) -> int:
    """Serve until stopped. Returns the exit code."""
    from workers.embedded import embedded_settings, open_worker, require_binary

    said = "log_level" in settings.server.model_fields_set
    setup_logs(settings.server.log_level if said else "WARNING")
    worker_settings = embedded_settings(environ)
    keyless = not settings.access.api_keys and settings.access.key_file is None
    host = settings.server.host or ("127.0.0.1" if keyless else "0.0.0.0")
    sock = listen(host, settings.server.port)
    try:
        await require_binary(worker_settings)
        async with contextlib.AsyncExitStack() as stack:
            url = settings.store.url
            stores = await stack.enter_async_context(
                open_stores(
                    url,
                    SystemClock(),
                    dialect=settings.store.kv_dialect,
                    ring=seal_ring(settings.store.keys),
                )
            )
            worker = await stack.enter_async_context(open_worker(worker_settings, stores, environ))
            deps = await stack.enter_async_context(
                open_deps(_quick(settings, environ), stores=stores, bare_names=True)
            )
            await worker.started(worker_settings.lingma_startup_timeout_s)
            await deps.directory.refresh()
            _banner(
                settings,
                host,
                sock.getsockname()[1],
                simulated=worker_settings.simulated,
                memory=stores.redis is None,
                keyless=keyless,
                ready=bool(deps.directory.candidates()),
            )
            return await serve_until_stopped(deps.asgi, sock, deps.drain, limits=settings.server, tell=_tell)
    finally:
        sock.close()


def _quick(settings: GatewaySettings, environ: Mapping[str, str]) -> GatewaySettings:
    """No load balancer has to look away first, and nobody waits two minutes for a prompt."""
    update: dict[str, float] = {}
    if "DRAIN_LISTEN_S" not in environ:
        update["drain_listen_s"] = 0.0
    if "DRAIN_DEADLINE_S" not in environ:
        update["drain_deadline_s"] = UP_DRAIN_S
    return settings.model_copy(update={"server": settings.server.model_copy(update=update)})


def _banner(
    settings: GatewaySettings,
    host: str,
    port: int,
    *,
    simulated: bool,
    memory: bool,
    keyless: bool,
    ready: bool,
) -> None:
    """What a person needs to send the first request; a key is never printed."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host
    base = f"http://{shown}:{port}"
    local = host in ("127.0.0.1", "localhost", "::1")
    listening = host if local else f"{host}: other machines can reach it{' WITHOUT A KEY' if keyless else ''}"
    upstream = "the bundled simulator (set LINGMA_BIN to use a real Lingma)" if simulated else "Lingma"
    auth = "" if keyless else " -H 'Authorization: Bearer <one of API_KEYS>'"
    key = "no key needed, send any" if keyless else "one of API_KEYS"
    model = settings.models.default_model
    lines = [
        "",
        f"  lingma-gateway is up at {base}",
        "",
        f"  OpenAI base URL   {base}/v1",
        f"  Anthropic, Gemini {base}",
        f"  Listening on      {listening}",
        f"  API key           {key}",
        f"  Model             {model}",
        f"  Upstream          {upstream}",
        *(f"                    {one.name}: {one.kind}" for one in settings.upstreams.config().upstreams),
        f"  Store             {'memory (gone when this stops)' if memory else 'Redis'}",
        "",
        "  Try it:",
        f"    curl {base}/v1/chat/completions{auth} \\",
        "      -H 'Content-Type: application/json' \\",
        f'      -d \'{{"model":"{model}","messages":[{{"role":"user","content":"say hello"}}]}}\'',
        "",
        "  Ctrl-C stops it.",
        "",
    ]
    if not ready:
        lines[-2:-2] = [f"  NOT READY: no Lingma instance is; {base}/healthz says which state it is in.", ""]
    print("\n".join(lines), file=sys.stdout, flush=True)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
