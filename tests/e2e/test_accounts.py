"""Accounts over worker processes and a real Redis: each is used by one worker, whoever dies or comes back."""

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Service, get_json, pool_ready, serve, wait_for, work
from tests.support.redis_server import RedisServer
from workers.accounts.leases import TTL_S

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

START_S = 20.0
"""For a look or two, and for a Lingma to come up."""


def bundle(user: str) -> str:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in (("cache/id", b"machine"), ("cache/user", user.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return base64.b64encode(gzip.compress(archive.getvalue())).decode()


ACCOUNTS = json.dumps([{"username": user, "session_bundle": bundle(user)} for user in ("ann", "bob")])


class Workers:
    def __init__(self, directory: Path, redis: RedisServer) -> None:
        self.directory = directory
        self.redis = redis
        self.services: dict[str, Service] = {}

    def start(self, name: str, **env: str) -> Service:
        service = work(self.directory, self.redis.url, name, LINGMA_ACCOUNTS=ACCOUNTS, **env)
        self.services[name] = service.start()
        return service

    def kill(self, name: str) -> None:
        self.services.pop(name).kill()

    def states(self) -> dict[str, list[Any]]:
        """By worker its instances, as it shows them. No account is in use twice at any look."""
        shown: dict[str, list[Any]] = {}
        for name, service in self.services.items():
            answer = get_json(f"{service.url}/healthz")
            shown[name] = answer["instances"] if answer else []
        used = [one["name"] for instances in shown.values() for one in instances if one["pid"]]
        assert len(used) == len(set(used)), shown
        return shown

    def waiting(self) -> dict[str, str]:
        """Who is said to use what waits somewhere."""
        return {
            one["name"]: one["held_by"]
            for instances in self.states().values()
            for one in instances
            if (one["state"], one["login"]) == ("waiting", "elsewhere")
        }

    def ready(self) -> dict[str, list[str]]:
        return {
            name: [one["name"] for one in instances if one["ready"]]
            for name, instances in self.states().items()
        }

    def until(self, condition: Callable[[dict[str, list[str]]], bool], what: str, within_s: float) -> None:
        wait_for(lambda: condition(self.ready()), what, within_s)

    def close(self) -> None:
        for service in self.services.values():
            service.close()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with RedisServer() as redis:
        found = Workers(tmp_path, redis)
        try:
            yield found
        finally:
            found.close()


def shared(ready: dict[str, list[str]]) -> bool:
    """One account each."""
    return sorted(ready.values()) == [["inst-0"], ["inst-1"]]


def test_two_workers_and_two_accounts(workers: Workers) -> None:
    workers.start("w0")
    workers.start("w1")
    workers.until(shared, "an account for each worker", START_S)
    wait_for(lambda: workers.waiting().keys() == {"inst-0", "inst-1"}, "both to know of the other", 5)
    assert set(workers.waiting().values()) == {"w0", "w1"}

    with serve(workers.directory, workers.redis.url) as gateway:
        gateway.ready("/healthz", pool_ready(2))
        health = get_json(f"{gateway.url}/healthz")
        assert (health["pool_size"], health["pool_ready"]) == (2, 2)

    workers.kill("w1")
    workers.until(lambda ready: len(ready["w0"]) == 2, "w0 to take over", TTL_S + START_S)

    workers.start("w1")
    workers.until(shared, "w1 to have an account again", START_S)


def test_a_worker_that_is_killed_and_back_at_once_keeps_its_account(workers: Workers) -> None:
    workers.start("w0")
    workers.start("w1")
    workers.until(shared, "an account for each worker", START_S)
    before = workers.ready()
    workers.kill("w0")
    workers.start("w0")
    # Sooner than its old claim can end.
    workers.until(lambda ready: ready["w0"] == before["w0"], "w0 to have its account back", TTL_S - 2)
    assert workers.ready() == before


def test_more_workers_than_accounts(workers: Workers) -> None:
    for name in ("w0", "w1", "w2"):
        workers.start(name)
    workers.until(lambda ready: sum(map(len, ready.values())) == 2, "both accounts in use", START_S)
    [idle] = [name for name, instances in workers.ready().items() if not instances]
    standby = workers.services[idle]
    assert wait_for(lambda: get_json(f"{standby.url}/healthz")["ok"], "the third to stand by")
    busy = next(name for name in workers.services if name != idle)
    assert workers.services.pop(busy).stop() == 0
    workers.until(lambda ready: len(ready[idle]) == 1, "the third to take what was given back", START_S)
