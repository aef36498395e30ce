"""What the runtime needs of an upstream process: instances, the client of one, the answer to one ask.

workers/lingma/ implements it (and names the errors); tests have small fakes.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.jobs.messages import InstanceRecord
from gateway.kernel.json import Json

WAITING = "waiting"
"""The state of an instance whose account is not ours now. Gateways do not hear of it."""


class Answer(Protocol):
    """What the upstream pushes for one ask."""

    @property
    def ended(self) -> bool:
        """Nothing more will come; what has come may still wait."""
        ...

    async def next(self, timeout: float) -> list[bytes]:
        """All pushes that wait, as they came; [] when timeout seconds pass without any, or it has ended.

        Raises LingmaDisconnected, AskRefused, ReaderTooSlow. Safe to cancel.
        """
        ...

    def close(self) -> None:
        """Take no more; later pushes are dropped. Idempotent."""
        ...


class UpstreamClient(Protocol):
    """Every method raises LingmaNotReady when nothing could be sent, else LingmaDisconnected."""

    async def ask(self, params: bytes, request_id: str) -> Answer: ...

    async def stop(self, request_id: str, session_id: str) -> None: ...

    async def approve_tool(
        self, *, request_id: str, session_id: str, tool_call_id: str, approval: bool
    ) -> None: ...

    async def send_tool_result(
        self, *, request_id: str, tool_call_id: str, name: str, result: Json
    ) -> None: ...


class Instance(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def index(self) -> int: ...

    @property
    def ready(self) -> bool: ...

    @property
    def capacity(self) -> int: ...

    @property
    def client(self) -> UpstreamClient: ...


class Pool(Protocol):
    def get(self, name: str) -> Instance | None: ...

    def snapshot(self) -> Sequence[InstanceRecord]: ...


class LeasedAccount(Protocol):
    """An account and the instances that use it. They run only between grant() and stop()."""

    @property
    def id(self) -> str:
        """The same on every worker that knows the account. Not to be shown."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """Of its instances."""
        ...

    @property
    def at_home(self) -> bool:
        """Whether it can be used here without a person who logs in."""
        ...

    @property
    def movable(self) -> bool:
        """Whether nothing is lost when another worker goes on with it."""
        ...

    def grant(self) -> None:
        """It is ours: start."""
        ...

    def withhold(self, holder: str) -> None:
        """It is that worker's; empty: nobody's yet. For what does not run."""
        ...

    def leave(self) -> None:
        """Take no new work."""
        ...

    async def stop(self) -> None:
        """End the processes; nothing uses the account when this returns."""
        ...


class ManagedPool(Pool, Protocol):
    @property
    def leased(self) -> Sequence[LeasedAccount]:
        """Accounts to be held before their instances run; the other instances run anyway."""
        ...

    def running(self) -> AbstractAsyncContextManager[object]:
        """Keep the instances up for the length of a block; a start that fails is tried again."""
        ...

    async def wait_started(self, within_s: float) -> None:
        """Wait until every instance can take work or has failed to come up once, at most within_s."""
        ...
