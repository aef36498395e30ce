"""A package server on this machine."""

import contextlib
import http.server
from collections.abc import Iterator

from tests.support.network import InThread


class Gallery:
    """What it answers by path, and what was asked of it."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def serve(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        self.answers[path] = (status, headers, body)
        return self.url + path


@contextlib.contextmanager
def running() -> Iterator[Gallery]:
    gallery = Gallery()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            gallery.asked.append((self.path, dict(self.headers)))
            status, headers, body = gallery.answers.get(self.path, (404, {}, b""))
            if headers.get("ETag") and self.headers.get("If-None-Match") == headers["ETag"]:
                status, body = 304, b""
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with InThread(server) as served:
        gallery.url = served.url
        yield gallery
