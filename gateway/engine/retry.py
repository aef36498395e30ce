"""Whether another attempt may follow a failed one. Only while the client has seen no content.

Model calls are not idempotent: the executor says whether the failed attempt is over for good, and how one may
go on; this module only counts and chooses the candidate.
"""

import msgspec

from gateway.turn.ports import AttemptFailed

MAX_ATTEMPTS = 6
"""Beyond it nobody is asked twice; but every candidate is asked once, however many there are."""
MAX_ROUNDS = 2
"""How often all candidates are tried, when their failures allow it."""
ROUND_PAUSE_S = 0.4
MAX_FRESH = 1
"""A lost context is answered by one attempt with the full history."""


class Plan(msgspec.Struct):
    """Where the turn stands among its candidates."""

    candidates: int
    index: int = 0
    attempts: int = 0
    fresh: bool = False
    pause_s: float = 0.0
    """How long to wait before the next attempt."""
    _fresh_used: int = 0
    _rounds: int = 1

    def begin(self) -> None:
        self.attempts += 1

    def after(self, failure: AttemptFailed) -> bool:
        """Arrange the next attempt; False when there must not be one."""
        self.pause_s = 0.0
        match failure.again:
            case "no":
                return False
            case "fresh":
                if self._fresh_used >= MAX_FRESH:
                    return False
                self._fresh_used += 1
                self.fresh = True
                return True
            case "retry":
                return self.attempts < MAX_ATTEMPTS
            case "next":
                return self._next(failure)

    def _next(self, failure: AttemptFailed) -> bool:
        if self.index + 1 < self.candidates:
            self.index += 1
            return True
        if not failure.or_again or self._rounds >= MAX_ROUNDS or self.attempts >= MAX_ATTEMPTS:
            return False
        self._rounds += 1
        self.index = 0
        self.pause_s = ROUND_PAUSE_S
        return True
