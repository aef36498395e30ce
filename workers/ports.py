"""What the runtime needs of an upstream process: instances, the client of one, the answer to one ask.

workers/lingma/ implements it (and names the errors); tests have small fakes.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from gateway.jobs.messages import InstanceRecord
from gateway.kernel.json import Json


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


class ManagedPool(Pool, Protocol):
    def running(self) -> AbstractAsyncContextManager[object]:
        """Keep the instances up for the length of a block; a start that fails is tried again."""
        ...

    async def wait_started(self, within_s: float) -> None:
        """Wait until every instance can take work or has failed to come up once, at most within_s."""
        ...
