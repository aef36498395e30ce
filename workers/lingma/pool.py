"""All instances of a worker: each with its own process, work directory, ports and account, kept up at once.

A start that fails is tolerated and tried again; the others do not wait for it. Where accounts are exclusive,
an instance runs only while its account is granted (accounts/leases.py decides). Which instance a turn runs on
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
from workers.accounts.bundle import export_bundle, has_login, identity, restore_bundle
from workers.accounts.parse import Account, assign_accounts
from workers.lingma.client import ClientState, LingmaClient
from workers.lingma.config import InstanceConfig
from workers.ports import WAITING

log = logging.getLogger(__name__)

PLUGIN_DIR = ("vscode", "sharedClientCache")
CLOSE_MARGIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    instance: InstanceConfig
    """What all have in common. Name, index, work directory and ports are as given when there is only one."""
    accounts: tuple[Account, ...] = ()
    exclusive: bool = False
    """Accounts must be granted before their instances run."""
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

    def __init__(
        self,
        config: InstanceConfig,
        account: Account,
        client: LingmaClient | None = None,
        *,
        granted: bool = True,
    ) -> None:
        self.config = config
        self.account = account
        self.client = client or LingmaClient(config)
        """Another one after each stop()."""
        self.held_by = ""
        """The worker that has its account, while it is not ours."""
        self._granted = asyncio.Event()
        self._stop = asyncio.Event()
        self._stopped = asyncio.Event()
        self._leaving = False
        self._decided = asyncio.Event()
        """Somebody has the account."""
        if granted:
            self.grant()

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
        return self._granted.is_set() and not self._leaving and self.client.ready and self.client.logged_in

    async def run(self) -> None:
        """Keep it up while it may run, with the login of its account where it has none. Until cancelled."""
        while True:
            await self._granted.wait()
            if self.client.state is ClientState.CLOSED:
                self.client = LingmaClient(self.config)
            await asyncio.to_thread(restore_bundle, self.account, self.config.work_dir)
            client = self.client
            async with background(
                supervise(f"{self.name}.run", client.run), supervise(f"{self.name}.watch", client.watch)
            ):
                await self._stop.wait()
            self._granted.clear()
            await client.aclose()
            self._stopped.set()

    async def settled(self) -> None:
        """Wait until it has come up, has failed to once, or is known to be another worker's."""
        await self._decided.wait()
        if self._granted.is_set():
            await self.client.settled.wait()

    def grant(self) -> None:
        """It may run from now on."""
        self._leaving = False
        self.held_by = ""
        self._stop.clear()
        self._granted.set()
        self._decided.set()

    def withhold(self, holder: str) -> None:
        """While it does not run: who has its account, empty for nobody."""
        self.held_by = holder
        if holder:
            self._decided.set()

    def leave(self) -> None:
        """Take no new work; what runs goes on."""
        self._leaving = True

    async def stop(self) -> None:
        """End the process; run() waits for the next grant."""
        if not self._granted.is_set():
            return
        self._stopped.clear()
        self._stop.set()
        while not self._stopped.is_set():
            try:
                async with asyncio.timeout(self.config.stop_grace_s + CLOSE_MARGIN_S):
                    await self._stopped.wait()
            except TimeoutError:
                log.error("lingma.stop_hangs", extra={"instance": self.name})

    def revoke(self) -> None:
        """As before the first grant. For one whose run() has ended."""
        self._granted.clear()
        self._decided.clear()

    async def export_bundle(self) -> str:
        """The login as text: a secret. Raises BundleUnavailable, and what auth_status() raises."""
        login = await self.client.auth_status()
        return await asyncio.to_thread(export_bundle, self.config.work_dir, logged_in=login.logged_in)

    def record(self) -> InstanceRecord:
        if not self._granted.is_set():
            return InstanceRecord(
                name=self.name,
                index=self.index,
                ready=False,
                state=WAITING,
                login="elsewhere" if self.held_by else "unknown",
                capacity=self.capacity,
                held_by=self.held_by,
            )
        client = self.client
        return InstanceRecord(
            name=self.name,
            index=self.index,
            ready=self.ready,
            state="leaving" if self._leaving else str(client.state),
            login=client.login_state,
            capacity=self.capacity,
            in_flight=client.in_flight,
            models=client.models,
            account=client.login.account if client.login is not None else "",
            pid=client.pid,
            restarts=client.restarts,
        )


class LeasedAccount:
    """An account and its instances here; see workers/ports.py."""

    def __init__(self, account_id: str, instances: Sequence[Instance]) -> None:
        self.id = account_id
        self.names = frozenset(instance.name for instance in instances)
        self._instances = instances

    @property
    def at_home(self) -> bool:
        """A bundle is as good anywhere; without one it is where somebody has logged in."""
        return all(one.account.has_bundle or has_login(one.config.work_dir) for one in self._instances)

    @property
    def movable(self) -> bool:
        return all(one.account.has_bundle or not one.client.logged_in for one in self._instances)

    def grant(self) -> None:
        for instance in self._instances:
            instance.grant()

    def withhold(self, holder: str) -> None:
        for instance in self._instances:
            instance.withhold(holder)

    def leave(self) -> None:
        for instance in self._instances:
            instance.leave()

    async def stop(self) -> None:
        await asyncio.gather(*(instance.stop() for instance in self._instances))

    def revoke(self) -> None:
        for instance in self._instances:
            instance.revoke()


class InstancePool:
    def __init__(self, config: PoolConfig) -> None:
        plans = plan_instances(config)
        accounts = assign_accounts(config.accounts, len(plans))
        exclusive = config.exclusive and bool(config.accounts)
        self.instances = [
            Instance(plan, account, granted=not exclusive)
            for plan, account in zip(plans, accounts, strict=True)
        ]
        self.leased = _by_account(self.instances) if exclusive else []
        self._turn = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["InstancePool"]:
        """Keep the instances up for the length of a block, and end them with it."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._revoke_leased)
            stack.push_async_callback(self._close)
            await stack.enter_async_context(background(*self._loops()))
            yield self

    async def wait_started(self, within_s: float) -> None:
        """Wait until every instance has come up, failed to once, or is another's; at most within_s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for instance in self.instances:
                    await instance.settled()

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
        return [supervise(instance.name, instance.run) for instance in self.instances]

    def _revoke_leased(self) -> None:
        for account in self.leased:
            account.revoke()

    async def _close(self) -> None:
        grace_s = max(instance.config.stop_grace_s for instance in self.instances)
        await shielded(self._close_all(), within_s=grace_s + CLOSE_MARGIN_S)

    async def _close_all(self) -> None:
        closing = [instance.client.aclose() for instance in self.instances]
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, BaseException):
                log.error("lingma.close_failed", exc_info=result)


def _by_account(instances: Sequence[Instance]) -> list[LeasedAccount]:
    found: dict[str, list[Instance]] = {}
    for instance in instances:
        found.setdefault(identity(instance.account), []).append(instance)
    return [LeasedAccount(account_id, used_by) for account_id, used_by in found.items()]


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
