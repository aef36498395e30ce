"""The operator's own keys for an upstream, looked up anew for every attempt so that they may rotate.

A key in a file is read again when the file changes, which is how mounted secrets are replaced. Keys are never
logged; errors name the credential by its configured id.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from gateway.kernel.errors import UpstreamUnavailable
from gateway.upstreams.config import CredentialConfig


class Credential:
    def __init__(self, upstream: str, config: CredentialConfig, environ: Mapping[str, str]) -> None:
        self.id = config.id
        self.weight = config.weight
        self.project = config.project
        self._upstream = upstream
        self._auth = config.auth
        self._headers = dict(config.headers)
        self._environ = environ
        self._variable = config.api_key_env
        self._file = config.api_key_file
        self._key = config.api_key.get_secret_value() if config.api_key is not None else ""
        self._version: tuple[int, int, int] | None = None
        """Of the file that was read: inode, time of change, size."""

    def headers(self, *, default: Literal["bearer", "api_key"]) -> dict[str, str]:
        """What to send with a request. Raises UpstreamUnavailable when there is no key."""
        key = self._current()
        if not key:
            raise UpstreamUnavailable(f"Upstream {self._upstream} has no key for credential {self.id}")
        if not (key.isascii() and key.isprintable()):
            raise UpstreamUnavailable(f"Upstream {self._upstream}: the key of credential {self.id} is no key")
        if (self._auth or default) == "bearer":
            return {**self._headers, "Authorization": f"Bearer {key}"}
        return {**self._headers, "x-goog-api-key": key}

    def key_id(self) -> str:
        """Tells one key from the next; safe to keep and to log. Empty without a key."""
        try:
            key = self._current()
        except UpstreamUnavailable:
            return ""
        return hashlib.sha256(key.encode()).hexdigest()[:8] if key else ""

    def _current(self) -> str:
        if self._variable is not None:
            return self._environ.get(self._variable, "").strip()
        if self._file is not None:
            self._reread(self._file)
        return self._key

    def _reread(self, path: Path) -> None:
        """A file that vanished for a moment, as mounted secrets do, leaves the key that was read last."""
        try:
            found = path.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if version != self._version:
                self._key = path.read_text(encoding="utf-8").strip()
                self._version = version
        except (OSError, UnicodeDecodeError):
            if self._version is None:
                raise UpstreamUnavailable(
                    f"Upstream {self._upstream}: the key file of credential {self.id} cannot be read"
                ) from None
