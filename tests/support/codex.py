"""A Responses upstream for tests: the fake on a real socket, an executor on it, and turns of each dialect."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from gateway.kernel.clock import SystemClock
from gateway.kernel.errors import StoreUnavailable
from gateway.kernel.ids import new_turn_id
from gateway.kernel.json import dumps
from gateway.protocols.bodies import TurnContext
from gateway.protocols.chat.parse import parse_chat
from gateway.protocols.gemini.parse import parse_generate
from gateway.protocols.messages.parse import parse_messages
from gateway.protocols.responses.parse import parse_responses
from gateway.replay.codex import CodexReplay
from gateway.store.keys import Keys
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.ports import Call
from gateway.turn.request import Turn
from gateway.upstreams.codex.executor import CodexExecutor
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.cooldowns import Cooldowns
from gateway.upstreams.http import UpstreamHttp
from gateway.upstreams.pool import accounts_of, credentials_of
from tests.fakes.codex_server import PLAIN_MODEL, REASONING_MODEL, CodexServer
from tests.support.edge import serving

CLOCK = SystemClock()
SESSION = {"x-claude-code-session-id": "3f2a9c10-0000-4abc-8def-1234567890ab"}
TURN_S = 30


def config_of(url: str, *, name: str = "openai", **more: Any) -> UpstreamConfig:
    """With two credentials of one organisation."""
    return UpstreamConfig.model_validate(
        {
            "name": name,
            "kind": "codex",
            "base_url": f"{url}/v1",
            "credentials": [{"id": "one", "api_key": "sk-one"}, {"id": "two", "api_key": "sk-two"}],
            "models": [REASONING_MODEL, {"id": PLAIN_MODEL, "reasoning": False}],
            "timeouts": {"connect_s": 2, "first_byte_s": 5, "idle_s": 5},
            **more,
        }
    )


class BrokenKV(MemoryKV):
    """A store that can be switched off."""

    def __init__(self) -> None:
        super().__init__(CLOCK)
        self.down = False

    async def kv_get(self, key: bytes) -> bytes | None:
        self._check()
        return await super().kv_get(key)

    async def kv_set(self, *args: Any, **kwargs: Any) -> bool:
        self._check()
        return await super().kv_set(*args, **kwargs)

    async def kv_cas(self, *args: Any, **kwargs: Any) -> bool:
        self._check()
        return await super().kv_cas(*args, **kwargs)

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("as the test wants")


class Bench:
    """One executor on the fake, and what it remembers."""

    def __init__(self, server: CodexServer, url: str, http: UpstreamHttp, **config: Any) -> None:
        self.server = server
        self.kv = BrokenKV()
        strict = config.pop("strict", False)
        options = {name: config.pop(name) for name in ("isolation", "all_clients") if name in config}
        self.config = config_of(url, **config)
        modes = Availability(self.kv)
        others = RequiredKV(Availability(MemoryKV(CLOCK)))
        self.cooldowns = Cooldowns(others, Keys(), CLOCK, accounts_of([self.config]))
        self.executor = CodexExecutor(
            self.config,
            http,
            credentials_of(self.config, {}),
            self.cooldowns,
            CodexReplay(RequiredKV(modes), strict=strict),
            CLOCK,
            **options,
        )

    @property
    def last(self) -> Any:
        """The body that the upstream was sent last."""
        return self.server.requests[-1].body

    def rests_s(self, *, soft: bool = True) -> float:
        """How long the first credential does, with the soft rests or without."""
        kinds = (False, True) if soft else (False,)
        return max(self.cooldowns.left("openai", "one", REASONING_MODEL, soft=kind).for_s for kind in kinds)

    async def frames(self, turn: Turn, **how: Any) -> list[Frame]:
        call = Call(
            turn=turn,
            model=how.pop("model", turn.model),
            account=how.pop("account", "one"),
            attempt=1,
            deadline_ms=CLOCK.now_ms() + 1000 * TURN_S,
            queue_until=0,
            **how,
        )
        return [frame async for burst in self.executor.attempt(call) for frame in burst]

    async def ask(self, turn: Turn, **how: Any) -> TurnResult:
        return fold(await self.frames(turn, **how))


@contextlib.asynccontextmanager
async def bench(server: CodexServer | None = None, **config: Any) -> AsyncIterator[Bench]:
    server = server or CodexServer()
    async with serving(server) as url, UpstreamHttp().running() as http:
        yield Bench(server, url, http, **config)


# -- turns ------------------------------------------------------------------------------------------------

_numbers = itertools.count()
FIND: dict[str, Any] = {"type": "object", "properties": {"q": {"type": "string"}}}


def context(headers: Mapping[str, str] | None = None, *, tenant: str = "t", **more: Any) -> TurnContext:
    now_ms = CLOCK.now_ms()
    return TurnContext(
        id=new_turn_id(now_ms + next(_numbers)),
        tenant=tenant,
        created_at_ms=now_ms,
        headers=headers or {},
        **more,
    )


def _turn(parse: Callable[[bytes, TurnContext], Turn], body: dict[str, Any], **where: Any) -> Turn:
    return parse(dumps({"model": REASONING_MODEL, **body}), context(**where))


def responses(given: Any, *, headers: Mapping[str, str] | None = None, **body: Any) -> Turn:
    return _turn(parse_responses, {"input": given, **body}, headers=headers)


def chat(*messages: Any, headers: Mapping[str, str] | None = None, **body: Any) -> Turn:
    return _turn(parse_chat, {"messages": list(messages), **body}, headers=headers)


def messages(*said: Any, headers: Mapping[str, str] | None = None, tenant: str = "t", **body: Any) -> Turn:
    """Of Claude Code, which names its session."""
    headers = SESSION if headers is None else headers
    body = {"max_tokens": 1000, "messages": list(said), **body}
    return _turn(parse_messages, body, headers=headers, tenant=tenant)


def gemini(*contents: Any, headers: Mapping[str, str] | None = None, **body: Any) -> Turn:
    params = {"model": REASONING_MODEL, "method": "generateContent"}
    return parse_generate(dumps({"contents": list(contents), **body}), context(headers, path_params=params))
