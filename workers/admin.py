"""Answers questions about this worker: login state, a login address, raw models, an exported bundle, undrain.

A question comes as a command and names the key its answer is written to; the answer lives REPLY_TTL_S. What
the actions do is given from outside (supervisor.py); this module knows only how to call one and how to reply.
An answer may hold a login bundle: it is never logged, and the KV it is written to seals values when told to.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from gateway.jobs.messages import Admin
from gateway.kernel import json
from gateway.kernel.errors import ErrorKind, GatewayError, StoreUnavailable
from gateway.kernel.json import Json, JsonObject
from gateway.store.kv import KVClient, KVSetOptions

log = logging.getLogger(__name__)

REPLY_TTL_S = 60
ACTION_LIMIT_S = 50.0
MAX_AT_ONCE = 8

Action: TypeAlias = Callable[[Admin], Awaitable[Json]]


class AdminDesk:
    """Replies are JSON: `{"ok": true, "result": ...}` or `{"ok": false, "error": {"kind", "message"}}`."""

    def __init__(self, kv: KVClient, actions: Mapping[str, Action]) -> None:
        self._kv = kv
        self._actions = actions
        self._running = 0

    async def answer(self, command: Admin) -> None:
        action = self._actions.get(command.action)
        if action is None:
            await self._refuse(command, ErrorKind.INVALID_REQUEST, f"unknown action {command.action[:40]!r}")
            return
        if self._running >= MAX_AT_ONCE:
            await self._refuse(command, ErrorKind.OVERLOADED, "too many questions at once")
            return
        self._running += 1
        try:
            async with asyncio.timeout(ACTION_LIMIT_S):
                result = await action(command)
        except TimeoutError:
            await self._refuse(command, ErrorKind.UPSTREAM_TIMEOUT, "the instance did not answer in time")
        except GatewayError as error:
            await self._refuse(command, error.kind, error.message)
        else:
            log.info("admin.answered", extra={"action": command.action, "instance": command.instance})
            await self._write(command, {"ok": True, "result": result})
        finally:
            self._running -= 1

    async def failed(self, command: Admin) -> None:
        """Say that an action broke; for a caller that caught what it raised."""
        await self._refuse(command, ErrorKind.INTERNAL, "the worker failed")

    async def _refuse(self, command: Admin, kind: ErrorKind, message: str) -> None:
        log.info("admin.refused", extra={"action": command.action, "kind": str(kind)})
        error: dict[str, Json] = {"kind": str(kind), "message": message}
        await self._write(command, {"ok": False, "error": error})

    async def _write(self, command: Admin, reply: JsonObject) -> None:
        if not command.reply_key:
            return
        try:
            await self._kv.kv_set(command.reply_key, json.dumps(reply), KVSetOptions(ex=REPLY_TTL_S))
        except StoreUnavailable:
            log.warning("admin.reply_lost", extra={"action": command.action})
