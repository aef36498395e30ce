"""The health endpoint over a real socket."""

import asyncio
import json

import pytest

from workers.health import MAX_HEAD_BYTES, HealthServer, HealthView


class View:
    def __init__(self) -> None:
        self.ready = True

    def server(self) -> HealthServer:
        view = HealthView(
            ready=lambda: self.ready,
            document=lambda: {"ok": self.ready},
            metrics=lambda: "# TYPE worker_frames_total counter\nworker_frames_total 3\n",
        )
        return HealthServer(view, host="127.0.0.1", port=0)


async def exchange(port: int, data: bytes) -> tuple[int, bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, body


async def get(port: int, path: str) -> tuple[int, bytes, bytes]:
    return await exchange(port, f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())


async def test_probes_follow_the_worker() -> None:
    view = View()
    async with view.server().serving() as port:
        assert (await get(port, "/readyz"))[0] == 200
        assert json.loads((await get(port, "/healthz?x=1"))[2]) == {"ok": True}
        view.ready = False
        assert (await get(port, "/livez"))[0] == 200
        assert (await get(port, "/readyz"))[0] == 503
        status, head, body = await get(port, "/healthz")
        assert (status, json.loads(body)) == (200, {"ok": False})
        assert b"content-type: application/json" in head


async def test_metrics_are_text() -> None:
    async with View().server().serving() as port:
        status, head, body = await get(port, "/metrics")
        assert (status, body) == (200, b"# TYPE worker_frames_total counter\nworker_frames_total 3\n")
        assert b"text/plain; version=0.0.4" in head


async def test_metrics_are_openmetrics_for_who_prefers_it() -> None:
    request = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0\r\n\r\n"
    async with View().server().serving() as port:
        status, head, body = await exchange(port, request)
    assert (status, body) == (200, b"# TYPE worker_frames counter\nworker_frames_total 3\n# EOF\n")
    assert b"content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n" in head


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"POST /livez HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"\x00\xff\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nx: " + b"a" * (MAX_HEAD_BYTES + 10), 431),
    ],
)
async def test_anything_else_is_refused(request_bytes: bytes, status: int) -> None:
    async with View().server().serving() as port:
        assert (await exchange(port, request_bytes))[0] == status


async def test_a_client_that_says_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.health.REQUEST_TIMEOUT_S", 0.05)
    async with View().server().serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_leaves_disturbs_nobody() -> None:
    async with View().server().serving() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        assert (await get(port, "/livez"))[0] == 200
