"""Whether another attempt may follow a failed one. Only while the client has seen no content.

Model calls are not idempotent: the executor says whether the failed attempt is over for good, and how one may
go on; this module only counts and chooses the candidate.
"""

import msgspec

from gateway.turn.ports import AttemptFailed

MAX_ATTEMPTS = 4
MAX_FRESH = 1
"""A lost context is answered by one attempt with the full history."""


class Plan(msgspec.Struct):
    """Where the turn stands among its candidates."""

    candidates: int
    index: int = 0
    attempts: int = 0
    fresh: bool = False
    _fresh_used: int = 0

    def begin(self) -> None:
        self.attempts += 1

    def after(self, failure: AttemptFailed) -> bool:
        """Arrange the next attempt; False when there must not be one."""
        if self.attempts >= MAX_ATTEMPTS:
            return False
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
                return True
            case "next":
                if self.index + 1 >= self.candidates:
                    return False
                self.index += 1
                return True
