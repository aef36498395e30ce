"""Client keys: who holds one, and what comes with it. Keys are kept and compared as SHA-256 digests only.

Called by access/tiers.py and by the composition root. A key is never logged; its id (the first 8 hex digits
of its SHA-256) may be.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a request acts for."""

    tenant: str
    key_id: str
    """Safe to log; `-` when no key is needed."""
    max_in_flight: int = 0
    """0 is no limit."""
    models: tuple[str, ...] = ()
    """The model names this key may ask for; empty is all."""

    def may_use(self, model: str) -> bool:
        return not self.models or model in self.models


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    digest: bytes
    tenant: str | None = None
    """None: derived from the key itself."""
    max_in_flight: int = 0
    models: tuple[str, ...] = ()

    @classmethod
    def of(cls, key: str) -> "ApiKey":
        return cls(digest=hashlib.sha256(key.encode()).digest())


def tenant_of(key: bytes) -> str:
    """12 hex digits of SHA-1, as lingma-openai-gateway scopes its sessions; of `-` when no key is needed."""
    return hashlib.sha1(key, usedforsecurity=False).hexdigest()[:12]


OPEN = Principal(tenant=tenant_of(b"-"), key_id="-")
"""Everybody, where no key is configured."""


def key_id(digest: bytes) -> str:
    return digest.hex()[:8]


def hash_key(key: str) -> str:
    """What the key file holds in place of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def split_list(text: str) -> list[str]:
    """Names by comma or line, trimmed, blanks dropped."""
    return [part for part in map(str.strip, re.split(r"[,\n]", text)) if part]


class KeyRing:
    """All keys of clients. Empty means that no key is needed."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = tuple(keys)

    @classmethod
    def from_csv(cls, text: str) -> "KeyRing":
        return cls(ApiKey.of(key) for key in split_list(text))

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, presented: bytes) -> Principal | None:
        """Takes the same time whichever key matches, or none: every key is compared."""
        digest = hashlib.sha256(presented).digest()
        found: ApiKey | None = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.digest):
                found = key
        if found is None:
            return None
        return Principal(
            tenant=found.tenant or tenant_of(presented),
            key_id=key_id(digest),
            max_in_flight=found.max_in_flight,
            models=found.models,
        )


# -- the key file -----------------------------------------------------------------------------------------


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: str | None = Field(None, min_length=1)
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    tenant: str | None = Field(None, pattern="^[A-Za-z0-9._-]{1,64}$")
    max_in_flight: int = Field(0, ge=0)
    models: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_secret(self) -> "_Entry":
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("give either key or sha256")
        return self

    def api_key(self) -> ApiKey:
        digest = bytes.fromhex(self.sha256 or hash_key(self.key or ""))
        return ApiKey(digest=digest, tenant=self.tenant, max_in_flight=self.max_in_flight, models=self.models)


class _KeyFile(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: tuple[_Entry, ...]


def read_key_file(path: Path) -> tuple[ApiKey, ...]:
    """JSON: `{"keys": [{"sha256" or "key", "tenant"?, "max_in_flight"?, "models"?}]}`.

    Raises ValueError, whose text names the places at fault and shows no value, or OSError.
    """
    try:
        parsed = _KeyFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, detail['loc'])) or 'file'}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise ValueError(f"key file {path}: {'; '.join(problems)}") from None
    return tuple(entry.api_key() for entry in parsed.keys)
