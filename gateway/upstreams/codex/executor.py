"""Run attempts on one upstream that speaks the Responses API, whichever service that is.

Several may be configured, each with an executor of its own; what is remembered of conversations is kept by
model and session alone, so that they share it. The dialect is in lane.py, an attempt's course in
upstreams/attempt.py.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence

from gateway.kernel.clock import Clock
from gateway.replay.codex import CodexReplay
from gateway.replay.scope import Isolation
from gateway.turn.frame import Burst
from gateway.turn.losses import Loss
from gateway.turn.ports import Call, Capabilities
from gateway.turn.request import Turn
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.codex.lane import CodexLane, LaneParts
from gateway.upstreams.codex.request import losses_of
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.cooldowns import Cooldowns
from gateway.upstreams.credentials import Credential
from gateway.upstreams.http import UpstreamHttp


class CodexExecutor:
    """See turn.ports.Executor."""

    def __init__(
        self,
        config: UpstreamConfig,
        http: UpstreamHttp,
        credentials: Mapping[str, Credential],
        cooldowns: Cooldowns,
        replay: CodexReplay | None,
        clock: Clock,
        *,
        isolation: Isolation = "tenant",
        all_clients: bool = True,
    ) -> None:
        """`credentials` by id. `all_clients`: Chat and Gemini clients take part in replay, too."""
        self.name = config.name
        self.capabilities = Capabilities(
            images=True,
            tools="native",
            reasoning="signed",
            sampling=True,
            structured_output=True,
            compaction=config.compaction,
            speaks="responses",
        )
        self._http = http
        self._cooldowns = cooldowns
        self._clock = clock
        self._parts = LaneParts(
            config=config,
            credentials=credentials,
            clock=clock,
            replay=replay,
            isolation=isolation,
            all_clients=all_clients,
        )

    def losses(self, turn: Turn, model: str) -> Sequence[Loss]:
        config = self._parts.config
        return losses_of(
            turn, reasoning=config.reasons(model), compaction=config.compaction, drop=config.drop
        )

    def attempt(self, call: Call) -> AsyncGenerator[Burst, None]:
        lane = CodexLane(self._parts, call)
        attempt = Attempt(
            call,
            lane,
            self._http,
            self._cooldowns,
            self._clock,
            hold=call.turn.compacts_at is not None,
        )
        return attempt.bursts()

    def conclude(self, turn: Turn) -> None:
        """Nothing is left behind: connections end with their attempts."""
