"""One attempt's dialect on a Gemini upstream: its request, its answer, and what replay keeps of it.

Run by upstreams/attempt.py, once for every address that is asked. Replay takes part with every client and
every model that signs its thoughts: before the request it puts back what the client left out, and behind a
complete answer it remembers the chain; a chain that the upstream refuses is given up.
"""

import re
from collections.abc import Coroutine, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from gateway.kernel.clock import Clock
from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject
from gateway.replay.antigravity import AntigravityReplay, Committed
from gateway.replay.derived import gemini_session_id
from gateway.replay.scope import Isolation
from gateway.turn.estimate import input_tokens
from gateway.turn.frame import Burst, Frame
from gateway.turn.ports import AttemptFailed, Call
from gateway.upstreams.antigravity import replay as replaying
from gateway.upstreams.antigravity.arguments import schemas_in
from gateway.upstreams.antigravity.decode import GeminiDecoder
from gateway.upstreams.antigravity.errors import classify, moves_on, read_error
from gateway.upstreams.antigravity.history import contents_of, parts_of, signature_of
from gateway.upstreams.antigravity.items import ItemReader
from gateway.upstreams.antigravity.names import ClientTools
from gateway.upstreams.antigravity.pairing import RESPONSE_ROLE, with_responses_in_place
from gateway.upstreams.antigravity.replay_prepare import prepared
from gateway.upstreams.antigravity.replay_scope import replay_scope, request_session_id, takes_part
from gateway.upstreams.antigravity.request import Shape, build_request, enveloped, with_user_first
from gateway.upstreams.asking import secrets_of, upstream_request
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.credentials import Credential
from gateway.upstreams.faults import Fault
from gateway.upstreams.http import UpstreamRequest
from gateway.wire.sse import SseEvent

_STREAM_ONLY: Final = ("claude", "gemini-3-pro", "gemini-3.1-flash-image")
"""Models that Code Assist answers well only in streams."""
_VERSIONED: Final = re.compile(r"\w/v\d+(?:alpha|beta)?\d*(?:/|$)")
"""An address that names a version of the API itself, as those of Vertex AI do."""


class LaneParts(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts on one upstream share."""

    config: UpstreamConfig
    credentials: Mapping[str, Credential]
    clock: Clock
    replay: AntigravityReplay | None
    """None when nothing is remembered."""
    isolation: Isolation

    def shape(self, model: str, *, fresh: bool = False) -> Shape:
        config = self.config
        return Shape(
            model=model,
            executor=config.name,
            envelope=config.envelope,
            thinks=config.reasons(model),
            drop=config.drop,
            signatures=not fresh,
        )


class AntigravityLane:
    """See upstreams.attempt.Lane."""

    def __init__(self, parts: LaneParts, call: Call, *, base_url: str, last: bool) -> None:
        """last: no other address is asked when this one fails."""
        turn = call.turn
        native = turn.raw.dialect == "gemini"
        self._parts = parts
        self._call = call
        self._turn = turn
        self._base_url = base_url
        self._last = last
        self._shown = _Shown()
        self._stream = turn.stream or parts.config.stream_only or self._streams_only()
        reader = ItemReader(
            turn_id=turn.id,
            executor=parts.config.name,
            tools=ClientTools(turn.tools),
            # Gemini's own clients get the upstream's chunks, and so its ids.
            proves=parts.replay is not None and takes_part(call.model) and not native,
        )
        self._decoder = GeminiDecoder(
            model=turn.model,
            created_at=turn.created_at_ms // 1000,
            reader=reader,
            input_tokens_estimate=None if native else input_tokens(turn),
            native=native,
            gather=native and self._stream and not turn.stream,
            observer=self._shown,
        )
        self._judged: Fault | None = None
        self._asked = False
        self.gives_back = False

    def _streams_only(self) -> bool:
        if self._parts.config.envelope == "plain":
            return False
        return any(name in self._call.model.lower() for name in _STREAM_ONLY)

    @property
    def ended(self) -> bool:
        return self._decoder.ended

    def is_finished(self) -> bool:
        """The answer is as good as over."""
        return self._decoder.finished

    @property
    def fault(self) -> Fault | None:
        fault = self._judged or self._decoder.fault
        if fault is not None and not self._last and moves_on(fault):
            return msgspec.structs.replace(fault, rest=None)
        return fault

    def goes_elsewhere(self, failure: AttemptFailed) -> bool:
        """Whether another address may do better: nobody was reached, or there is no room here."""
        if self._last or not self._asked or failure.again != "next":
            return False
        fault = self._judged or self._decoder.fault
        return fault is None or moves_on(fault)

    # -- the request --------------------------------------------------------------------------------------

    async def request(self) -> UpstreamRequest:
        config, call = self._parts.config, self._call
        shape = self._parts.shape(call.model, fresh=call.fresh)
        payload = await self._payload(shape)
        self.gives_back = any(
            signature_of(part) for content in contents_of(payload) for part in parts_of(content)
        )
        default: Literal["api_key", "bearer"] = "api_key" if config.envelope == "plain" else "bearer"
        asked = upstream_request(
            config,
            call,
            url=self._url(),
            body=payload,
            headers=self._parts.credentials[call.account].headers(default=default),
            secrets=secrets_of(self._parts.credentials.values()),
            streams=self._stream,
            now_ms=self._parts.clock.now_ms(),
        )
        self._asked = True
        return asked

    def _url(self) -> str:
        method = "streamGenerateContent?alt=sse" if self._stream else "generateContent"
        if self._parts.config.envelope == "code_assist":
            return f"{self._base_url}/v1internal:{method}"
        return f"{_models_address(self._base_url, self._call.model)}:{method}"

    async def _payload(self, shape: Shape) -> JsonObject:
        """Raises InvalidRequest, and StoreError where replay is strict."""
        turn, parts, call = self._turn, self._parts, self._call
        request = build_request(turn, shape)
        scope = replay_scope(turn, turn.headers, shape.model, request, isolation=parts.isolation)
        payload = self._enveloped(request, shape)
        role = RESPONSE_ROLE if shape.envelope == "code_assist" else "user"
        if not takes_part(shape.model):
            return payload if turn.raw.dialect == "gemini" else with_responses_in_place(payload, role="user")
        schemas = schemas_in(turn.raw.body) if turn.raw.dialect == "messages" else None
        if parts.replay is None:
            return prepared(payload, (), schemas, response_role=role).payload
        with call.stage("replay.read") as stage:
            replay = self._shown.to = await replaying.begin(
                parts.replay, scope, payload, schemas=schemas, response_role=role, fresh=call.fresh
            )
            stage.tell(gateway__replay__injected=replay.replayed)
        if scope is not None:
            call.replayed.append("injected" if replay.replayed else "missed")
        return replay.payload

    def _enveloped(self, request: JsonObject, shape: Shape) -> JsonObject:
        turn, call = self._turn, self._call
        begun = with_user_first(request, turn, shape)
        if shape.envelope == "plain":
            return begun
        project = self._parts.credentials[call.account].project or ""
        session_id = request_session_id(turn, turn.headers, request) or gemini_session_id(turn.id)
        return enveloped(turn, shape, begun, project=project, session_id=session_id, attempt=call.attempt)

    # -- the answer ---------------------------------------------------------------------------------------

    def judge(self, status: int, body: bytes, retry_after_s: float | None) -> Fault:
        asked_tokens = input_tokens(self._turn) if status == 429 else 0
        said = read_error(body, status)
        self._judged = classify(said, retry_after_s=retry_after_s, asked_tokens=asked_tokens)
        return self.fault or self._judged

    def feed(self, events: Sequence[SseEvent], seq: int, into: Burst) -> None:
        if len(events) == 1:
            into.append(self._decoder.feed_data(events[0].data, seq))
        else:
            self._decoder.feed_all([event.data for event in events], seq, into)

    def feed_whole(self, body: bytes) -> Frame:
        return self._decoder.feed_whole(body)

    def eof(self) -> Frame | None:
        return self._decoder.eof()

    # -- replay -------------------------------------------------------------------------------------------

    def conclude(self, fault: Fault | None) -> Coroutine[Any, Any, bool] | None:
        """Only an answer that ended well leaves something, and only a refused signature ends a chain."""
        replay = self._shown.to
        if replay is None:
            return None
        if fault is not None:
            return replay.give_up() if fault.signature else None
        work = replay.commit() if self._decoder.completed else None
        return None if work is None else _kept(work)


async def _kept(work: Coroutine[Any, Any, Committed]) -> bool:
    """Whether the chain is there."""
    return await work == "stored"


@lru_cache(maxsize=1024)
def _models_address(base_url: str, model: str) -> str:
    """Raises InvalidRequest."""
    model = model.removeprefix("models/")
    if not all(part.strip(".") for part in model.split("/")):
        # Such a name would lead to another place than the one that the operator named.
        raise InvalidRequest("This is no name of a model", param="model")
    version = "" if _VERSIONED.search(base_url) else "/v1beta"
    return f"{base_url}{version}/models/{quote(model, safe='/:@.-_')}"


class _Shown:
    """See decode.Observer. Not the lane itself, which would hold its decoder and be held by it."""

    def __init__(self) -> None:
        self.to: replaying.ReplayAttempt | None = None
        """None until the request is made, and where nothing is remembered."""

    def observe(self, chunk: JsonObject) -> None:
        if self.to is not None:
            self.to.observe(chunk)

    def observe_text(self, text: str) -> None:
        if self.to is not None:
            self.to.observe_text(text)
