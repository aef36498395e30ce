"""The load balancer of the profile `scale`, with its own configuration, in front of two replicas."""

import json
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.images.builder import need
from tests.support.balancer import Balancer
from tests.support.ports import free_port
from tests.support.processes import Service, pool_ready, serve, wait_for, work


@contextmanager
def balancer(directory: Path, *replicas: Service) -> Iterator[Balancer]:
    need({"haproxy": "haproxy"})
    servers = {replica.name: f"127.0.0.1:{replica.port}" for replica in replicas}
    with Balancer(directory, f"127.0.0.1:{free_port()}", servers) as started:
        yield started
        started.stop()


def ask(url: str, *, stream: bool) -> Any:
    body = {"model": "org_auto", "stream": stream, "messages": [{"role": "user", "content": "say hello"}]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    return urllib.request.urlopen(request, timeout=60)


def test_it_takes_both_replicas_streams_and_looks_away_from_one_that_drains(
    redis_url: str, tmp_path: Path
) -> None:
    first = serve(tmp_path, redis_url, "first", DRAIN_LISTEN_S="5")
    second = serve(tmp_path, redis_url, "second")
    with work(tmp_path, redis_url) as worker, first, second:
        worker.ready("/healthz", pool_ready(1))
        for replica in (first, second):
            replica.ready("/healthz", pool_ready(1))
        with balancer(tmp_path, first, second) as front:
            for _ in range(6):
                with ask(front.url, stream=True) as answer:
                    lines = [line for line in answer if line.startswith(b"data: ")]
                assert lines[-1] == b"data: [DONE]\n"
            served = {replica.name: replica.log.count('"turn.finished"') for replica in (first, second)}
            assert min(served.values()) >= 2
            first.send(signal.SIGTERM)
            assert first.process is not None
            while first.process.poll() is None:
                with ask(front.url, stream=False) as answer:
                    assert answer.status == 200
            assert first.process.returncode == 0
            with ask(front.url, stream=False) as answer:
                assert answer.status == 200
            second.stop()
            wait_for(lambda: front.up() == 0, "a balancer that says that nobody is there")
