"""Attempts over a real socket, with a lane that decodes Responses and remembers how it ended."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import pytest

from gateway.kernel.clock import FakeClock, SystemClock
from gateway.kernel.errors import ErrorKind, GatewayError, InvalidRequest, UpstreamUnavailable
from gateway.kernel.ids import TurnId
from gateway.kernel.json import dumps
from gateway.store.keys import Keys
from gateway.store.kv_memory import MemoryKV
from gateway.store.kv_modes import Availability, RequiredKV
from gateway.turn.events import TurnFailed
from gateway.turn.fold import TurnResult, fold
from gateway.turn.frame import Frame
from gateway.turn.ports import UNTRACED, AttemptFailed, Call
from gateway.turn.request import RawRequest, Turn
from gateway.upstreams import attempt as attempts
from gateway.upstreams import http
from gateway.upstreams.attempt import Attempt, retry_after_s
from gateway.upstreams.codex.decode import CodexDecoder
from gateway.upstreams.codex.errors import classify, read_error
from gateway.upstreams.cooldowns import Account, Cooldowns
from gateway.upstreams.faults import Fault
from gateway.upstreams.http import HttpLimits, UpstreamHttp, UpstreamRequest
from gateway.wire.sse import SseEvent

STREAM = "text/event-stream"


def event(kind: str, **fields: Any) -> bytes:
    return b"data: %b\n\n" % dumps({"type": kind, **fields})


ITEM = {"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "Hi"}]}
CREATED = event("response.created", response={})
ADDED = event("response.output_item.added", output_index=0, item=ITEM)
DELTA = event("response.output_text.delta", output_index=0, delta="Hi")
DONE = event("response.output_item.done", output_index=0, item=ITEM)
COMPLETED = event("response.completed", response={"output": [ITEM]})
OVERLOADED = event("response.failed", response={"error": {"code": "server_is_overloaded", "message": "full"}})
REJECTED = event("response.failed", response={"error": {"code": "invalid_encrypted_content", "message": "x"}})


class Lane:
    def __init__(
        self,
        port: int,
        *,
        total_s: float = 5.0,
        refuse: GatewayError | None = None,
        gives_back: bool = True,
        takes: bool | None = True,
    ) -> None:
        """takes: whether the store does; None where there is nothing for it."""
        self._takes = takes
        self.gives_back = gives_back
        self._decoder = CodexDecoder(model="m", created_at=0, executor="one", input_tokens_estimate=0)
        self._port = port
        self._total_s = total_s
        self._refuse = refuse
        self.concluded: list[Fault | None] = []
        self.asked_to_keep = asyncio.Event()
        self.keeping = asyncio.Event()
        self.keeping.set()

    @property
    def ended(self) -> bool:
        return self._decoder.ended

    @property
    def fault(self) -> Fault | None:
        return self._decoder.fault

    async def request(self) -> UpstreamRequest:
        if self._refuse is not None:
            raise self._refuse
        return UpstreamRequest(
            upstream="one",
            url=f"http://127.0.0.1:{self._port}/responses",
            body=b"{}",
            headers={},
            secrets=("top-secret-key",),
            limits=HttpLimits(idle_s=0.2, first_byte_s=0.2, connect_s=0.2),
            total_s=self._total_s,
        )

    def judge(self, status: int, body: bytes, retry_after_s: float | None) -> Fault:
        return classify(read_error(body, status), now_s=0, retry_after_s=retry_after_s)

    def feed(self, events: Sequence[SseEvent], seq: int, into: list[Frame]) -> None:
        self._decoder.feed_all(events, seq, into)

    def feed_whole(self, body: bytes) -> Frame:
        return self._decoder.feed_whole(body)

    def eof(self) -> Frame | None:
        return self._decoder.eof()

    def conclude(self, fault: Fault | None) -> Coroutine[Any, Any, bool] | None:
        takes = self._takes
        if takes is None:
            return None

        async def note() -> bool:
            self.asked_to_keep.set()
            await self.keeping.wait()
            self.concluded.append(fault)
            return takes

        return note()


class Upstream:
    """Says one thing to whoever asks."""

    def __init__(
        self, *body: bytes, status: int = 200, kind: str = STREAM, hang: bool = False, **headers: str
    ) -> None:
        self._head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n".encode()
        self._head += b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items()) + b"\r\n"
        self._body = body
        self._hang = hang
        self.heard: asyncio.Event | None = None
        """Waited for behind the first piece: the client has got it."""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self._head)
            for number, piece in enumerate(self._body):
                if number and self.heard is not None:
                    await self.heard.wait()
                writer.write(piece)
                await writer.drain()
            if self._hang:
                await reader.read()
        writer.close()


class Bench:
    def __init__(self, http: UpstreamHttp, port: int) -> None:
        self.heard = asyncio.Event()
        clock = FakeClock()
        kv = RequiredKV(Availability(MemoryKV(clock)))
        self.cooldowns = Cooldowns(kv, Keys(), clock, [Account("one", "a"), Account("one", "a", "gpt")])
        self.http = http
        self.port = port
        self.lane = Lane(port)
        self.replayed: Sequence[str] = ()
        """What was counted of remembered reasoning."""
        self.leaves = False
        """Whoever hears the first burst does not come back for another."""
        self.ends: list[tuple[str, str]] = []
        """Of the stages: their names, and what they ended with."""
        self.keeps = True
        """What is to be remembered is written at once; else never."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Any:
        try:
            yield UNTRACED
        except BaseException as error:
            self.ends.append((name, type(error).__name__))
            raise
        self.ends.append((name, ""))

    async def run(
        self, *, hold: bool = False, elsewhere: bool = False, finished: bool = False, **lane: Any
    ) -> tuple[TurnResult, list[list[Frame]]]:
        self.lane = Lane(self.port, **lane)
        if not self.keeps:
            self.lane.keeping.clear()
        turn = Turn(
            id=TurnId("t"), tenant="-", created_at_ms=0, model="m", items=(), raw=RawRequest("responses", {})
        )
        call = Call(turn=turn, model="gpt", account="a", attempt=1, deadline_ms=0, queue_until=0)
        call.stage = self.stage
        self.replayed = call.replayed
        attempt = Attempt(
            call,
            self.lane,
            self.http,
            self.cooldowns,
            SystemClock(),
            hold=hold,
            elsewhere=elsewhere,
            finished=lambda: finished,
        )
        bursts: list[list[Frame]] = []
        async with contextlib.aclosing(attempt.bursts()) as told:
            async for burst in told:
                bursts.append(burst)
                self.heard.set()
                if self.leaves:
                    break
        return fold(frame for burst in bursts for frame in burst), bursts

    async def fails(self, **how: Any) -> AttemptFailed:
        with pytest.raises(AttemptFailed) as caught:
            await self.run(**how)
        return caught.value

    def rests_s(self, *, soft: bool = True) -> float:
        """With the soft ones or without."""
        kinds = (False, True) if soft else (False,)
        return max(self.cooldowns.left("one", "a", "gpt", soft=kind).for_s for kind in kinds)


@contextlib.asynccontextmanager
async def against(upstream: Upstream) -> AsyncIterator[Bench]:
    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    async with UpstreamHttp().running() as http:
        yield Bench(http, server.sockets[0].getsockname()[1])
    server.close()


async def test_an_answer_is_told_from_its_first_content_on() -> None:
    async with against(Upstream(CREATED, ADDED + DELTA, DONE + COMPLETED)) as bench:
        result, bursts = await bench.run()
        assert (result.text, result.finish) == ("Hi", "stop")
        assert b"response.created" in (bursts[0][0].raw or b""), (
            "what came before goes with the first content"
        )
        assert bench.lane.concluded == [None]
        assert bench.rests_s() == 0


async def test_a_part_that_went_well_is_not_told_as_cut_short_though_nobody_comes_back() -> None:
    whole = Upstream(dumps({"status": "completed", "output": [ITEM]}), kind="application/json")
    for upstream in (whole, Upstream(CREATED + ADDED + DELTA + DONE + COMPLETED)):
        async with against(upstream) as bench:
            bench.leaves = True
            await bench.run()
            assert bench.ends == [("replay.keep", ""), ("POST", "")]


async def test_a_part_that_is_left_in_the_middle_is_told_as_that() -> None:
    async with against(Upstream(CREATED + ADDED + DELTA, hang=True)) as bench:
        bench.leaves = True
        await bench.run()
        assert bench.ends == [("POST", "GeneratorExit")]


async def test_an_answer_that_was_not_streamed_is_one_frame() -> None:
    body = dumps({"status": "completed", "output": [ITEM]})
    async with against(Upstream(body, kind="application/json")) as bench:
        result, ((frame,),) = await bench.run()
        assert (result.text, frame.whole, frame.raw) == ("Hi", True, body)


async def test_a_refused_request_goes_back_and_rests_nobody() -> None:
    error = dumps({"error": {"message": "odd", "param": "input"}})
    async with against(Upstream(error, status=400, kind="application/json")) as bench:
        failed = await bench.fails()
        assert (failed.again, failed.error.kind, failed.error.param) == (
            "no",
            ErrorKind.INVALID_REQUEST,
            "input",
        )
        assert bench.rests_s() == 0


async def test_a_limit_rests_the_credential_and_moves_on() -> None:
    async with against(Upstream(b"{}", status=429, kind="application/json", **{"retry-after": "7"})) as bench:
        failed = await bench.fails()
        assert (failed.again, failed.or_again, failed.error.retry_after_s) == ("next", False, 7)
        assert bench.rests_s(soft=False) == pytest.approx(7)


async def test_a_failure_that_nobody_saw_is_another_attempts_chance() -> None:
    for said in ((CREATED, OVERLOADED), (CREATED + ADDED + OVERLOADED,), (CREATED,), ()):
        async with against(Upstream(*said)) as bench:
            failed = await bench.fails()
            assert (failed.again, failed.or_again) == ("next", True)
            assert bench.rests_s() > 0
            assert bench.rests_s(soft=False) == 0


@pytest.mark.parametrize(
    ("end", "kind"), [(OVERLOADED, ErrorKind.UPSTREAM_UNAVAILABLE), (b"", ErrorKind.UPSTREAM_EOF)]
)
async def test_a_failure_behind_content_is_a_terminal_event(end: bytes, kind: ErrorKind) -> None:
    upstream = Upstream(CREATED + ADDED + DELTA, end)
    async with against(upstream) as bench:
        upstream.heard = bench.heard
        result, _ = await bench.run()
        assert result.text == "Hi"
        assert result.error is not None
        assert result.error.kind == kind
        assert (bench.rests_s() == 0) is (kind == ErrorKind.UPSTREAM_EOF)


async def test_silence_behind_content_ends_the_turn() -> None:
    async with against(Upstream(CREATED + ADDED + DELTA, hang=True)) as bench:
        _, bursts = await bench.run()
        end = bursts[-1][-1].events[-1]
        assert isinstance(end, TurnFailed)
        assert end.error.kind == ErrorKind.UPSTREAM_TIMEOUT


async def test_silence_before_content_is_the_next_ones_chance() -> None:
    async with against(Upstream(CREATED, hang=True)) as bench:
        failed = await bench.fails()
        assert (failed.again, failed.or_again) == ("next", False), "who was asked once is not asked again"
        assert failed.error.kind == ErrorKind.UPSTREAM_TIMEOUT
        assert bench.rests_s() > 0
        failed = await bench.fails(total_s=0.05)
        assert (failed.again, "time limit" in failed.error.message) == ("no", True)


async def test_remembering_ends_although_the_client_leaves() -> None:
    async with against(Upstream(CREATED + ADDED + DELTA + DONE + COMPLETED)) as bench:
        bench.keeps = False
        running = asyncio.create_task(bench.run())
        await asyncio.sleep(0)
        await bench.lane.asked_to_keep.wait()
        running.cancel()
        await asyncio.sleep(0)
        bench.lane.keeping.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert bench.lane.concluded == [None]


async def test_remembering_that_takes_too_long_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "KEEP_S", 0.01)
    caplog.set_level(logging.WARNING)
    async with against(Upstream(CREATED + ADDED + DELTA + DONE + COMPLETED)) as bench:
        bench.keeps = False
        result, _ = await bench.run()
        assert result.text == "Hi"
        assert bench.lane.concluded == []
        assert bench.replayed == ["late"]
    assert [record.message for record in caplog.records] == ["replay.late"]


@pytest.mark.parametrize(
    ("takes", "kept", "forgotten"),
    [(True, ["kept"], ["forgotten"]), (False, ["dropped"], ["dropped"]), (None, [], [])],
)
async def test_what_the_store_has_taken_is_counted_and_nothing_else(
    takes: bool | None, kept: list[str], forgotten: list[str]
) -> None:
    """It may have failed, or hold something newer by now."""
    async with against(Upstream(CREATED + ADDED + DELTA + DONE + COMPLETED)) as bench:
        await bench.run(takes=takes)
        assert bench.replayed == kept
    async with against(Upstream(CREATED, REJECTED)) as bench:
        await bench.fails(takes=takes)
        assert bench.replayed == forgotten


async def test_an_error_whose_body_hangs_is_soon_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ERROR_BODY_S", 0.05)
    upstream = Upstream(b'{"error"', status=503, kind="application/json", hang=True)
    async with against(upstream) as bench:
        failed = await bench.fails(total_s=30)
        assert (failed.again, failed.error.kind) == ("next", ErrorKind.UPSTREAM_UNAVAILABLE)


async def test_keys_that_an_upstream_quotes_are_not_told() -> None:
    quoted = b'{"error": {"message": "bad request with top-secret-key"}}'
    failed = event("response.failed", response={"error": {"code": "x", "message": "top-secret-key!"}})
    async with against(Upstream(quoted, status=400, kind="application/json")) as bench:
        assert (await bench.fails()).error.message == "bad request with [redacted]"
    async with against(Upstream(failed)) as bench:
        assert (await bench.fails()).error.message == "[redacted]!"
    upstream = Upstream(CREATED + ADDED + DELTA, failed)
    async with against(upstream) as bench:
        upstream.heard = bench.heard
        result, _ = await bench.run()
        assert result.error is not None
        assert result.error.message == "[redacted]!"


async def test_noise_without_end_is_no_answer() -> None:
    noise = b": x\n\n" * (attempts.MAX_HELD + 2)
    async with against(Upstream(noise, hang=True)) as bench:
        failed = await bench.fails()
        assert (failed.again, "over and over" in failed.error.message) == ("next", True)


async def test_noise_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_ANSWER_BYTES", 1000)
    async with against(Upstream(CREATED, *[b": %b\n\n" % (b"x" * 400)] * 3, hang=True)) as bench:
        failed = await bench.fails()
        assert (failed.again, failed.error.kind) == ("next", ErrorKind.UPSTREAM_PROTOCOL)
        assert failed.error.message == "Upstream one answered with more than 1000 bytes"


async def test_a_stream_without_end_ends_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MAX_ANSWER_BYTES", 1000)
    monkeypatch.setattr(attempts, "MAX_STREAM_BYTES", 3000)
    more = event("response.output_text.delta", output_index=0, delta="x" * 1500)
    upstream = Upstream(CREATED + ADDED + DELTA, more, more, hang=True)
    async with against(upstream) as bench:
        upstream.heard = bench.heard
        result, _ = await bench.run()
        assert result.error is not None
        assert result.error.kind == ErrorKind.UPSTREAM_PROTOCOL
        assert result.error.message == "Upstream one answered with more than 3000 bytes"


@pytest.mark.parametrize(
    "body",
    [
        event("response.created", response={})[:-2] + b"," + b"[]," * 3_000_000 + b"\n\n",
        b'data: {"type":"response.created","response":' + b"[" * 100_000 + b"\n\n",
        b'data: {"type":"response.output_text.delta","delta":"\xff\xfe"}\n\n',
    ],
    ids=["rich", "deep", "no UTF-8"],
)
async def test_what_cannot_be_decoded_costs_the_attempt_alone(body: bytes) -> None:
    async with against(Upstream(body)) as bench:
        failed = await bench.fails()
        assert (failed.again, failed.error.kind) == ("next", ErrorKind.UPSTREAM_PROTOCOL)


async def test_a_decoder_that_stumbles_behind_content_ends_the_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(self: Lane, events: Sequence[SseEvent], seq: int, into: list[Frame]) -> None:
        sound = list(itertools.takewhile(lambda event: b"later" not in event.raw, events))
        self._decoder.feed_all(sound, seq, into)
        if len(sound) < len(events):
            raise RecursionError

    monkeypatch.setattr(Lane, "feed", stumble)
    upstream = Upstream(CREATED + ADDED + DELTA, b"data: later\n\n", COMPLETED)
    async with against(upstream) as bench:
        upstream.heard = bench.heard
        result, _ = await bench.run()
        assert result.text == "Hi"
        assert result.error is not None
        assert result.error.kind == ErrorKind.UPSTREAM_PROTOCOL


async def test_a_decoder_that_stumbles_at_the_end_ends_the_turn() -> None:
    """What another item said waits for the open one, and makes no sense when it is its turn."""
    waiting = event("response.output_item.added", output_index=1, item=None)
    async with against(Upstream(CREATED + ADDED + DELTA, waiting)) as bench:
        result, _ = await bench.run()
        assert result.text == "Hi"
        assert result.error is not None
        assert result.error.kind == ErrorKind.UPSTREAM_PROTOCOL


async def test_rejected_reasoning_is_left_out_once() -> None:
    async with against(Upstream(CREATED, REJECTED)) as bench:
        failed = await bench.fails()
        assert failed.again == "fresh"
        assert [fault and fault.signature for fault in bench.lane.concluded] == [True]
        assert (await bench.fails(gives_back=False)).again == "no", "there is nothing to leave out"
        assert bench.rests_s() == 0


async def test_nobody_there_moves_on_and_may_be_asked_again() -> None:
    async with against(Upstream()) as bench:
        bench.port = 1
        failed = await bench.fails()
        assert (failed.again, failed.or_again, failed.error.kind) == (
            "next",
            True,
            ErrorKind.UPSTREAM_UNAVAILABLE,
        )


async def test_who_is_asked_elsewhere_does_not_rest() -> None:
    async with against(Upstream()) as bench:
        bench.port = 1
        failed = await bench.fails(elsewhere=True)
        assert (failed.again, bench.rests_s()) == ("next", 0)


@pytest.mark.parametrize("hang", [True, False])
async def test_an_answer_that_has_said_its_end_may_end_as_it_likes(hang: bool) -> None:
    """The lane is asked what it makes of it; it has the last word."""
    upstream = Upstream(CREATED + ADDED + DELTA, hang=hang, **({} if hang else {"content-length": "5000"}))
    async with against(upstream) as bench:
        result, _ = await bench.run(finished=True)
        assert result.error is not None
        assert result.error.kind == ErrorKind.UPSTREAM_EOF
    upstream = Upstream(CREATED + ADDED + DELTA, hang=hang, **({} if hang else {"content-length": "5000"}))
    async with against(upstream) as bench:
        result, _ = await bench.run()
        assert result.error is not None
        assert result.error.kind == (ErrorKind.UPSTREAM_TIMEOUT if hang else ErrorKind.UPSTREAM_EOF), (
            "one that has not may not"
        )


async def test_an_answer_may_be_held_until_its_end() -> None:
    upstream = Upstream(CREATED + ADDED + DELTA, DONE + COMPLETED)
    async with against(upstream) as bench:
        result, bursts = await bench.run(hold=True)
        assert (result.text, len(bursts)) == ("Hi", 1)
    async with against(Upstream(CREATED + ADDED + DELTA + DONE, OVERLOADED)) as bench:
        assert (await bench.fails(hold=True)).again == "next", "nobody has seen what was said before"


async def test_a_request_that_cannot_be_made_is_the_clients() -> None:
    async with against(Upstream()) as bench:
        failed = await bench.fails(refuse=InvalidRequest("no"))
        assert (failed.again, failed.error.kind) == ("no", ErrorKind.INVALID_REQUEST)


async def test_a_request_that_has_no_key_moves_on_and_rests_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with against(Upstream()) as bench:
        failed = await bench.fails(refuse=UpstreamUnavailable("no key"))
        assert (failed.again, bench.rests_s()) == ("next", 0)
    assert not any(record.message == "upstream.cooling" for record in caplog.records)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 10),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, 0),
        ({"retry-after": "1e99"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Mon, 01 Jan 99999999999 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_a_wait_has_several_forms(headers: dict[str, str], wait: float | None) -> None:
    clock = FakeClock()
    found = retry_after_s(headers, clock)
    if wait == 10:
        assert found == max(0.0, 10 - clock.now_ms() / 1000)
    else:
        assert found == wait
