"""From settings to a worker: which instances there are, how their binary is obtained, what operators may ask.

The only module that knows both the runtime and Lingma's own parts. Called by __main__.py and embedded.py.
"""

import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

from opentelemetry import trace

from gateway.jobs.messages import Admin
from gateway.kernel import json
from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json
from gateway.store.backends import Stores
from gateway.telemetry.setup import start_tracing
from workers.accounts.parse import resolve_accounts, resolve_instance_count
from workers.admin import Action
from workers.bootstrap.install import BootstrapConfig, ensure_binary
from workers.heartbeat import SOFTWARE
from workers.lingma.config import InstanceConfig, child_environment
from workers.lingma.pool import Instance, InstancePool, PoolConfig
from workers.settings import WorkerSettings
from workers.supervisor import Worker

log = logging.getLogger(__name__)

NO_BROWSER_LOGIN = (
    "browser login is not available in this release: give each account a bundle (LINGMA_SESSION_BUNDLE, or "
    "session_bundle in LINGMA_ACCOUNTS), or let a person log in at the address that the admin command "
    "login_url gives"
)
SERVICE = "lingma-gateway-worker"
SIMULATED_LOGIN = ("LINGMA_SIM_LOGIN", "LINGMA_SIM_LOGGED_IN")


def assemble(
    settings: WorkerSettings,
    stores: Stores,
    *,
    environ: Mapping[str, str] | None = None,
    tracer: trace.Tracer | None = None,
    health: bool = True,
) -> Worker:
    """A worker that is not started. `environ` is what its subprocesses inherit from."""
    if settings.auto_login_enabled:
        log.warning("accounts.no_browser_login", extra={"remedy": NO_BROWSER_LOGIN})
    pool = InstancePool(pool_config(settings, os.environ if environ is None else environ))
    return Worker(
        settings,
        stores,
        pool,
        prepare=binary_preparer(settings),
        actions=admin_actions(pool),
        tracer=tracer,
        health=health,
    )


@contextlib.contextmanager
def worker_tracer(settings: WorkerSettings, environ: Mapping[str, str]) -> Iterator[trace.Tracer]:
    """For the worker's spans, which are those of a service of its own; exports the last ones at the end."""
    tracing = start_tracing(environ, service=SERVICE, instance=settings.worker_id, version=SOFTWARE)
    try:
        yield tracing.tracer
    finally:
        tracing.close()


def pool_config(settings: WorkerSettings, environ: Mapping[str, str]) -> PoolConfig:
    accounts = resolve_accounts(
        settings.lingma_accounts.get_secret_value(),
        username=settings.lingma_username,
        password=settings.lingma_password.get_secret_value(),
        session_bundle=settings.lingma_session_bundle.get_secret_value(),
    )
    environment = child_environment(environ)
    if settings.simulated and not any(name in environment for name in SIMULATED_LOGIN):
        # Whoever runs the stand-in wants answers, not a login page.
        environment["LINGMA_SIM_LOGGED_IN"] = "1"
    return PoolConfig(
        instance=InstanceConfig(
            binary=settings.lingma_bin,
            work_dir=Path(settings.lingma_work_dir),
            socket_port=settings.lingma_socket_port,
            http_port=settings.lingma_http_port,
            endpoint=settings.dedicated_domain_url,
            arguments=settings.lingma_args,
            environment=environment,
            startup_timeout_s=settings.lingma_startup_timeout_s,
            rpc_timeout_s=settings.lingma_rpc_timeout_s,
            capacity=settings.lingma_instance_max_in_flight,
            ask_style=settings.lingma_ask_style,
            coalesce=settings.lingma_coalesce_frames,
        ),
        accounts=tuple(accounts),
        exclusive=settings.lingma_accounts_mode == "exclusive",
        count=resolve_instance_count(settings.lingma_instance_count, len(accounts)),
    )


def binary_preparer(settings: WorkerSettings) -> Callable[[], Awaitable[None]]:
    """Makes sure that there is a binary; raises BootstrapFailed."""
    config = BootstrapConfig(
        binary=settings.lingma_bin,
        source=settings.lingma_source_type,
        publisher=settings.lingma_marketplace_publisher,
        extension=settings.lingma_marketplace_extension,
        vsix_url=settings.lingma_vsix_url,
        always=settings.lingma_bootstrap_always,
        force=settings.lingma_force_refresh,
        sha256=settings.lingma_sha256,
    )

    async def prepare() -> None:
        await ensure_binary(config)

    return prepare


def admin_actions(pool: InstancePool) -> dict[str, Action]:
    """What operators may ask of an instance. Answers hold no token; a bundle is a secret by itself."""

    def instance_of(command: Admin) -> Instance:
        instance = pool.get(command.instance)
        if instance is None:
            raise InvalidRequest(f"this worker has no instance {command.instance[:40]!r}", param="instance")
        return instance

    async def login_status(command: Admin) -> Json:
        instance = instance_of(command)
        login = await instance.client.auth_status()
        return {
            "instance": instance.name,
            "state": str(instance.client.state),
            "logged_in": login.logged_in,
            "account": login.account,
            "user_type": login.user_type,
            "expires_at_ms": login.expires_at_ms,
        }

    async def login_url(command: Admin) -> Json:
        instance = instance_of(command)
        url = await instance.client.login_url()
        return {"instance": instance.name, "url": url}

    async def models_raw(command: Admin) -> Json:
        return json.loads(await instance_of(command).client.query_models())

    async def bundle_export(command: Admin) -> Json:
        instance = instance_of(command)
        return {"instance": instance.name, "bundle_b64": await instance.export_bundle()}

    return {
        "login_status": login_status,
        "login_url": login_url,
        "models_raw": models_raw,
        "bundle_export": bundle_export,
    }
