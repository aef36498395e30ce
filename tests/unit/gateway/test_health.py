"""The health check of a container, against real sockets."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway import health
from gateway.environ import Section, leaves
from gateway.health import GATEWAY_NAMES, WORKER_NAMES, address, judge, main
from gateway.settings import GatewaySettings
from tests.support.ports import free_port
from workers.settings import WorkerSettings


@contextmanager
def answering(*pieces: bytes, host: str = "127.0.0.1") -> Iterator[int]:
    """A port where one connection is answered with these bytes, and then kept open when there are none."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(65536))
                for piece in pieces:
                    connection.sendall(piece)
                if not pieces:
                    done.wait(10)

        asked: list[bytes] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            done.set()
            thread.join(10)
        assert asked[0].startswith(b"GET /healthz HTTP/1.1\r\n")


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("environ", "worker", "expected"),
    [
        ({}, False, ("127.0.0.1", 8317)),
        ({}, True, ("127.0.0.1", 8318)),
        ({"PORT": "9000", "HOST": "0.0.0.0"}, False, ("127.0.0.1", 9000)),
        ({"PORT": "9000", "HOST": "10.0.0.7"}, True, ("10.0.0.7", 9000)),
        ({"PORT": " ", "HOST": ""}, False, ("127.0.0.1", 8317)),
        ({"PORT": "9000", "GATEWAY__SERVER__PORT": "9001"}, False, ("127.0.0.1", 9001)),
        ({"PORT": "9000", "WORKER_PORT": "9002"}, False, ("127.0.0.1", 9000)),
        ({"PORT": "9000", "WORKER_PORT": "9002", "WORKER_HOST": "::"}, True, ("::1", 9002)),
    ],
)
def test_it_asks_where_the_process_listens(
    environ: dict[str, str], worker: bool, expected: tuple[str, int]
) -> None:
    assert address(environ, worker=worker) == expected


@pytest.mark.parametrize(
    ("settings", "names"), [(GatewaySettings, GATEWAY_NAMES), (WorkerSettings, WORKER_NAMES)]
)
def test_its_names_and_ports_are_those_of_the_settings(
    settings: type[Section], names: tuple[tuple[str, ...], tuple[str, ...], int]
) -> None:
    by_field = {leaf.field_name: leaf for leaf in leaves(settings) if leaf.section in ("", "server")}
    hosts, ports, default = names
    assert list(hosts) == by_field["host"].names
    assert list(ports) == by_field["port"].names
    assert default == by_field["port"].field.default


@pytest.mark.parametrize(
    ("body", "ok"),
    [
        (b'{"ok": true, "pool_size": 2, "pool_ready": 1}', True),
        (b'{"ok": false, "pool_size": 2, "pool_ready": 0}', False),
        (b'{"ok": "true"}', False),
        (b"{}", False),
        (b"[]", False),
    ],
)
def test_only_ok_itself_counts(body: bytes, ok: bool) -> None:
    assert judge(body)[0] is ok


def test_an_answer_that_is_ok_exits_with_0_whatever_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    body = b'{"ok": true, "pool_size": 2, "pool_ready": 1}'
    with answering(http(body, "503 Unavailable")) as port:
        assert main([], {"PORT": str(port)}) == 0
    assert capsys.readouterr().out == "ok: 1 of 2 instances ready\n"


def test_an_answer_that_is_not_ok_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(http(b'{"ok": false, "pool_size": 1, "pool_ready": 0}')) as port:
        assert main(["worker"], {"WORKER_PORT": str(port), "PORT": "1"}) == 1
    assert capsys.readouterr().out == "not ok: 0 of 1 instances ready\n"


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", http(b"no json"), http(b"{}")[:-1]])
def test_what_is_no_answer_exits_with_1(answer: bytes) -> None:
    with answering(answer) as port:
        assert main([], {"PORT": str(port)}) == 1


def test_nobody_there_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {"PORT": str(free_port())}) == 1
    assert capsys.readouterr().out.startswith("not ok: ConnectionRefusedError")


def test_a_process_that_does_not_answer_exits_with_1_in_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "LIMIT_S", 0.05)
    with answering() as port:
        assert main([], {"PORT": str(port)}) == 1
    assert capsys.readouterr().out.startswith("not ok: TimeoutError")


def test_a_port_that_is_no_number_exits_with_1() -> None:
    assert main([], {"PORT": "http"}) == 1
