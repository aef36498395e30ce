"""Which accounts this worker uses: each is used by one worker at a time, which holds a claim in the store.

A claim names worker and epoch and expires unless renewed. So a restarted worker takes its own accounts back
at once, those of one that died are taken over when their claims have ended, and who finds another's claim in
the place of its own lets turns end and stops. Who takes what is free: the worker with the fewest goes first,
the others a little later each. A worker with two more than another gives one away, if nothing is lost by it.

Knows nothing of processes and turns (the accounts and `retire` do). Run by supervisor.py.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import NamedTuple, Protocol

from gateway.kernel.aio import Tasks
from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreUnavailable
from gateway.store.backends import Stores
from workers.ports import LeasedAccount

log = logging.getLogger(__name__)

LOOK_S = 1.0
RETRY_S = 0.25
"""Between two looks while the store is away: its holder should be the first to find it again."""
TTL_S = 10.0
FREE_S = 1.5
"""How long a claim must have been absent: a store that comes back empty has lost those of the living too."""
STEP_S = 2.0
"""How much later than the worker before it each worker takes what is free."""
RELUCTANT_S = 10.0
"""How much later still, where a person would have to log in: another worker may have the login on disk."""
YIELD_S = 15.0
"""How long what was given away is left to the others."""

GIVEN_BACK = b"-"
"""The value of a claim that was given back. Unlike an absent one it needs no second look."""


class Claim(NamedTuple):
    epoch: int
    worker: str

    def write(self) -> bytes:
        return f"{self.epoch} {self.worker}".encode()

    @classmethod
    def read(cls, value: bytes | None) -> "Claim | None":
        """None for nobody's. What makes no sense is somebody's."""
        if value is None or value == GIVEN_BACK:
            return None
        epoch, _, worker = value.decode(errors="replace").partition(" ")
        return cls(int(epoch) if epoch.isdigit() else 0, worker or "?")


class State(Enum):
    AWAY = auto()
    HELD = auto()
    GIVING = auto()
    """Held until its turns have ended."""
    LOST = auto()
    """Another's; our turns on it are ending."""


class Retire(Protocol):
    async def __call__(self, account: LeasedAccount, *, lost: bool) -> None:
        """Let the turns on it end, those of one that was lost not for long, and stop its instances."""
        ...


class _Account:
    def __init__(self, leased: LeasedAccount, key: bytes) -> None:
        self.leased = leased
        self.key = key
        self.state = State.AWAY
        self.value: bytes | None = None
        """As last seen."""
        self.holder: str | None = None
        """None for nobody; our own name while it is held."""
        self.free_since: float | None = None
        self.not_before = 0.0
        self.taken = 0
        """Counts up: the latest is given away first."""


class AccountLeases:
    def __init__(
        self,
        stores: Stores,
        accounts: Sequence[LeasedAccount],
        *,
        worker: str,
        epoch: int,
        clock: Clock,
        tasks: Tasks,
        retire: Retire,
        draining: Callable[[], bool],
    ) -> None:
        self._kv = stores.kv
        self._leases = stores.leases
        self._alone = stores.redis is None
        """Nobody else can know the store."""
        self._users = stores.keys.account_users([account.id for account in accounts])
        self._accounts = [_Account(account, stores.keys.account(account.id)) for account in accounts]
        self._worker = worker
        self._claim = Claim(epoch, worker)
        self._clock = clock
        self._tasks = tasks
        self._retire = retire
        self._draining = draining
        self._rivals: list[str] = []
        """Workers that could take our accounts, and we theirs."""
        self._takes = 0

    async def run(self) -> None:
        """Look every LOOK_S. An outage of the store changes nothing: nobody can take anything either."""
        while True:
            pause = LOOK_S
            try:
                await self.look()
            except StoreUnavailable:
                pause = RETRY_S
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Keep what is ours, notice what is lost, take what is free, give what others lack.

        Raises StoreUnavailable.
        """
        values = await self._kv.kv_mget(*(account.key for account in self._accounts))
        await self._register()
        for account, value in zip(self._accounts, values, strict=True):
            await self._judge(account, value)
        if not self._draining():
            await self._take()
        self._give()

    async def leave(self) -> None:
        """Give everything back; nothing of ours uses it any more. Raises StoreUnavailable."""
        for account in self._accounts:
            if account.state in (State.HELD, State.GIVING):
                await self._write(account, self._claim.write(), GIVEN_BACK)
        await self._leases.release(self._users, self._worker)

    # -- what is so ---------------------------------------------------------------------------------------

    async def _register(self) -> None:
        if self._draining():
            await self._leases.release(self._users, self._worker)
        else:
            await self._leases.acquire(self._users, self._worker, limit=0, ttl_s=TTL_S)
        self._rivals = [name for name in await self._leases.holders(self._users) if name != self._worker]

    async def _judge(self, account: _Account, value: bytes | None) -> None:
        claim = Claim.read(value)
        ours = claim is not None and claim.worker == self._worker and claim.epoch <= self._claim.epoch
        held = account.state in (State.HELD, State.GIVING)
        if account.state is not State.LOST and (ours or (held and claim is None)):
            # Renewed; or back after the store lost it; or left by the incarnation before.
            if await self._write(account, value, self._claim.write()) and not held:
                self._hold(account)
            return
        account.value = value
        account.holder = None if claim is None else claim.worker
        if held:
            self._lose(account)
        elif account.state is State.AWAY:
            self._note_absence(account)

    def _note_absence(self, account: _Account) -> None:
        if account.holder is not None:
            account.free_since = None
        elif account.free_since is None:
            account.free_since = self._clock.monotonic()
        account.leased.withhold(account.holder or "")

    async def _write(self, account: _Account, expected: bytes | None, value: bytes) -> bool:
        """False when the claim is not what it was any more: the next look will tell."""
        return await self._kv.kv_cas(account.key, expected, value, TTL_S)

    # -- taking -------------------------------------------------------------------------------------------

    async def _take(self) -> None:
        while ripe := [account for account in self._accounts if self._is_ripe(account)]:
            account = ripe[0]
            if await self._write(account, account.value, self._claim.write()):
                self._hold(account)
            else:
                account.free_since = None

    def _is_ripe(self, account: _Account) -> bool:
        if account.state is not State.AWAY or account.free_since is None:
            return False
        if self._alone:
            return True
        wait_s = STEP_S * self._rank()
        if account.value != GIVEN_BACK:
            wait_s += FREE_S
        if not account.leased.at_home:
            wait_s += RELUCTANT_S
        not_before = account.not_before if self._rivals else 0.0
        return self._clock.monotonic() >= max(account.free_since + wait_s, not_before)

    def _rank(self) -> int:
        """How many others go first: those with less, and of those with as much the first by name."""
        load = self._load()
        ours = (load[self._worker], self._worker)
        return sum((load[rival], rival) < ours for rival in self._rivals)

    def _load(self) -> Counter[str]:
        return Counter(account.holder for account in self._accounts if account.holder is not None)

    def _hold(self, account: _Account) -> None:
        self._takes += 1
        account.state = State.HELD
        account.holder = self._worker
        account.free_since = None
        account.taken = self._takes
        log.info("accounts.taken", extra={"instances": sorted(account.leased.names)})
        account.leased.grant()

    # -- giving and losing --------------------------------------------------------------------------------

    def _give(self) -> None:
        if not self._rivals:
            return
        held = [account for account in self._accounts if account.state is State.HELD]
        if self._draining():
            for account in held:
                self._let_go(account, State.GIVING)
            return
        if any(account.state is State.GIVING or account.holder is None for account in self._accounts):
            return  # things are moving already
        load = self._load()
        if len(held) < min(load[rival] for rival in self._rivals) + 2:
            return
        movable = [account for account in held if account.leased.movable]
        if movable:
            self._let_go(max(movable, key=lambda account: account.taken), State.GIVING)

    def _lose(self, account: _Account) -> None:
        names = sorted(account.leased.names)
        log.warning("accounts.lost", extra={"instances": names, "held_by": account.holder})
        self._let_go(account, State.LOST)

    def _let_go(self, account: _Account, state: State) -> None:
        was, account.state = account.state, state
        account.leased.leave()
        if was is State.HELD:
            self._tasks.spawn(self._see_off(account), name="accounts.retire")

    async def _see_off(self, account: _Account) -> None:
        """Until nothing uses it here, then it is anybody's, unless it is somebody's already."""
        await self._retire(account.leased, lost=account.state is State.LOST)
        if account.state is State.GIVING:
            account.not_before = self._clock.monotonic() + YIELD_S
            try:
                await self._write(account, self._claim.write(), GIVEN_BACK)
            except StoreUnavailable:
                log.info("accounts.left_to_expire", extra={"instances": sorted(account.leased.names)})
            else:
                log.info("accounts.given", extra={"instances": sorted(account.leased.names)})
            account.holder = None
        account.state = State.AWAY
        self._note_absence(account)
