"""Dead letters: messages set aside because nobody can use them. What, why and which, never what they said.

A body may be somebody's prompt, so only its digest is kept: enough to tell repeats apart and to recognise a
message that an operator has at hand. Written by workers and gateways (undecodable, unknown version, stale,
unplaced), counted for the alert, read by operators.
"""

import hashlib
import logging
from collections.abc import Mapping

from gateway.kernel.clock import Clock
from gateway.kernel.errors import StoreError
from gateway.kernel.json import dumps
from gateway.store.keys import Keys
from gateway.store.streams import Streams

log = logging.getLogger(__name__)

MAX_LETTERS = 1000
"""The oldest go beyond it."""


def digest_of(body: bytes) -> str:
    """Twelve hex digits of a body's SHA-256."""
    return hashlib.sha256(body).hexdigest()[:12]


class DeadLetters:
    def __init__(self, streams: Streams, keys: Keys, clock: Clock, *, max_len: int = MAX_LETTERS) -> None:
        self._streams = streams
        self._key = keys.dead
        self._clock = clock
        self._max_len = max_len
        self.not_kept = 0
        """Letters that the store did not take, since the last that it took."""

    async def put(self, reason: str, ids: Mapping[str, str], digest: str) -> None:
        """Set a message aside. Never raises because of the store: what it says is in the log as well.

        That the store does not take letters is said once, until it takes one again.
        """
        log.warning("store.dead_letter", extra={"reason": reason, "digest": digest, "ids": dict(ids)})
        letter = {"reason": reason, "ids": dict(ids), "digest": digest, "at_ms": self._clock.now_ms()}
        try:
            await self._streams.append(self._key, dumps(letter), max_len=self._max_len)
        except StoreError as error:
            self.not_kept += 1
            if self.not_kept == 1:
                log.warning("store.dead_letter_not_kept", extra={"reason": reason, "error": str(error)})
        else:
            if self.not_kept:
                log.info("store.dead_letters_kept_again", extra={"not_kept": self.not_kept})
            self.not_kept = 0

    async def count(self) -> int:
        """Letters kept, for the alert. Raises StoreError."""
        return await self._streams.length(self._key)
