"""A strict stand-in for a Gemini upstream, plain and inside Code Assist's envelope, on a real socket.

It takes what Google's service takes and nothing else: see antigravity_fields.py for requests,
antigravity_envelope.py for what Code Assist adds, antigravity_history.py for conversations and signatures.
What it answers is the test's business, or antigravity_brain.py's. Every request is recorded as it came.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.antigravity_brain import Reply, answer, detail, error
from tests.fakes.antigravity_chunks import ChunkWriter
from tests.fakes.antigravity_envelope import ENVELOPE, wrong_envelope
from tests.fakes.antigravity_fields import REQUEST, Checker, Reader, is_newer
from tests.fakes.antigravity_history import INVALID, Signatures, history_problem, skips

PLAIN = "/v1beta/models/"
ENVELOPED = "/v1internal:"
MODELS = ("gemini-3-pro", "gemini-3-flash", "gemini-2.5-flash", "gemini-2.5-pro", "gemini-3-pro-image")

NO_KEY = error(
    403,
    "PERMISSION_DENIED",
    "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or "
    "other form of API consumer identity to call this API.",
)
WRONG_KEY = error(
    400,
    "INVALID_ARGUMENT",
    "API key not valid. Please pass a valid API key.",
    detail("ErrorInfo", reason="API_KEY_INVALID", domain="googleapis.com"),
)
WRONG_TOKEN = error(
    401,
    "UNAUTHENTICATED",
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
    "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
)


class Recorded(NamedTuple):
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any
    raw: bytes
    key: str
    omitted: list[str]
    """Signatures of what the history has without them: taken, as only calls must have one, but a loss."""

    @property
    def request(self) -> dict[str, Any]:
        """Without an envelope."""
        inner = self.body.get("request", self.body)
        assert isinstance(inner, dict)
        return inner


class AntigravityServer:
    def __init__(
        self,
        *,
        envelope: bool = False,
        keys: tuple[str, ...] = ("good-key",),
        project: str = "project-1",
        alternate: bool = False,
        ids: bool = True,
        sentinel: bool = True,
        pretty: bool = True,
    ) -> None:
        """alternate: contents of one speaker may not follow each other. ids: calls have some.

        sentinel: the word that skips the check of signatures is taken. pretty: with Google's spaces.
        """
        self.envelope = envelope
        self.keys = set(keys)
        self.forbidden: set[str] = set()
        self.project = project
        self.alternate = alternate
        self.sentinel = sentinel
        self.ignores_alt = False
        self.queue: list[Reply] = []
        """Answered first, one each, to requests that are right."""
        self.by_key: dict[str, list[Reply]] = {}
        self.signatures = Signatures()
        self.requests: list[Recorded] = []
        self.refusals: list[tuple[int, str]] = []
        """Of requests that were wrong, which is a defect unless the test meant it."""
        self.left_early = 0
        """Clients that went before their answer was complete."""
        self.port = 0
        self._separators = (", ", ": ") if pretty else (",", ":")
        self._indent = 2 if pretty else None
        self._writer = ChunkWriter(self.signatures, envelope=envelope, ids=ids)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def omitted(self) -> list[str]:
        """Of all requests."""
        return [signature for asked in self.requests for signature in asked.omitted]

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["AntigravityServer"]:
        """Any free port unless one is given."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @contextlib.contextmanager
    def in_thread(self) -> Iterator["AntigravityServer"]:
        """For tests whose client, or gateway, is not asyncio's."""
        up, down = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()

        async def run() -> None:
            async with self.running():
                up.set()
                await down.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
        thread.start()
        assert up.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(down.set)
            thread.join(10)
            loop.close()

    # -- HTTP ---------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in fields)}
        method, target, _ = line.split(" ")
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        split = urlsplit(target)
        query = parse_qs(split.query)
        key = (
            headers.get("authorization", "").removeprefix("Bearer ")
            if self.envelope
            else headers.get("x-goog-api-key", query.get("key", [""])[0])
        )
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            body = None
        recorded = Recorded(unquote(split.path), query, headers, body, raw, key, [])
        self.requests.append(recorded)
        return await self._answer(method, recorded, reader, writer)

    async def _answer(
        self, method: str, asked: Recorded, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        refusal = self._refused_key(asked)
        if refusal is None and method == "GET":
            return await self._whole(writer, 200, self._models(asked.path))
        model, verb = self._addressed(asked)
        if refusal is None:
            refusal = self._refused(asked, model, verb)
        if refusal is not None:
            assert refusal.error is not None
            self.refusals.append((refusal.status, refusal.error["error"]["message"]))
            return await self._whole(writer, refusal.status, refusal.error, refusal.headers)
        asked.omitted.extend(self.signatures.omitted(model, self._read(asked)["contents"]))
        if verb == "countTokens":
            return await self._whole(writer, 200, {"totalTokens": len(asked.raw) // 4})
        reply = self._reply(asked, model)
        if reply.status != 200:
            return await self._whole(writer, reply.status, reply.error, reply.headers)
        if verb == "generateContent":
            return await self._whole_answer(writer, reply, model)
        sse = asked.query.get("alt") == ["sse"] and not self.ignores_alt
        return await self._stream(reader, writer, reply, model, sse=sse)

    async def _whole(
        self, writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> bool:
        data = json.dumps(body, indent=self._indent, ensure_ascii=False).encode()
        lines = [f"HTTP/1.1 {status} X", "content-type: application/json; charset=UTF-8"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += [f"content-length: {len(data)}", "", ""]
        writer.write("\r\n".join(lines).encode() + data)
        await writer.drain()
        return True

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        reply: Reply,
        model: str,
        *,
        sse: bool,
    ) -> bool:
        kind = "text/event-stream" if sse else "application/json; charset=UTF-8"
        writer.write(f"HTTP/1.1 200 X\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        gone = asyncio.get_running_loop().create_task(reader.read(1))
        try:
            pieces = reply.raw if reply.raw is not None else self._pieces(reply, model, sse=sse)
            for at, piece in enumerate(pieces):
                if reply.gate is not None and at == len(reply.chunks):
                    await reply.gate.wait()
                if reply.pause_s:
                    await asyncio.wait({gone}, timeout=reply.pause_s)
                if gone.done():
                    self.left_early += 1
                    return False
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            if reply.hangs:
                await gone
                self.left_early += 1
                return False
            if reply.gate is not None:
                await reply.gate.wait()
            if reply.cut:
                return False
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        finally:
            if not gone.done():
                gone.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await gone
        return True

    def _pieces(self, reply: Reply, model: str, *, sse: bool) -> Iterator[bytes]:
        chunks = self._writer.chunks(reply, model)
        if reply.error is not None:
            chunks.append(reply.error)
        for at, chunk in enumerate(chunks):
            data = json.dumps(chunk, separators=self._separators, ensure_ascii=False).encode()
            if sse:
                yield b"data: " + data + b"\r\n\r\n"
            else:
                yield (b"[" if at == 0 else b",\r\n") + data + (b"]" if at == len(chunks) - 1 else b"")

    async def _whole_answer(self, writer: asyncio.StreamWriter, reply: Reply, model: str) -> bool:
        if reply.hangs or reply.cut:
            writer.write(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{")
            await writer.drain()
            return False
        if reply.error is not None:
            return await self._whole(writer, 200, reply.error)
        return await self._whole(writer, 200, self._writer.whole(reply, model))

    # -- what is asked ------------------------------------------------------------------------------------

    def _addressed(self, asked: Recorded) -> tuple[str, str]:
        if self.envelope:
            body = asked.body if isinstance(asked.body, dict) else {}
            return str(body.get("model", "")), asked.path.removeprefix(ENVELOPED)
        model, _, verb = asked.path.removeprefix(PLAIN).rpartition(":")
        return model, verb

    def _refused_key(self, asked: Recorded) -> Reply | None:
        if asked.key in self.forbidden:
            return error(403, "PERMISSION_DENIED", "Permission denied: Consumer has been suspended.")
        if self.envelope:
            return None if asked.key in self.keys else WRONG_TOKEN
        if not asked.key:
            return NO_KEY
        return None if asked.key in self.keys else WRONG_KEY

    def _refused(self, asked: Recorded, model: str, verb: str) -> Reply | None:
        prefix = ENVELOPED if self.envelope else PLAIN
        verbs = ("generateContent", "streamGenerateContent", "countTokens")
        if not asked.path.startswith(prefix) or verb not in verbs:
            return error(404, "NOT_FOUND", "Requested entity was not found.")
        if asked.headers.get("content-type") != "application/json" or not isinstance(asked.body, dict):
            return error(400, "INVALID_ARGUMENT", "Invalid JSON payload received. Unexpected token.")
        if model not in MODELS:
            return error(
                404,
                "NOT_FOUND",
                f"models/{model} is not found for API version v1beta, or is not supported for {verb}. Call "
                "ListModels to see the list of available models and their supported methods.",
            )
        reader = Reader()
        message = reader.read(asked.body, ENVELOPE if self.envelope else REQUEST)
        if reader.violations:
            told = "\n".join(dict.fromkeys(one.description for one in reader.violations))
            listed = [
                {**({"field": one.field} if one.field else {}), "description": one.description}
                for one in reader.violations
            ]
            return error(400, "INVALID_ARGUMENT", told, detail("BadRequest", fieldViolations=listed))
        if self.envelope:
            if (wrong := wrong_envelope(message)) is not None:
                return error(400, "INVALID_ARGUMENT", wrong)
            if message["project"] != self.project:
                return error(403, "PERMISSION_DENIED", f"Permission denied on project {message['project']}")
        request = message["request"] if self.envelope else message
        return self._refused_request(request, model)

    def _refused_request(self, request: dict[str, Any], model: str) -> Reply | None:
        checker = Checker(model)
        checker.request(request)
        if checker.problems:
            return error(400, "INVALID_ARGUMENT", "\n".join(checker.problems) + "\n")
        first = request["contents"][0]
        if self.envelope and first.get("role") != "user":
            return error(400, "INVALID_ARGUMENT", "Please ensure that the first turn is a user turn.")
        problem = history_problem(
            request["contents"],
            model=model,
            signatures=self.signatures,
            demands=is_newer(model),
            alternate=self.alternate,
            model_responds=self.envelope,
        )
        if problem is None and not self.sentinel and skips(request["contents"]):
            problem = INVALID
        return None if problem is None else error(400, "INVALID_ARGUMENT", problem)

    # -- what is answered ---------------------------------------------------------------------------------

    def _reply(self, asked: Recorded, model: str) -> Reply:
        queue = self.by_key.get(asked.key) or self.queue
        if queue:
            return queue.pop(0)
        return answer(self._read(asked), thinks=is_newer(model))

    def _read(self, asked: Recorded) -> dict[str, Any]:
        """Of a request that is right: its message, without an envelope."""
        message = Reader().read(asked.body, ENVELOPE if self.envelope else REQUEST)
        inner = message["request"] if self.envelope else message
        assert isinstance(inner, dict)
        return inner

    def _models(self, path: str) -> Any:
        def model(name: str) -> dict[str, Any]:
            return {"name": f"models/{name}", "supportedGenerationMethods": ["generateContent"]}

        name = path.removeprefix(PLAIN)
        return model(name) if name in MODELS else {"models": [model(one) for one in MODELS]}
