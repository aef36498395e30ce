"""Upstreams whose small answers unpack to gigabytes: the attempt ends, and the gateway stays small.

One `lingma-gateway up` for all of them, as a process, so that what it takes can be read from the outside.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from gateway.kernel.json import dumps
from tests.support.house import antigravity_upstream, codex_upstream, route, write_upstreams
from tests.support.network import MIB, Packed, PackedServer
from tests.support.ports import free_port
from tests.support.processes import Service, up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

GIB = 1024 * MIB
SPENT_MIB = 640
"""More than the most that was seen, and a fraction of what the answers unpack to."""
LETTERS = b"a" * MIB


class Net(NamedTuple):
    service: Service
    ports: dict[str, int]

    def peak_mib(self) -> int:
        status = Path(f"/proc/{self.service.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) // 1024


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    directory = tmp_path_factory.mktemp("packed")
    ports = {"codex": free_port(), "antigravity": free_port()}
    upstreams = [
        codex_upstream("codex", ports["codex"]),
        antigravity_upstream("antigravity", ports["antigravity"]),
    ]
    routes = [route(one["name"], {"upstream": one["name"], "model": _model(one)}) for one in upstreams]
    service = up(directory, UPSTREAMS_FILE=write_upstreams(directory, upstreams, routes))
    service.start().ready("/readyz", lambda answer: answer["ready"])
    yield Net(service, ports)
    service.close()


def _model(upstream: Any) -> Any:
    model = upstream["models"][0]
    return model["id"] if isinstance(model, dict) else model


def event(value: Any) -> bytes:
    return b"data: %b\n\n" % dumps(value)


ITEM = {"type": "message", "id": "msg_1", "content": []}
CREATED = event({"type": "response.created", "response": {}})
ADDED = event({"type": "response.output_item.added", "output_index": 0, "item": ITEM})
TEXT = {
    "codex": event({"type": "response.output_text.delta", "output_index": 0, "delta": LETTERS.decode()}),
    "antigravity": event(
        {"candidates": [{"content": {"role": "model", "parts": [{"text": LETTERS.decode()}]}}]}
    ),
}
STREAM = "text/event-stream"


@pytest.mark.parametrize(("upstream", "encoding"), [("codex", "gzip"), ("antigravity", "zstd")])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("what", ["body", "event", "comments", "text", "error"])
async def test_gigabytes_in_a_nutshell(
    net: Net, what: str, stream: bool, upstream: str, encoding: str
) -> None:
    begins = CREATED + ADDED if upstream == "codex" else b""
    packed, status, kind = {
        "body": (Packed(encoding, LETTERS, times=4096, begins=b'{"a":"'), 200, "application/json"),
        "event": (Packed(encoding, LETTERS, times=4096, begins=b"data: "), 200, STREAM),
        "comments": (Packed(encoding, b": %b\n\n" % LETTERS, times=4096, begins=b""), 200, STREAM),
        "text": (Packed(encoding, TEXT[upstream], times=4096, begins=begins), 200, STREAM),
        "error": (Packed(encoding, LETTERS, times=4096), 500, "application/json"),
    }[what]
    assert len(packed.body) < 8 * MIB
    asked = {"model": upstream, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    async with (
        PackedServer(packed, status=status, kind=kind).running(net.ports[upstream]) as server,
        httpx2.AsyncClient(base_url=net.service.url, timeout=60) as client,
        client.stream("POST", "/v1/chat/completions", json=asked) as answer,
    ):
        told, tail = 0, b""
        async for piece in answer.aiter_bytes():
            told, tail = told + len(piece), (tail + piece)[-4096:]
    assert server.asked
    assert answer.status_code == (200 if what == "text" and stream else 502)
    assert b"upstream_error" in tail
    assert told < GIB
    assert net.peak_mib() < SPENT_MIB
