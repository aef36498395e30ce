"""One request, as raw as a server would hand it in, and in words that a person can repeat."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

Headers = list[tuple[bytes, bytes]]


@dataclass
class Request:
    """Changed in place by those who break it."""

    method: str
    target: str
    """Path and query, percent-encoded: ASCII."""
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    cuts: tuple[int, ...] = ()
    """Where the body is cut into pieces."""
    surface: str = "chat"
    """Whose answer is to be expected, as long as the target is what it was."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def chunks(self) -> list[bytes]:
        borders = [0, *sorted(min(cut, len(self.body)) for cut in self.cuts), len(self.body)]
        return [self.body[start:end] for start, end in pairwise(borders)]

    def scope(self) -> dict[str, Any]:
        path, _, query = self.target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.1"},
            "http_version": "1.1",
            "method": self.method,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "headers": list(self.headers),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "extensions": {},
        }

    def shown(self) -> str:
        headers = "\n".join(f"  {name!r}: {value[:200]!r}" for name, value in self.headers)
        body = f"  body of {len(self.body)} bytes: {self.body[:1500]!r}"
        return f"{self.method} {self.target[:500]}\n{headers}\n{body}"
