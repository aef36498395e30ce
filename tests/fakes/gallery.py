"""A package server on this machine."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


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
    gallery.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield gallery
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
