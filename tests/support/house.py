"""Two replicas over one Redis that outlive a test, and upstreams that every test has for itself.

Starting processes costs more than most tests. So the replicas know a row of *slots*: each is a codex and an
antigravity upstream with credentials of their own, on ports where nobody listens until a test serves a fake
there. What one test wears out (credentials that rest, sessions) no other test meets.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.kernel.json import dumps
from tests.fakes.codex_server import PLAIN_MODEL, REASONING_MODEL
from tests.support.ports import free_port
from tests.support.processes import Service
from tests.support.redis_server import RedisServer

KEYS = {"alice-1": "alice", "alice-2": "alice", "bob-1": "bob"}
"""By key: the tenant."""
LEASES = "lg:v1:inflight"
GEMINI_MODEL = "gemini-3-pro"
GOOGLE_KEYS = ("AIza-one", "AIza-two")


def codex_upstream(name: str, port: int, *keys: str, **more: Any) -> dict[str, Any]:
    """One entry of an upstreams file. Its credentials are named as their keys are."""
    return {
        "name": name,
        "kind": "codex",
        "base_url": f"http://127.0.0.1:{port}/v1",
        "credentials": [{"id": key, "api_key": key} for key in keys or ("sk-one", "sk-two")],
        "models": [REASONING_MODEL, {"id": PLAIN_MODEL, "reasoning": False}],
        **more,
    }


def antigravity_upstream(name: str, port: int, *keys: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "antigravity",
        "base_url": f"http://127.0.0.1:{port}",
        "credentials": [{"id": key, "api_key": key} for key in keys or GOOGLE_KEYS],
        "models": [GEMINI_MODEL],
        **more,
    }


def route(model: str, *candidates: Mapping[str, Any]) -> dict[str, Any]:
    return {"models": [model], "candidates": [dict(candidate) for candidate in candidates]}


def write_upstreams(
    directory: Path, upstreams: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]]
) -> str:
    path = directory / "upstreams.json"
    path.write_bytes(
        dumps({"upstreams": [dict(one) for one in upstreams], "routes": [dict(r) for r in routes]})
    )
    return str(path)


def write_keys(directory: Path, keys: Mapping[str, str] = KEYS) -> str:
    path = directory / "keys.json"
    path.write_bytes(dumps({"keys": [{"key": key, "tenant": tenant} for key, tenant in keys.items()]}))
    return str(path)


class Slot(NamedTuple):
    """Models of one upstream and of the other, of both by rank, and of both by weight."""

    number: int
    codex_port: int
    gemini_port: int

    @property
    def codex(self) -> str:
        return f"codex-{self.number}"

    @property
    def gemini(self) -> str:
        return f"gemini-{self.number}"

    @property
    def ranked(self) -> str:
        """Codex, and antigravity when it fails."""
        return f"ranked-{self.number}"

    @property
    def weighted(self) -> str:
        """Three conversations on codex for each on antigravity."""
        return f"weighted-{self.number}"

    def upstreams(self) -> list[dict[str, Any]]:
        return [
            codex_upstream(f"c{self.number}", self.codex_port),
            antigravity_upstream(f"a{self.number}", self.gemini_port),
        ]

    def routes(self) -> list[dict[str, Any]]:
        codex = {"upstream": f"c{self.number}", "model": REASONING_MODEL}
        gemini = {"upstream": f"a{self.number}", "model": GEMINI_MODEL}
        return [
            route(self.codex, codex),
            route(self.gemini, gemini),
            route(self.ranked, codex, {**gemini, "rank": 1}),
            route(self.weighted, {**codex, "weight": 3}, gemini),
        ]


class House:
    """Made before its processes start, for they are told of all slots."""

    def __init__(self, directory: Path, redis: RedisServer, *, slots: int) -> None:
        self.redis = redis
        self.replicas: list[Service] = []
        self._slots = [Slot(number, free_port(), free_port()) for number in range(1, slots + 1)]
        self._next: Iterator[Slot] = iter(self._slots)
        self.env = {
            "UPSTREAMS_FILE": write_upstreams(
                directory,
                [upstream for slot in self._slots for upstream in slot.upstreams()],
                [one for slot in self._slots for one in slot.routes()],
            ),
            "KEY_FILE": write_keys(directory),
            "GATEWAY_MAX_IN_FLIGHT": "200",
        }

    @property
    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    def slot(self) -> Slot:
        """One that nobody has had."""
        slot = next(self._next, None)
        assert slot is not None, "more tests than slots"
        return slot

    def leases(self) -> int:
        """Turns that are admitted now, as the store has them."""
        return int(self.redis.command("ZCARD", LEASES))

    def logged(self, event: str) -> list[str]:
        """The lines of all replicas with this event."""
        return [
            line for replica in self.replicas for line in replica.log.splitlines() if f'"{event}"' in line
        ]
