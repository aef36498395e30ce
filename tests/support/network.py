"""Odd ends of a network, for tests: a door that is never opened, one behind which nobody speaks, TLS."""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import socketserver
import ssl
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class InThread:
    """A server of the standard library that answers in a thread of its own, from start() to close()."""

    def __init__(self, server: socketserver.BaseServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


LIFE = datetime.timedelta(days=1)


@contextlib.contextmanager
def never_accepts(port: int) -> Iterator[None]:
    """The backlog is full: whoever comes next gets no answer, not even a refusal."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield


class Mute:
    """Takes connections and says nothing."""

    def __init__(self) -> None:
        self.asked = 0
        self._writers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def running(self, port: int) -> AsyncIterator["Mute"]:
        server = await asyncio.start_server(self._take, "127.0.0.1", port)
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1


# -- answers that unpack to more than they are --------------------------------------------------------------

MIB = 1024 * 1024


class Packed:
    """A body that holds a piece over and over: small, as each time is packed apart from the others."""

    def __init__(self, encoding: str, piece: bytes, *, times: int, begins: bytes = b"") -> None:
        self.encoding = encoding
        if encoding == "gzip":
            head = zlib.compressobj(9, zlib.DEFLATED, 31)
            first = head.compress(begins) + head.flush(zlib.Z_FULL_FLUSH)
            one = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
            self.body = first + (one.compress(piece) + one.flush(zlib.Z_FULL_FLUSH)) * times
        else:
            self.body = zstd.compress(begins) + zstd.compress(piece) * times


class PackedServer:
    """Answers whatever it is asked with packed bodies, and counts."""

    def __init__(self, packed: Packed, *, status: int = 200, kind: str = "application/json") -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n"
        head += f"content-encoding: {packed.encoding}\r\ncontent-length: {len(packed.body)}\r\n\r\n"
        self._answer = head.encode() + packed.body
        self.asked = 0
        self._writers: dict[asyncio.StreamWriter, asyncio.Event] = {}

    @contextlib.asynccontextmanager
    async def running(self, port: int) -> AsyncIterator["PackedServer"]:
        server = await asyncio.start_server(self._take, "127.0.0.1", port)
        try:
            yield self
        finally:
            server.close()
            for writer, over in self._writers.items():
                writer.transport.abort()
                await over.wait()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over = self._writers[writer] = asyncio.Event()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            writer.write(self._answer)
            await writer.drain()
            await reader.read()
        writer.close()
        over.set()


# -- TLS --------------------------------------------------------------------------------------------------


def certificate(directory: Path) -> Path:
    """Of 127.0.0.1, signed by itself, in one file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LIFE)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "upstream.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


@contextlib.asynccontextmanager
async def tls_in_front(port: int, behind: int, pem: Path) -> AsyncIterator[None]:
    """A server with TLS on the one port that passes everything to the other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection("127.0.0.1", behind)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pipe(reader, onward))
            group.create_task(_pipe(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    try:
        yield
    finally:
        server.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
