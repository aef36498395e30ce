"""Bad requests and what is no HTTP at all, over real sockets to `lingma-gateway up`.

Fewer than in this process, but with everything in between: the server, its parser, a Lingma as a subprocess.
"""

import contextlib
import http.client
import os
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.house import KEY, MAX_BODY_BYTES
from tests.fuzz.judging import judge
from tests.fuzz.making import make
from tests.fuzz.requests import Request
from tests.fuzz.values import Dice
from tests.support.edge import Reply
from tests.support.processes import Service, get_json, pool_ready, up, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

SEED = os.environ.get("FUZZ_SEED", "1")
REQUESTS = 400
GARBAGE = 200
ANSWER_S = 20.0
SILENCE_S = 0.2
"""After an answer: the connection is kept for the next request."""
LIVES = b'{"model":"m","messages":[{"role":"user","content":"say still here"}]}'


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory: Path = tmp_path_factory.mktemp("fuzz")
    service = up(
        directory,
        API_KEYS=KEY,
        MAX_BODY_BYTES=str(MAX_BODY_BYTES),
        LINGMA_SIM_TTFT_MS="0",
        LINGMA_SIM_DELTA_GAP_MS="0",
    )
    with service:
        service.ready("/healthz", pool_ready(1))
        yield service


@pytest.fixture
def unharmed(live: Service) -> Iterator[Service]:
    """The server, which must answer afterwards, have nothing under way, and have logged no error."""
    yield live
    request = Request("POST", "/v1/chat/completions", _headers(LIVES), LIVES)
    reply = ask(live, request)
    assert reply is not None
    assert (reply.status, b"still here" in reply.body) == (200, True)
    wait_for(lambda: _idle(live), "every turn to end")
    assert not re.findall(r'"level":\s*"(?:error|critical)".*', live.log), live.log[-3000:]
    assert "Traceback" not in live.log


def _headers(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + KEY.encode()), (b"content-length", b"%d" % len(body))]


def _idle(live: Service) -> bool:
    stats = get_json(f"{live.url}/internal/stats", authorization=f"Bearer {KEY}")
    return bool(stats["concurrency"]["in_flight"] == 0 and stats["concurrency"]["queued"] == 0)


# -- requests ---------------------------------------------------------------------------------------------


def wired(request: Request) -> bytes:
    """The request as HTTP/1.1."""
    chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    lines = [f"{request.method} {request.target} HTTP/1.1".encode(), b"host: localhost", b"connection: close"]
    lines += [name + b": " + value for name, value in request.headers]
    body = request.body
    if chunked:
        body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in request.chunks if piece)
        body += b"0\r\n\r\n"
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def ask(live: Service, request: Request) -> Reply | None:
    """The answer, or None when the server closed without one."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=ANSWER_S) as sock:
        with contextlib.suppress(ConnectionError):
            sock.sendall(wired(request))
            if not _is_sound(request):
                # The server would wait for what was promised. To one that is sound this is: gone.
                sock.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(sock, method=request.method)
        reply = Reply()
        try:
            response.begin()
            reply.bodies = [response.read()]
        except (http.client.BadStatusLine, ConnectionError):
            return None
        reply.status = response.status
        reply.headers = {name.lower(): value for name, value in response.getheaders()}
        return reply


def _is_sound(request: Request) -> bool:
    """Whether its framing tells the truth, so that an answer of ours can be expected."""
    lengths = [value for name, value in request.headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in request.headers)
    told = [b"%d" % len(request.body)] if not chunked else []
    plain = all(value.isascii() and value.strip() and b"\t" not in value for _, value in request.headers)
    return lengths == told and plain and request.method.isalpha() and len(request.method) < 20


@pytest.mark.parametrize("surface", ["chat", "messages", "responses", "gemini", "other"])
def test_bad_requests_over_a_socket(unharmed: Service, surface: str) -> None:
    statuses: Counter[int] = Counter()
    problems: list[str] = []
    for number in range(REQUESTS // 5):
        name = f"{surface}:live-{number}"
        request = make(f"{SEED}/{name}", surface, KEY)
        reply = ask(unharmed, request)
        statuses[reply.status if reply is not None else 0] += 1
        if reply is not None and "x-request-id" in reply.headers:
            found = judge(request, reply)
        else:
            # The server's own word on something that is no good HTTP, or none.
            found = ["no answer of ours"] if _is_sound(request) else []
            if reply is not None and not 400 <= reply.status < 500:
                found.append(f"the server says {reply.status}")
        problems += [f"{name}: {problem}\n{request.shown()}" for problem in found]
    assert statuses.total() == REQUESTS // 5
    assert not problems, f"{len(problems)} problems, FUZZ_SEED={SEED}\n" + "\n".join(problems[:5])


# -- garbage ----------------------------------------------------------------------------------------------

_START = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
_SPOILED = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
    b"GET /\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET / HTTP/3.0\r\nhost: x\r\n\r\n",
    b"GET  /  HTTP/1.1\r\nhost: x\r\n\r\n",
    b"get / http/1.1\r\nhost: x\r\n\r\n",
    b"GET / HTTP/1.1\nhost: x\n\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\n: empty\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\x00y\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nx: " + b"a" * 100_000 + b"\r\n\r\n",
    b"\r\n" * 1000,
    b"\x00" * 1000,
    _START + b"content-length: -1\r\n\r\n",
    _START + b"content-length: 5, 6\r\n\r\nabcdef",
    _START + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
    _START + b"content-length: 0x5\r\n\r\nabcde",
    _START + b"content-length: 10\r\n\r\n{}",
    _START + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    _START + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    _START + b"transfer-encoding: chunked\r\n\r\n-1\r\n{}\r\n",
    _START + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n",
    _START + b"transfer-encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
    _START + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    _START + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    _START + b"expect: 200-maybe\r\ncontent-length: 2\r\n\r\n{}",
    b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n\r\n\x81\xff\xff\xff",
    b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\n"
    b"http2-settings: ////\r\n\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET http://elsewhere/v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
)


def _garbage(dice: Dice) -> bytes:
    """Something spoiled, and perhaps once more, at random."""
    data = dice.choice(_SPOILED)
    if dice.random() < 0.4:
        at = dice.randrange(len(data))
        data = data[:at] + bytes(dice.randrange(256) for _ in range(dice.randrange(1, 9))) + data[at + 1 :]
    if dice.random() < 0.2:
        data = data[: dice.randrange(1, len(data))]
    if dice.random() < 0.2:
        data += dice.choice(_SPOILED)
    return data


def test_what_is_no_http_harms_nobody(unharmed: Service) -> None:
    """Every connection is answered with HTTP or ended; with no 5xx but for what the server itself lacks."""
    answers: Counter[bytes] = Counter()
    strange: list[tuple[bytes, bytes]] = []
    for number in range(GARBAGE):
        data = _SPOILED[number] if number < len(_SPOILED) else _garbage(random.Random(f"{SEED}/{number}"))
        said = _said_to(unharmed, data)
        status = said[9:12] if said is not None and said.startswith(b"HTTP/1.") else b""
        answers[status] += 1
        if said is None or (status[:1] == b"5" and status not in (b"501", b"505")):
            strange.append((data[:200], (said or b"nothing")[:200]))
    assert answers.total() == GARBAGE
    assert strange == []


def _said_to(live: Service, data: bytes) -> bytes | None:
    """All that the server answers before it closes, or falls silent; None when it does neither."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=ANSWER_S) as sock:
        said = b""
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            try:
                while chunk := sock.recv(65536):
                    said += chunk
                    sock.settimeout(SILENCE_S)
            except TimeoutError:
                return said or None
        return said
