"""The three tiers: clients of /v1, operators of /internal, scrapers of /metrics.

What is not configured is closed, except /v1: without any key it is open, as in lingma-openai-gateway. The
tokens of operators and scrapers fall back to the client keys when unset.
"""

import hmac
from collections.abc import Iterable, Sequence

from gateway.access.keys import OPEN, KeyRing, Principal
from gateway.kernel.errors import Disabled, Unauthenticated

BEARER = (b"authorization",)
"""Where OpenAI's clients put their key, and where operators and scrapers do."""
KEY_OR_BEARER = (b"x-api-key", b"authorization")
"""Where Anthropic's clients put theirs: either will do."""

GOOGLE_KEY = (b"x-goog-api-key", b"authorization")
"""Where Google's clients put theirs; a key in the query is moved here before anybody sees the address."""
NO_KEY = (
    "No API key was provided: send it as 'Authorization: Bearer <key>', or where the clients of Anthropic "
    "(x-api-key) and Google (x-goog-api-key) put it"
)
CREDENTIALS = frozenset(
    {b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"x-goog-api-key"}
)
"""Headers that nothing behind the door gets to see."""


def presented_keys(headers: Iterable[tuple[bytes, bytes]], names: Sequence[bytes]) -> list[bytes]:
    """The keys that a request carries, in the order of the header names; of schemes, Bearer alone."""
    found = {name: value.strip() for name, value in headers if name in names}
    keys = []
    for name in names:
        value = found.get(name, b"")
        if name == b"authorization":
            scheme, _, value = value.partition(b" ")
            value = value.strip() if scheme.lower() == b"bearer" else b""
        if value:
            keys.append(value)
    return keys


class Tiers:
    def __init__(
        self,
        ring: KeyRing,
        *,
        admin_token: str | None = None,
        metrics_token: str | None = None,
        metrics_public: bool = False,
    ) -> None:
        self._ring = ring
        self._admin_token = admin_token or None
        self._metrics_token = metrics_token or None
        self._metrics_public = metrics_public

    def client(self, presented: Sequence[bytes]) -> Principal:
        """Raises Unauthenticated unless one of the keys is ours."""
        if not self._ring:
            return OPEN
        for key in presented:
            if (principal := self._ring.find(key)) is not None:
                return principal
        if presented:
            raise Unauthenticated("Incorrect API key provided")
        raise Unauthenticated(NO_KEY)

    def admin(self, presented: Sequence[bytes]) -> None:
        """Raises Unauthenticated, or Disabled when nothing is configured."""
        if self._admin_token is None and not self._ring:
            raise Disabled(
                "The admin API is disabled: set ADMIN_TOKEN or API_KEYS to open it", code="admin_disabled"
            )
        if not self._holds(presented, self._admin_token):
            raise Unauthenticated("Invalid admin token", code="invalid_admin_token")

    def metrics(self, presented: Sequence[bytes]) -> None:
        """Raises Unauthenticated, or Disabled when nothing is configured."""
        if self._metrics_public:
            return
        if self._metrics_token is None and not self._ring:
            raise Disabled("metrics scraping disabled", code="metrics_disabled")
        if not self._holds(presented, self._metrics_token):
            raise Unauthenticated("Invalid metrics token", code="invalid_metrics_token")

    def _holds(self, presented: Sequence[bytes], token: str | None) -> bool:
        """Whether one of the keys is the token or, where there is no token, a client's key."""
        if token is None:
            return any(self._ring.find(key) is not None for key in presented)
        return any(hmac.compare_digest(key, token.encode()) for key in presented)
