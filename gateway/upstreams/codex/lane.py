"""One attempt's dialect on a Responses upstream: its request, its answer, and what replay keeps of it.

Run by upstreams/attempt.py. Before the request it reads what the conversation's scope remembers and puts back
what the client left out; behind a completed answer it remembers that; reasoning that the upstream refuses is
forgotten. Clients of Responses carry their own reasoning and take no part.
"""

import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from gateway.kernel.clock import Clock
from gateway.kernel.json import JsonObject, loads
from gateway.replay.codex import CodexReplay, Seen
from gateway.replay.derived import derived_session
from gateway.replay.scope import Isolation, ReplayScope
from gateway.store.keys import trim
from gateway.turn.estimate import input_tokens
from gateway.turn.events import TurnCompleted, TurnFailed
from gateway.turn.frame import Burst, Frame
from gateway.turn.ports import Call
from gateway.upstreams.asking import secrets_of, upstream_request
from gateway.upstreams.codex.compaction import NO_COMPACTION, is_compacted, judged, wanted_types
from gateway.upstreams.codex.decode import CodexDecoder
from gateway.upstreams.codex.edits import Shape, has_sealed, has_stored
from gateway.upstreams.codex.errors import ITEM_MISSING, classify, read_error
from gateway.upstreams.codex.headers import CACHE_KEYS, is_header_value, passed_on
from gateway.upstreams.codex.pseudonyms import Pseudonyms
from gateway.upstreams.codex.replay_inject import inject
from gateway.upstreams.codex.replay_session import prompt_cache_key, replay_scope, tenants_cache_key
from gateway.upstreams.codex.replay_store import answered_turn
from gateway.upstreams.codex.request import build_body, original_names
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.credentials import Credential
from gateway.upstreams.faults import Fault
from gateway.upstreams.http import UpstreamRequest
from gateway.wire.sse import SseEvent

log = logging.getLogger(__name__)


class LaneParts(msgspec.Struct, frozen=True, kw_only=True):
    """What all attempts on one upstream share."""

    config: UpstreamConfig
    credentials: Mapping[str, Credential]
    clock: Clock
    replay: CodexReplay | None
    """None when nothing is remembered."""
    isolation: Isolation
    all_clients: bool


class _Remembered(msgspec.Struct):
    scope: ReplayScope
    seen: Seen | None
    fingerprint: str


class CodexLane:
    """See upstreams.attempt.Lane."""

    def __init__(self, parts: LaneParts, call: Call) -> None:
        turn = call.turn
        self._parts = parts
        self._call = call
        self._turn = turn
        self._compact = turn.operation == "compact"
        self._decoder = CodexDecoder(
            model=turn.model,
            created_at=turn.created_at_ms // 1000,
            executor=parts.config.name,
            input_tokens_estimate=None if turn.raw.dialect == "responses" else input_tokens(turn),
            names=original_names(turn),
        )
        apart = turn.tenant if parts.isolation == "tenant" else ""
        self._pseudonyms = Pseudonyms(call.account, apart) if parts.config.pseudonyms else None
        self._fault: Fault | None = None
        self._remembered: _Remembered | None = None
        self.gives_back = False
        self._names_stored = False

    @property
    def ended(self) -> bool:
        return self._decoder.ended

    @property
    def fault(self) -> Fault | None:
        return self._fault or self._decoder.fault

    # -- the request --------------------------------------------------------------------------------------

    async def request(self) -> UpstreamRequest:
        parts, config, turn = self._parts, self._parts.config, self._turn
        stream = turn.stream or config.stream_only
        body = build_body(turn, self._shape(stream))
        body = await self._with_replay(body)
        self.gives_back = has_sealed(body)
        self._names_stored = has_stored(body)
        body, cache_key = self._with_cache_key(body)
        headers = {
            name: self._cache_key(value) if name in CACHE_KEYS else value
            for name, value in passed_on(turn).items()
        }
        if cache_key is not None and is_header_value(cache_key):
            headers["Session-Id"] = cache_key
        if self._pseudonyms is not None:
            body, headers = self._pseudonyms.in_body(body), self._pseudonyms.in_headers(headers)
        return upstream_request(
            config,
            self._call,
            url=f"{config.base_urls[0]}/responses{'/compact' if self._compact else ''}",
            body=body,
            headers={**headers, **parts.credentials[self._call.account].headers(default="bearer")},
            secrets=secrets_of(parts.credentials.values()),
            streams=stream and not self._compact,
            now_ms=parts.clock.now_ms(),
        )

    def _shape(self, stream: bool) -> Shape:
        config = self._parts.config
        return Shape(
            model=self._call.model,
            stream=None if self._compact else stream,
            drop=config.drop,
            reasoning=self._parts.config.reasons(self._call.model),
            compaction=config.compaction,
            fresh=self._call.fresh,
        )

    async def _with_replay(self, body: JsonObject) -> JsonObject:
        """With what the client left out of earlier answers. Raises StoreError where replay is strict."""
        parts, turn = self._parts, self._turn
        if parts.replay is None or not parts.config.reasons(self._call.model):
            return body
        scope = replay_scope(
            turn, turn.headers, body, all_clients=parts.all_clients, isolation=parts.isolation
        )
        if scope is None:
            return body
        with self._call.stage("replay.read") as stage:
            found = await parts.replay.read(scope)
            injection = inject(body, () if self._call.fresh else found.items)
            stage.tell(gateway__replay__items=injection.items, gateway__replay__session=scope.kind)
        self._call.replayed.append("injected" if injection.items else "missed")
        self._remembered = _Remembered(scope, found.seen, injection.request_fingerprint)
        if injection.items:
            fields = {"turn_id": turn.id, "scope": scope.digest, "session_kind": scope.kind}
            log.info("replay.injected", extra=fields | {"items": injection.items})
        return injection.body

    def _with_cache_key(self, body: JsonObject) -> tuple[JsonObject, str | None]:
        """The key of the upstream's prompt cache, also for clients that send no such thing themselves. It is
        the same with every turn.
        """
        turn = self._turn
        dialect = turn.raw.dialect
        if "prompt_cache_key" in self._parts.config.drop:
            return body, None
        if dialect == "responses":
            own = body.get("prompt_cache_key")
            key = self._cache_key(own) if isinstance(own, str) else own
            return (body, None) if key == own else ({**body, "prompt_cache_key": key}, None)
        derived = derived_session(turn.items, dialect=dialect, tenant=turn.tenant) or ""
        key = prompt_cache_key(dialect, trim(self._call.model), turn.headers, turn.raw.body, derived=derived)
        if key is None:
            return body, None
        key = self._cache_key(key)
        return {**body, "prompt_cache_key": key}, key

    def _cache_key(self, key: str) -> str:
        """Another one for every tenant, as pseudonyms are by themselves."""
        if self._pseudonyms is not None:
            return key
        kept_apart = self._parts.isolation == "tenant" and bool(trim(key))
        return tenants_cache_key(trim(key), self._turn.tenant) if kept_apart else key

    # -- the answer ---------------------------------------------------------------------------------------

    def judge(self, status: int, body: bytes, retry_after_s: float | None) -> Fault:
        now_s = self._parts.clock.now_ms() / 1000
        if self._pseudonyms is not None:
            body = self._pseudonyms.in_answer(body)
        fault = classify(read_error(body, status), now_s=now_s, retry_after_s=retry_after_s)
        if self._compact:
            fault = judged(fault, status)
        if fault.name == ITEM_MISSING and self._names_stored:
            # Another upstream has stored it, or nobody: the conversation goes on without.
            fault = msgspec.structs.replace(fault, again="fresh")
        return fault

    def feed(self, events: Sequence[SseEvent], seq: int, into: Burst) -> None:
        if self._pseudonyms is not None:
            events = [self._pseudonyms.in_event(event) for event in events]
        if len(events) == 1:
            event = events[0]
            into.append(self._checked(self._decoder.feed_data(event.raw, event.data, seq)))
            return
        start = len(into)
        try:
            self._decoder.feed_all(events, seq, into)
        finally:
            into[start:] = [self._checked(frame) for frame in into[start:]]

    def feed_whole(self, body: bytes) -> Frame:
        if self._pseudonyms is not None:
            body = self._pseudonyms.in_answer(body)
        return self._checked(self._decoder.feed_whole(body))

    def eof(self) -> Frame | None:
        return self._decoder.eof()

    def _checked(self, frame: Frame) -> Frame:
        """The end of an answer, as its client is to have it."""
        if not frame.is_terminal or not isinstance(frame.events[-1], TurnCompleted):
            return frame
        turn, decoder = self._turn, self._decoder
        if self._compact or turn.compacts_at is not None:
            compacted = (
                is_compacted(decoder.output)
                if self._compact
                else decoder.completed and is_compacted(decoder.output, wanted_types(turn.raw.body))
            )
            if not compacted:
                self._fault = NO_COMPACTION
                events = (*frame.events[:-1], TurnFailed(NO_COMPACTION.info))
                return msgspec.structs.replace(frame, events=events)
        if not turn.stream and not frame.whole:
            # The upstream streamed what its client wants whole.
            return msgspec.structs.replace(frame, raw=decoder.response, whole=True)
        return frame

    # -- replay -------------------------------------------------------------------------------------------

    def conclude(self, fault: Fault | None) -> Coroutine[Any, Any, bool] | None:
        """Raises StoreError where replay is strict and rejected reasoning cannot be forgotten."""
        remembered, replay = self._remembered, self._parts.replay
        if remembered is None or replay is None:
            return None
        if fault is not None:
            return replay.purge(remembered.scope, seen=remembered.seen) if fault.signature else None
        if not self._decoder.completed:
            return None
        output = [loads(item) for item in self._decoder.output]
        answered = answered_turn(remembered.fingerprint, output)
        return None if answered is None else replay.append(remembered.scope, answered, seen=remembered.seen)
