"""The command `lingma-gateway`: up, serve, work, check-config, keys, turns.

A composition root: `up` and `work` import `workers`, lazily; nothing else in this package does. Exit codes:
0 stopped as asked, 1 failed while running, 2 settings or arguments that cannot work.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine, Mapping
from getpass import getpass
from importlib.metadata import version
from typing import Annotated, Any

import typer

from gateway.environ import SettingsError, seal_ring
from gateway.kernel import memory
from gateway.kernel.errors import GatewayError, StoreForbidden
from gateway.settings import GatewaySettings, load

USAGE_ERROR = 2
FAILURE = 1

app = typer.Typer(
    name="lingma-gateway",
    help="One gateway in front of coding models. Settings come from the environment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
turns_app = typer.Typer(help="Turns in the store.", no_args_is_help=True)
app.add_typer(turns_app, name="turns")

Port = Annotated[int | None, typer.Option(help="Port to listen on (PORT).", min=0, max=65535)]
Host = Annotated[str | None, typer.Option(help="Address to listen on (HOST).")]


def main() -> None:
    """Entry point of the command."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lingma-gateway {version('lingma-gateway')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """One gateway in front of coding models. Settings come from the environment."""


@app.command()
def up(host: Host = None, port: Port = None) -> None:
    """Gateway and worker in one process, in memory unless REDIS_URL is set. Ctrl-C stops it."""
    from gateway.allinone import run_up

    environ = _environ(HOST=host, PORT=port)
    _run(run_up(_settings(environ), environ))


@app.command()
def serve(host: Host = None, port: Port = None) -> None:
    """A gateway replica. Needs REDIS_URL and at least one worker (`lingma-gateway work`)."""
    from gateway.serving import run_serve

    settings = _settings(_environ(HOST=host, PORT=port))
    _checked(settings.require_shared_store)
    _run(run_serve(settings))


@app.command()
def work(
    worker_id: Annotated[str | None, typer.Option(help="Stable name of this worker (WORKER_ID).")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the health endpoint (PORT).")] = None,
) -> None:
    """A worker: owns Lingma processes and takes turns over Redis. Needs REDIS_URL."""
    from workers.__main__ import run_work

    _run(run_work(_environ(WORKER_ID=worker_id, WORKER_PORT=port)))


@app.command("check-config")
def check_config(
    store: Annotated[
        bool, typer.Option(help="Ask the store, too: its version, its policy, our rights.")
    ] = False,
) -> None:
    """Read the settings of the environment, of replicas and workers, say what is wrong, and stop."""
    from gateway.access.keys import read_key_file
    from gateway.telemetry.logs import setup_logs
    from gateway.upstreams.check import problems, summaries

    settings = _settings_of_both(os.environ)
    scheme = settings.store.url.partition("://")[0]
    key_file = settings.access.key_file
    keys = len(settings.access.api_keys) + (len(read_key_file(key_file)) if key_file else 0)
    typer.echo(
        f"settings are fine: port {settings.server.port}, store {scheme}, API keys {keys}, "
        f"default model {settings.models.default_model}"
    )
    upstreams = settings.upstreams.config()
    for line in summaries(upstreams):
        typer.echo(line)
    if wrong := list(problems(upstreams, os.environ)):
        _fail("; ".join(wrong), USAGE_ERROR)
    if store:
        setup_logs("WARNING")  # why there is no connection is in their fields
        _run(_check_store(settings, replay=bool(upstreams.upstreams)))


async def _check_store(settings: GatewaySettings, *, replay: bool) -> int:
    from gateway.kernel.clock import SystemClock
    from gateway.store.backends import check_store, open_stores

    async with open_stores(settings.store.url, SystemClock()) as stores:
        if stores.redis is not None:
            await stores.redis.ping()
        await check_store(stores, replay=replay)
    typer.echo("the store is fine")
    return 0


@keys_app.command("hash")
def keys_hash() -> None:
    """Read a key from standard input; print its hash for the key file, its id in logs and its tenant."""
    from gateway.access.keys import hash_key, tenant_of

    key = getpass("key: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not key:
        _fail("give the key on standard input", USAGE_ERROR)
    digest = hash_key(key)
    typer.echo(f"sha256 {digest}\nid     {digest[:8]}\ntenant {tenant_of(key.encode())}")


@turns_app.command("tail")
def turns_tail(
    turn_id: Annotated[str, typer.Argument(help="The turn's id, as in the answer's x-turn-id header.")],
    bodies: Annotated[bool, typer.Option(help="Show what was said, too.")] = False,
) -> None:
    """What the store holds of a turn, and what is added until it ends. Needs REDIS_URL."""
    settings = _settings(dict(os.environ))
    _checked(settings.require_shared_store)
    _run(_tail(settings, turn_id, bodies=bodies))


async def _tail(settings: GatewaySettings, turn_id: str, *, bodies: bool) -> int:
    from gateway.admin.tail import tail
    from gateway.kernel.clock import SystemClock
    from gateway.store.backends import open_stores

    url, ring = settings.store.url, seal_ring(settings.store.keys)
    async with open_stores(url, SystemClock(), ring=ring) as stores:
        async for line in tail(stores, turn_id, bodies=bodies):
            typer.echo(line)
    return 0


def _environ(**overrides: str | int | None) -> dict[str, str]:
    """The environment, with the options given on the command line in front of it."""
    given = {name: str(value) for name, value in overrides.items() if value is not None}
    return {**os.environ, **given}


def _settings(environ: Mapping[str, str]) -> GatewaySettings:
    try:
        settings, warnings = load(environ)
    except SettingsError as error:
        _fail(str(error), USAGE_ERROR)
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    return settings


def _settings_of_both(environ: Mapping[str, str]) -> GatewaySettings:
    """The same, with what a worker would say of its half: what both say is told once."""
    from workers.settings import load as load_worker

    problems: list[str] = []
    warnings: list[str] = []
    for read_half in (load, load_worker):
        try:
            warnings += read_half(environ)[1]
        except SettingsError as error:
            problems += error.problems
    if problems:
        _fail("\n".join(dict.fromkeys(problems)), USAGE_ERROR)
    for warning in dict.fromkeys(warnings):
        typer.echo(f"warning: {warning}", err=True)
    return load(environ)[0]


def _checked(check: Any) -> None:
    try:
        check()
    except SettingsError as error:
        _fail(str(error), USAGE_ERROR)


def _run(work: Coroutine[Any, Any, int]) -> None:
    memory.settle()
    try:
        code = asyncio.run(work)
    except KeyboardInterrupt:
        code = 130
    except (SettingsError, StoreForbidden) as error:
        _fail(str(error), USAGE_ERROR)
    except (GatewayError, OSError) as error:
        _fail(str(error), FAILURE)
    raise typer.Exit(code)


def _fail(message: str, code: int) -> Any:
    typer.echo(f"lingma-gateway: {message}", err=True)
    raise typer.Exit(code)
