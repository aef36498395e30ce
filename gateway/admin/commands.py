"""Questions to a worker about one of its instances: send the command, wait for the answer in the KV store.

The worker's half is workers/admin.py, which also says what an answer looks like.
"""

import asyncio
from collections.abc import Mapping

from gateway.jobs.codec import encode
from gateway.jobs.directory import Directory
from gateway.jobs.messages import COMMANDS_MAX, Admin, Envelope, InstanceRecord, WorkerRecord
from gateway.kernel.clock import Clock
from gateway.kernel.errors import (
    ErrorKind,
    GatewayError,
    InstanceAmbiguous,
    InstanceNotFound,
    Internal,
    InvalidRequest,
    Overloaded,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.kernel.ids import new_hex
from gateway.kernel.json import Json, JsonObject, loads
from gateway.store.keys import Keys
from gateway.store.kv import KVClient
from gateway.store.streams import Streams

ANSWER_S = 55.0
"""A little longer than a worker gives its own action."""
POLL_S = 0.05

_ERRORS: Mapping[str, type[GatewayError]] = {
    ErrorKind.INVALID_REQUEST: InvalidRequest,
    ErrorKind.OVERLOADED: Overloaded,
    ErrorKind.UPSTREAM_TIMEOUT: UpstreamTimeout,
    ErrorKind.UPSTREAM_UNAVAILABLE: UpstreamUnavailable,
    ErrorKind.UPSTREAM_EOF: UpstreamError,
    ErrorKind.UPSTREAM_PROTOCOL: UpstreamError,
}


class WorkerDesk:
    """Asks workers. One question is one command and one key that the answer is written to."""

    def __init__(
        self, streams: Streams, kv: KVClient, keys: Keys, directory: Directory, clock: Clock
    ) -> None:
        self._streams = streams
        self._kv = kv
        self._keys = keys
        self._directory = directory
        self._clock = clock

    async def raw_models(self, instance: str | None) -> Json:
        return await self.ask("models_raw", instance)

    async def ask(self, action: str, instance: str | None, args: JsonObject | None = None) -> Json:
        """Raises InstanceNotFound, InstanceAmbiguous, UpstreamUnavailable, or what the worker said."""
        worker, record = self._find(instance)
        reply_key = self._keys.reply(new_hex(24))
        question = Admin(action=action, instance=record.name, args=args or {}, reply_key=reply_key)
        envelope = Envelope(turn_id="", attempt=0, epoch=worker.epoch, sent_at_ms=self._clock.now_ms())
        await self._streams.append(
            self._keys.commands(worker.worker), encode(envelope, question), max_len=COMMANDS_MAX
        )
        return _result(await self._answer(reply_key))

    def _find(self, wanted: str | None) -> tuple[WorkerRecord, InstanceRecord]:
        """Nobody named: the first that is ready, else the first of all."""
        everybody = [(w, i) for w in self._directory.workers for i in w.instances]
        if not everybody:
            raise UpstreamUnavailable("no worker is running")
        if not wanted:
            return next(((w, i) for w, i in everybody if i.ready), everybody[0])
        found = [(w, i) for w, i in everybody if wanted in (f"{w.worker}/{i.name}", i.name)]
        if not found:
            raise InstanceNotFound(f"instance '{wanted[:100]}' does not exist", param="instance")
        if len(found) > 1:
            names = ", ".join(f"{w.worker}/{i.name}" for w, i in found)
            raise InstanceAmbiguous(
                f"several workers have an instance '{wanted[:100]}': {names}", param="instance"
            )
        return found[0]

    async def _answer(self, reply_key: bytes) -> bytes:
        until = asyncio.get_running_loop().time() + ANSWER_S
        while asyncio.get_running_loop().time() < until:
            answer = await self._kv.kv_get(reply_key)
            if answer is not None:
                await self._kv.kv_del(reply_key)
                return answer
            await asyncio.sleep(POLL_S)
        raise UpstreamTimeout("the worker did not answer in time")


def _result(answer: bytes) -> Json:
    reply = loads(answer)
    if isinstance(reply, dict) and reply.get("ok") is True:
        return reply.get("result")
    error = reply.get("error") if isinstance(reply, dict) else None
    if not isinstance(error, dict):
        raise Internal("the worker's answer makes no sense")
    kind = _ERRORS.get(str(error.get("kind")), Internal)
    raise kind(str(error.get("message", "the worker refused")))
