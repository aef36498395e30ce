"""All instances of a worker: each with its own process, work directory, ports and account, kept up at once.

A start that fails is tolerated and tried again; the others do not wait for it. Which instance a turn runs on
is decided by the gateways; `pick` is for callers inside the worker. Called by the worker's supervisor.
"""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.jobs.messages import InstanceRecord
from gateway.kernel.aio import background, shielded, supervise
from workers.accounts.bundle import export_bundle, restore_bundle
from workers.accounts.parse import Account, assign_accounts
from workers.lingma.client import LingmaClient
from workers.lingma.config import InstanceConfig

log = logging.getLogger(__name__)

PLUGIN_DIR = ("vscode", "sharedClientCache")
CLOSE_MARGIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    instance: InstanceConfig
    """What all have in common. Name, index, work directory and ports are as given when there is only one."""
    accounts: tuple[Account, ...] = ()
    count: int = 1


def plan_instances(config: PoolConfig) -> list[InstanceConfig]:
    """One configuration each. Several never share a directory or a wished port."""
    if config.count <= 1:
        return [config.instance]
    base = config.instance.work_dir
    if base.parts[-2:] == PLUGIN_DIR:
        base = base.parents[1]
    return [
        replace(
            config.instance,
            name=f"inst-{index}",
            index=index,
            work_dir=base / "pool" / f"inst-{index}",
            socket_port=0,
            http_port=0,
        )
        for index in range(config.count)
    ]


class Instance:
    """One Lingma subprocess with its account."""

    def __init__(self, config: InstanceConfig, account: Account, client: LingmaClient | None = None) -> None:
        self.config = config
        self.account = account
        self.client = client or LingmaClient(config)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def index(self) -> int:
        return self.config.index

    @property
    def capacity(self) -> int:
        return self.config.capacity

    @property
    def ready(self) -> bool:
        """Connected and logged in: may be given work."""
        return self.client.ready and self.client.logged_in

    async def run(self) -> None:
        """Keep it up, with the login of its account where it has none. Until cancelled."""
        await asyncio.to_thread(restore_bundle, self.account, self.config.work_dir)
        await self.client.run()

    async def export_bundle(self) -> str:
        """The login as text: a secret. Raises BundleUnavailable, and what auth_status() raises."""
        login = await self.client.auth_status()
        return await asyncio.to_thread(export_bundle, self.config.work_dir, logged_in=login.logged_in)

    def record(self) -> InstanceRecord:
        client = self.client
        return InstanceRecord(
            name=self.name,
            index=self.index,
            ready=self.ready,
            state=str(client.state),
            login=client.login_state,
            capacity=self.capacity,
            in_flight=client.in_flight,
            models=client.models,
            account=client.login.account if client.login is not None else "",
            pid=client.pid,
            restarts=client.restarts,
        )


class InstancePool:
    def __init__(self, config: PoolConfig) -> None:
        plans = plan_instances(config)
        accounts = assign_accounts(config.accounts, len(plans))
        self.instances = [Instance(plan, account) for plan, account in zip(plans, accounts, strict=True)]
        self._turn = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["InstancePool"]:
        """Keep the instances up for the length of a block, and end them with it."""
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            await stack.enter_async_context(background(*self._loops()))
            yield self

    async def wait_started(self, within_s: float) -> None:
        """Wait until every instance has come up, or failed to once, at most within_s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for instance in self.instances:
                    await instance.client.settled.wait()

    def wake(self) -> None:
        """Somebody wants work done: let instances that wait before their next try go on now."""
        for instance in self.instances:
            instance.client.wake()

    def get(self, name: str) -> Instance | None:
        return next((instance for instance in self.instances if instance.name == name), None)

    def snapshot(self) -> list[InstanceRecord]:
        return [instance.record() for instance in self.instances]

    def pick(self, affinity_key: str = "", *, name: str = "") -> Instance:
        """The named instance when it is healthy, else the key's, else the least loaded; see choose()."""
        healthy = [instance.client.ready for instance in self.instances]
        named = next((i for i, instance in enumerate(self.instances) if instance.name == name), None)
        if named is not None and healthy[named]:
            return self.instances[named]
        index = choose(healthy, [instance.client.in_flight for instance in self.instances], affinity_key)
        if index is None:
            index = self._turn % len(self.instances)
            self._turn += 1
        return self.instances[index]

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        loops: list[Coroutine[Any, Any, None]] = []
        for instance in self.instances:
            loops.append(supervise(f"{instance.name}.run", instance.run))
            loops.append(supervise(f"{instance.name}.watch", instance.client.watch))
        return loops

    async def _close(self) -> None:
        grace_s = max(instance.config.stop_grace_s for instance in self.instances)
        await shielded(self._close_all(), within_s=grace_s + CLOSE_MARGIN_S)

    async def _close_all(self) -> None:
        closing = [instance.client.aclose() for instance in self.instances]
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, BaseException):
                log.error("lingma.close_failed", exc_info=result)


def choose(healthy: Sequence[bool], in_flight: Sequence[int], affinity_key: str = "") -> int | None:
    """The key's bucket when healthy, else the healthy one with least in flight (the first of equals).

    None when none is healthy. The bucket depends on nothing but the key and the number of instances.
    """
    if affinity_key:
        index = bucket(affinity_key, len(healthy))
        if healthy[index]:
            return index
    candidates = [index for index, good in enumerate(healthy) if good]
    return min(candidates, key=lambda index: in_flight[index], default=None)


def bucket(affinity_key: str, count: int) -> int:
    digest = hashlib.sha256(affinity_key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % count
