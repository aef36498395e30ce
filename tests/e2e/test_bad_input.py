"""Garbage over a real socket: a clear 4xx in OpenAI's envelope, and the server lives on."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Service, pool_ready, up

pytestmark = pytest.mark.e2e

LIMIT = 20_000


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("bad")
    with up(directory, MAX_BODY_BYTES=str(LIMIT)) as service:
        service.ready("/healthz", pool_ready(1))
        yield service
        assert (
            exchange(service, post(b'{"model":"m","messages":[{"role":"user","content":"say ok"}]}'))[0]
            == 200
        )


def exchange(service: Service, request: bytes) -> tuple[int, dict[str, str], Any]:
    """One raw request on its own connection: status, headers, JSON body (or bytes)."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=20) as sock:
        sock.sendall(request)
        sock.settimeout(20)
        data = b""
        while True:
            try:
                chunk = sock.recv(65536)
            except ConnectionResetError:
                break
            if not chunk:
                break
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = dechunk(body)
    try:
        return int(first.split()[1]), headers, json.loads(body)
    except ValueError:
        return int(first.split()[1]), headers, body


def dechunk(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        out, body = out + rest[:length], rest[length + 2 :]
    return out


def post(body: bytes, *headers: str, path: str = "/v1/chat/completions", length: int | None = None) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b'{"model": nope}', "JSON"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xc3\x28"}]}', "UTF-8"),
        (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":[{"role":"user","content":{"a":1}}]}', "messages.0.content"),
        (b'{"model":"m","messages":[{"content":"x"}]}', "messages.0.role"),
        (b"[" * 5000, "JSON"),
        (b'{"model":"m","messages":[],"tools":' + b"[" * 300 + b"]" * 300 + b"}", "levels deep"),
    ],
)
def test_bad_bodies_are_told_what_is_wrong(live: Service, body: bytes, word: str) -> None:
    status, headers, answer = exchange(live, post(body))
    assert status == 400
    assert headers["content-type"].startswith("application/json")
    error = answer["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}
    assert word in f"{error['message']} {error['param']}"


def test_a_body_over_the_limit_is_refused_without_reading_it(live: Service) -> None:
    status, _, answer = exchange(live, post(b"{", length=LIMIT + 1))
    assert status == 413
    assert str(LIMIT) in answer["error"]["message"]


def test_a_chunked_body_over_the_limit_is_refused(live: Service) -> None:
    chunk = b"%x\r\n%b\r\n" % (LIMIT, b"x" * LIMIT)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _, answer = exchange(live, head + chunk * 3)
    assert status == 413
    assert answer["error"]["code"]


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /v1/nothing HTTP/1.1", 404),
        (b"GET /nothing HTTP/1.1", 404),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"GET http://elsewhere/v1/chat/completions HTTP/1.1", 404),
        (b"GET /v1/chat/completions HTTP/1.1", 405),
        (b"DELETE /v1/models HTTP/1.1", 405),
        (b"GET /v1/models/no-such-model HTTP/1.1", 404),
    ],
)
def test_unknown_routes_and_methods_have_the_envelope(
    live: Service, request_line: bytes, status: int
) -> None:
    found, headers, answer = exchange(live, request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert found == status
    assert answer["error"]["message"]
    if status == 405:
        assert headers["allow"]


def test_a_header_flood_is_the_servers_own_431(live: Service) -> None:
    flood = "\r\n".join(f"X-Flood-{n}: {'x' * 1000}" for n in range(200))
    status, _, _ = exchange(live, post(b"{}", flood))
    assert status == 431


def test_what_is_no_http_is_survived(live: Service) -> None:
    status, _, _ = exchange(live, b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n")
    assert status == 400
