"""The part of the composition root about HTTP upstreams: from what is configured to what is routed."""

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from gateway.engine.routing import Target
from gateway.kernel.aio import background, supervise
from gateway.kernel.clock import Clock
from gateway.replay.antigravity import AntigravityReplay
from gateway.replay.codex import CodexReplay
from gateway.replay.derived import derived_session
from gateway.sessions.policy import affinity
from gateway.settings_upstreams import ReplaySettings
from gateway.store.backends import Stores
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV
from gateway.turn.ports import Executor
from gateway.turn.request import Turn
from gateway.upstreams.antigravity.executor import AntigravityExecutor
from gateway.upstreams.check import problems, summaries
from gateway.upstreams.codex.executor import CodexExecutor
from gateway.upstreams.config import RouteConfig, UpstreamConfig, UpstreamsConfig
from gateway.upstreams.cooldowns import Cooldowns
from gateway.upstreams.credentials import Credential
from gateway.upstreams.http import UpstreamHttp
from gateway.upstreams.pool import HttpUpstream, accounts_of, credentials_of

log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def open_upstreams(
    config: UpstreamsConfig,
    replay: ReplaySettings,
    stores: Stores,
    clock: Clock,
    environ: Mapping[str, str],
) -> AsyncIterator[Sequence[HttpUpstream]]:
    """Every configured upstream, connections pooled and cooldowns shared. Without any, nothing runs."""
    if not config.upstreams:
        yield ()
        return
    for line in summaries(config):
        log.info("upstream.configured", extra={"summary": line})
    for problem in problems(config, environ):
        log.warning("upstream.misconfigured", extra={"problem": problem})
    modes = Availability(MemoryKV(clock), None if stores.redis is None else stores.kv)
    required = RequiredKV(modes)
    credentials = {one.name: credentials_of(one, environ) for one in config.upstreams}
    cooldowns = Cooldowns(
        required,
        stores.keys,
        clock,
        accounts_of(config.upstreams, config.routes),
        key_id=lambda account: credentials[account.upstream][account.credential].key_id(),
    )
    async with contextlib.AsyncExitStack() as stack:
        upstreams = []
        clients: dict[str | None, UpstreamHttp] = {}
        for one in config.upstreams:
            ca_file = None if one.ca_file is None else str(one.ca_file)
            if ca_file not in clients:
                # The system's certificates take 40 ms to read, and are the same for everybody.
                client = UpstreamHttp(ca_file=ca_file)
                clients[ca_file] = await stack.enter_async_context(client.running())
            executor = _executor(
                one, replay, required, clients[ca_file], cooldowns, clock, credentials[one.name]
            )
            upstreams.append(HttpUpstream(one, executor, cooldowns))
        await stack.enter_async_context(background(supervise("upstreams.cooldowns", cooldowns.run)))
        yield upstreams


def _executor(
    config: UpstreamConfig,
    replay: ReplaySettings,
    kv: RequiredKV,
    http: UpstreamHttp,
    cooldowns: Cooldowns,
    clock: Clock,
    credentials: Mapping[str, Credential],
) -> Executor:
    if config.kind == "codex":
        return CodexExecutor(
            config,
            http,
            credentials,
            cooldowns,
            CodexReplay(kv, strict=replay.strict) if replay.enabled else None,
            clock,
            isolation=replay.isolation,
            all_clients=replay.clients == "all",
        )
    return AntigravityExecutor(
        config,
        http,
        credentials,
        cooldowns,
        AntigravityReplay(kv, strict=replay.strict, packs=replay.isolation == "tenant")
        if replay.enabled
        else None,
        clock,
        isolation=replay.isolation,
    )


def conversation_of(turn: Turn) -> str:
    """What the turns of a conversation have in common, so that they meet the same account and its cached
    prompts. What it begins with tells conversations apart whose clients name neither themselves nor it:
    their system prompt alone would send all of one program to one account.
    """
    if turn.user or turn.affinity:
        return affinity(turn)
    derived = derived_session(turn.items, dialect=turn.raw.dialect, tenant=turn.tenant)
    return derived or affinity(turn)


def routes_of(routes: Sequence[RouteConfig]) -> dict[str, list[Target]]:
    """By public model name."""
    return {
        model: [
            Target(
                upstream=candidate.upstream,
                model=candidate.model or model,
                rank=candidate.rank,
                weight=candidate.weight,
                credentials=candidate.credentials,
            )
            for candidate in route.candidates
        ]
        for route in routes
        for model in route.models
    }
