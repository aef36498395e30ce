"""A wire tap between a client and the gateway: what was asked and how it was answered, and a place to cut.

One connection upstream for each request, so that requests and answers are told apart without parsing more
than heads; upgraded connections are passed through as they are.
"""

import contextlib
import json
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.support.network import InThread

_CHUNK = 65536


class Seen:
    """One request, and the head of its answer once there is one."""

    def __init__(self, head: bytes, body: bytes) -> None:
        line, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.method, self.target, _ = line.split(" ", 2)
        self.path = self.target.partition("?")[0]
        self.headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        self.body = body
        self.at_s = time.monotonic()
        self.status = 0
        self.answer_headers: dict[str, str] = {}
        self.raw_answer = b""
        """Its body as the client got it."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def answer(self) -> bytes:
        if self.answer_headers.get("transfer-encoding") != "chunked":
            return self.raw_answer
        body, rest = b"", self.raw_answer
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            body, rest = body + rest[:length], rest[length + 2 :]
        return body

    def __repr__(self) -> str:
        return f"{self.method} {self.target} {self.status}"


class Tap(InThread):
    """Listens on loopback and passes everything to the gateway at `port`.

    `cut` is asked before each piece of an answer's body goes out; true drops both connections instead. What
    went out before is the answer so far.
    """

    def __init__(self, port: int, cut: Callable[[Seen], bool] = lambda seen: False) -> None:
        self.seen: list[Seen] = []
        self._upstream = ("127.0.0.1", port)
        self._cut = cut
        tap = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    tap._serve(self.request)

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        super().__init__(server)

    def turns(self, ending: str) -> list[Seen]:
        """The POST requests to paths that end so."""
        return [seen for seen in self.seen if seen.method == "POST" and seen.path.endswith(ending)]

    def _serve(self, client: socket.socket) -> None:
        head, rest = _read_head(client)
        if not head:
            return
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        while length and len(rest) < int(length[1]):
            rest += client.recv(_CHUNK)
        seen = Seen(head, rest)
        self.seen.append(seen)
        upgrade = "upgrade" in seen.headers
        if not upgrade:
            head = re.sub(rb"\r\nconnection:[^\r]*", b"", head, flags=re.IGNORECASE)
            head = head.rstrip(b"\r\n") + b"\r\nConnection: close\r\n\r\n"
        with socket.create_connection(self._upstream, 10) as upstream:
            upstream.settimeout(None)
            upstream.sendall(head + rest)
            self._answer(seen, client, upstream)

    def _answer(self, seen: Seen, client: socket.socket, upstream: socket.socket) -> None:
        head, rest = _read_head(upstream)
        if not head:
            return
        status, *fields = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        seen.status = int(status.split(" ")[1])
        seen.answer_headers = {
            name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)
        }
        if seen.status == 101:
            threading.Thread(target=_copy, args=(client, upstream), daemon=True).start()
        elif "upgrade" in seen.headers:
            # Refused, on a connection that would stay open: pass on the answer, and leave.
            length = int(seen.answer_headers.get("content-length", "0"))
            while len(rest) < length:
                rest += upstream.recv(_CHUNK)
            client.sendall(head + rest)
            return
        client.sendall(head)
        piece = rest or upstream.recv(_CHUNK)
        while piece:
            if self._cut(seen):
                return
            client.sendall(piece)
            seen.raw_answer += piece
            piece = upstream.recv(_CHUNK)


def _read_head(source: socket.socket) -> tuple[bytes, bytes]:
    """Up to and with the empty line, and what came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = source.recv(_CHUNK)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
