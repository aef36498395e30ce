"""Whose replay items they are: an executor's model and a client's session, never a credential.

Without the credential a turn that fails over to another account finds the same items. Sessions are named by
clients, so with the isolation `tenant` the tenant is part of the session: whoever guesses another tenant's
session id finds nothing. `shared` leaves it out, which gives exactly the keys of HOME nodes, for fleets that
share state with them.
"""

from functools import lru_cache
from typing import Literal, TypeAlias

import msgspec

from gateway.store.keys import hash_key_part, replay_key, trim

Isolation: TypeAlias = Literal["tenant", "shared"]

_TENANT = "tenant:"
_TENANT_CHARS = len(_TENANT) + 64 + 1


_tenants_part = lru_cache(maxsize=1024)(hash_key_part)


class ReplayScope(msgspec.Struct, frozen=True):
    """Made by scope_of(). No part is empty."""

    executor: str
    model: str
    """The upstream's name for it, trimmed."""
    session: str
    """The tenant, where they are kept apart, and the client's session; not for logs, `digest` is."""

    @property
    def key(self) -> bytes:
        """Where its items are."""
        return replay_key(self.executor, self.model, self.session)

    @property
    def kind(self) -> str:
        """Which kind of session id it was found by, such as `claude` or `prompt-cache`: a metric's label."""
        session = self.session
        if session.startswith(_TENANT):
            session = session[_TENANT_CHARS:]
        return session.partition(":")[0]

    @property
    def digest(self) -> str:
        """16 hex digits that may be logged."""
        return hash_key_part(self.session)[:16]


def scope_of(
    executor: str, model: str, session: str | None, *, tenant: str, isolation: Isolation = "tenant"
) -> ReplayScope | None:
    """None, which is no replay, without a model or a session (its kind, a colon, the client's id)."""
    model, session = trim(model), trim(session or "")
    if not model or not session:
        return None
    if isolation == "tenant":
        session = f"{_TENANT}{_tenants_part(tenant)}:{session}"
    return ReplayScope(executor, model, session)
