"""The official SDKs on a gateway in this process with a strict Gemini upstream, for one test each."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.antigravity_server import AntigravityServer
from tests.support.antigravity import Gateway, config_for, gateway
from tests.support.sdks import Sdks

MODEL = "gemini-3-pro"

each_envelope = pytest.mark.parametrize("envelope", [False, True], ids=["plain", "code_assist"])


class Bench(Sdks):
    def __init__(self, gate: Gateway, server: AntigravityServer) -> None:
        super().__init__(gate.url, MODEL)
        self.gate = gate
        self.server = server

    @property
    def last(self) -> Any:
        return self.server.requests[-1].request


@contextlib.asynccontextmanager
async def serving(
    server: AntigravityServer | None = None, config: Any = None, **options: Any
) -> AsyncIterator[Bench]:
    server = server or AntigravityServer()
    async with (
        server.running(),
        gateway(config_for(server, **(config or {})), **options) as gate,
        contextlib.aclosing(Bench(gate, server)) as bench,
    ):
        yield bench
