"""Run attempts on one upstream that speaks Gemini, plain or inside the envelope of Code Assist.

Several may be configured, each with an executor of its own; what is remembered of conversations is kept by
model and session alone, so that they share it. An upstream may have several addresses: within one attempt
they are asked in order, as long as nobody answers or there is no room, and never behind content. The dialect
is in lane.py, an attempt's course in upstreams/attempt.py.
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence

from gateway.kernel.clock import Clock
from gateway.replay.antigravity import AntigravityReplay
from gateway.replay.scope import Isolation
from gateway.turn.frame import Burst
from gateway.turn.losses import Loss
from gateway.turn.ports import AttemptFailed, Call, Capabilities
from gateway.turn.request import Turn
from gateway.upstreams.antigravity.lane import AntigravityLane, LaneParts
from gateway.upstreams.antigravity.request import losses_of
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.cooldowns import Cooldowns
from gateway.upstreams.credentials import Credential
from gateway.upstreams.http import UpstreamHttp

log = logging.getLogger(__name__)


class AntigravityExecutor:
    """See turn.ports.Executor."""

    capabilities = Capabilities(
        images=True,
        tools="native",
        reasoning="signed",
        sampling=True,
        structured_output=True,
        speaks="gemini",
    )

    def __init__(
        self,
        config: UpstreamConfig,
        http: UpstreamHttp,
        credentials: Mapping[str, Credential],
        cooldowns: Cooldowns,
        replay: AntigravityReplay | None,
        clock: Clock,
        *,
        isolation: Isolation = "tenant",
    ) -> None:
        """`credentials` by id. `replay`: None when nothing is remembered."""
        self.name = config.name
        self._http = http
        self._cooldowns = cooldowns
        self._clock = clock
        self._base_urls = config.base_urls
        self._parts = LaneParts(
            config=config, credentials=credentials, clock=clock, replay=replay, isolation=isolation
        )

    def losses(self, turn: Turn, model: str) -> Sequence[Loss]:
        return losses_of(turn, self._parts.shape(model))

    def attempt(self, call: Call) -> AsyncGenerator[Burst, None]:
        if len(self._base_urls) == 1:
            return self._at(call, 1)[1].bursts()
        return self._anywhere(call)

    async def _anywhere(self, call: Call) -> AsyncGenerator[Burst, None]:
        for number in range(1, len(self._base_urls) + 1):
            lane, attempt = self._at(call, number)
            try:
                async with contextlib.aclosing(attempt.bursts()) as bursts:
                    async for burst in bursts:
                        yield burst
                return
            except AttemptFailed as failure:
                if not lane.goes_elsewhere(failure):
                    raise
                fields = {"turn_id": call.turn.id, "upstream": self.name, "kind": str(failure.error.kind)}
                log.info("upstream.address_failed", extra=fields | {"address": number})

    def _at(self, call: Call, number: int) -> tuple[AntigravityLane, Attempt]:
        """An attempt at one address, counted from 1."""
        last = number == len(self._base_urls)
        lane = AntigravityLane(self._parts, call, base_url=self._base_urls[number - 1], last=last)
        attempt = Attempt(
            call,
            lane,
            self._http,
            self._cooldowns,
            self._clock,
            elsewhere=not last,
            finished=lane.is_finished,
        )
        return lane, attempt

    def conclude(self, turn: Turn) -> None:
        """Nothing is left behind: connections end with their attempts."""
