"""The load balancer of the profile `scale`, with its own configuration, in front of two replicas."""

import json
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.images.builder import need, which
from tests.support.ports import free_port
from tests.support.processes import Service, pool_ready, serve, wait_for, work

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "compose" / "haproxy.cfg"


@contextmanager
def balancer(directory: Path, *replicas: Service) -> Iterator[int]:
    """HAProxy with the names of Compose's network replaced by addresses."""
    need({"haproxy": "haproxy"})
    port = free_port()
    text = CONFIG.read_text(encoding="utf-8").replace("bind :8320", f"bind 127.0.0.1:{port}")
    text = text.replace(" resolvers docker init-addr last,libc,none", "")
    text = re.sub(r"(?ms)^resolvers .*?^$", "", text)
    for name, replica in zip(("gateway", "gateway-2"), replicas, strict=True):
        text = text.replace(f"server {name} {name}:8317", f"server {name} 127.0.0.1:{replica.port}")
    config = directory / "haproxy.cfg"
    config.write_text(text)
    assert "8317" not in text
    command = [str(which("haproxy")), "-W", "-f", str(config)]
    with (directory / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(
            lambda: up(port) == 200, f"the balancer\n{(directory / 'haproxy.log').read_text()}", within_s=20
        )
        yield port
        process.send_signal(signal.SIGUSR1)
        assert process.wait(20) in (0, 128 + signal.SIGUSR1), (directory / "haproxy.log").read_text()
    finally:
        process.kill()
        process.wait(10)


def up(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/balancer-health", timeout=2) as answer:
            return int(answer.status)
    except OSError:
        return 0


def ask(port: int, *, stream: bool) -> Any:
    body = {"model": "org_auto", "stream": stream, "messages": [{"role": "user", "content": "say hello"}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
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
        with balancer(tmp_path, first, second) as port:
            for _ in range(6):
                with ask(port, stream=True) as answer:
                    lines = [line for line in answer if line.startswith(b"data: ")]
                assert lines[-1] == b"data: [DONE]\n"
            served = {replica.name: replica.log.count('"turn.finished"') for replica in (first, second)}
            assert min(served.values()) >= 2
            first.send(signal.SIGTERM)
            assert first.process is not None
            while first.process.poll() is None:
                with ask(port, stream=False) as answer:
                    assert answer.status == 200
            assert first.process.returncode == 0
            with ask(port, stream=False) as answer:
                assert answer.status == 200
            second.stop()
            wait_for(lambda: up(port) == 0, "a balancer that says that nobody is there")
