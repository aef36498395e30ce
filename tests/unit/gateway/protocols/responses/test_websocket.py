"""Responses over WebSockets: the application on a real server, a client like Codex, and scripted turns."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from gateway.access.keys import ApiKey, KeyRing
from gateway.access.tiers import Tiers
from gateway.app import build_app
from gateway.kernel.errors import ErrorKind, QueueTimeout
from gateway.kernel.json import dumps
from gateway.protocols.http import EdgeLimits
from gateway.server import websocket
from gateway.turn.events import (
    ErrorInfo,
    ItemDone,
    ItemStarted,
    TextDelta,
    TurnCancelled,
    TurnCompleted,
    TurnFailed,
)
from gateway.turn.frame import Burst, Frame
from gateway.turn.items import Message, TextPart
from gateway.turn.request import Turn
from tests.support.clients import until
from tests.support.edge import STARTED, FakeDeps, FakeEngine, burst, saying, serving, text_events
from tests.support.responses_schema import validate_response
from tests.support.sockets import LIMIT, Answer, Talk, refusal, talking, user

CODEX = "codex_cli_rs/0.130.0 (Linux)"


@pytest.fixture(autouse=True)
def sound_server() -> None:
    websocket.apply()


@contextlib.asynccontextmanager
async def talk(deps: FakeDeps, **options: Any) -> AsyncIterator[Talk]:
    async with serving(build_app(deps)) as url, talking(url, **options) as talk:
        yield talk


class Slow:
    """Turns that say a word, and the rest when the test lets them."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)

    async def __call__(self, turn: Turn) -> AsyncIterator[Burst]:
        started, opened, first, *rest = text_events("so ", "it is")
        yield burst(started, opened, first)
        await self.gate.acquire()
        yield burst(*rest)


def inputs(deps: FakeDeps) -> list[Any]:
    """What each turn was asked, as a same-dialect upstream would get it."""
    return [turn.raw.body["input"] for turn in deps.engine.turns]


def words(items: Any) -> list[str]:
    return [part["text"] for item in items for part in item["content"]]


async def at_rest(deps: FakeDeps) -> None:
    """No connection is left, and every turn was closed."""
    await until(lambda: deps.sockets.counts.open == 0, "every connection to end")
    for run in deps.engine.runs:
        assert run.closed.is_set()


# -- the handshake ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_both_paths_are_served(path: str) -> None:
    async with talk(FakeDeps(), path=path, x_request_id="req-7") as on:
        assert on.socket.response is not None
        assert on.socket.response.headers["x-request-id"] == "req-7"
        (await on.ask("hello")).valid()


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
async def test_cv_26_switched_off_it_is_refused_with_426(path: str) -> None:
    """CV-26. Given an upgrade: 426, so that Codex sends its next request over HTTP at once."""
    deps = FakeDeps(keys="good")
    deps.sockets = msgspec.structs.replace(deps.sockets, enabled=False)
    async with serving(build_app(deps)) as url:
        status, body, headers = await refusal(url, path=path)
    assert (status, body["error"]["code"]) == (426, "websocket_not_supported")
    assert headers["content-type"] == "application/json"


async def test_a_key_is_asked_for_as_over_http() -> None:
    deps = FakeDeps(keys="good")
    async with serving(build_app(deps)) as url:
        for headers in ({}, {"authorization": "Bearer bad"}):
            status, body, _ = await refusal(url, **headers)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        async with talking(url, key="good") as on:
            assert (await on.ask("hello")).text == "hi"


async def test_a_page_of_another_host_is_refused() -> None:
    async with serving(build_app(FakeDeps())) as url:
        status, body, _ = await refusal(url, origin="https://evil.example")
        assert (status, body["error"]["code"]) == (403, "foreign_origin")
        async with talking(url, origin=url) as on:
            assert (await on.ask("hello")).text == "hi"


async def test_a_replica_that_stops_takes_no_new_connection() -> None:
    deps = FakeDeps()
    await deps.lobby.drain()
    async with serving(build_app(deps)) as url:
        status, body, headers = await refusal(url)
    assert (status, body["error"]["code"]) == (503, "service_unavailable")
    assert headers["retry-after"] == "1"


async def test_a_server_that_cannot_refuse_with_a_status_closes() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/v1/responses", "headers": [], "http_version": "1.1"}
    scope |= {"query_string": b"", "root_path": ""}
    await build_app(FakeDeps(keys="good"))(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_cv_64_a_handshake_and_nothing_more_leaves_nothing_behind() -> None:
    """CV-64. Given the doctor's WebSocket without a frame: no error, no leaked connection."""
    deps = FakeDeps()
    async with talk(deps):
        assert deps.sockets.counts.open == 1
    await at_rest(deps)
    assert deps.sockets.counts.closed == {"client": 1}


# -- turns ------------------------------------------------------------------------------------------------


async def test_a_turn_is_the_stream_of_http_frame_by_frame() -> None:
    deps = FakeDeps(FakeEngine(saying(*text_events("A", "B"))))
    async with talk(deps) as on:
        answer = await on.ask("hello", stream=False)
    assert answer.valid().text == "AB"
    assert "event:" not in "".join(answer.frames)
    (turn,) = deps.engine.turns
    assert turn.stream
    assert turn.raw.body == {"model": "m", "input": "hello", "stream": True}


async def test_binary_messages_are_read() -> None:
    async with talk(FakeDeps()) as on:
        await on.socket.send(dumps({"type": "response.create", "model": "m", "input": "x"}))
        assert (await on.answer()).text == "hi"


async def test_an_upstreams_own_events_go_out_byte_for_byte() -> None:
    raw = [
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"r1","model":"up"}}\n\n',
        b'event: odd\ndata: { "type" : "odd",\t"n": 1.0 }\n\n',
        b'data: {"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"m1",'
        b'"role":"assistant","content":[{"type":"output_text","text":"yes"}]}}\n\n',
        b'data: {"type":"response.completed","response":{"id":"r1","model":"up","output":[]}}\n\n',
    ]
    item = Message(role="assistant", parts=(TextPart("yes"),))
    events: list[Any] = [(STARTED,), (), (ItemStarted(0, "message", "m1"), ItemDone(0, item))]
    events.append((TurnCompleted("stop"),))

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield [Frame(said, data, "responses", 1) for said, data in zip(events, raw, strict=True)]

    deps = FakeDeps(FakeEngine(script))
    async with talk(deps) as on:
        answer = await on.turn("go")
        assert answer.frames[1] == '{ "type" : "odd",\t"n": 1.0 }'
        assert answer.events[0]["response"] == {"id": "r1", "model": "m"}
        await on.turn("more")
    assert [item.get("id") for item in inputs(deps)[1]] == [None, "m1", None]


async def test_cv_31_rp_91_the_conversation_goes_on() -> None:
    """CV-31, RP-91. Given a create that names the response before: its input, our items, then what is new."""
    deps = FakeDeps()
    async with talk(deps) as on:
        first = await on.turn("one")
        second = await on.turn("two")
        await on.turn("three", model=None)
    assert second.last["response"]["previous_response_id"] == first.last["response"]["id"]
    assert [words(given) for given in inputs(deps)] == [
        ["one"],
        ["one", "hi", "two"],
        ["one", "hi", "two", "hi", "three"],
    ]
    assert inputs(deps)[1][1] == first.items[0]
    for turn in deps.engine.turns:
        assert (turn.model, "previous_response_id" in turn.raw.body) == ("m", False)


async def test_cv_30_rp_93_a_prewarm_asks_nobody_and_can_be_gone_on_with() -> None:
    """CV-30, RP-93. Given `generate: false`: two frames, no output, no upstream call, an id that chains."""
    deps = FakeDeps()
    async with talk(deps) as on:
        warm = await on.turn(user("base"), generate=False)
        assert warm.types == ["response.created", "response.completed"]
        validate_response(warm.response)
        assert warm.response["output"] == []
        assert warm.response["usage"]["total_tokens"] == 0
        assert deps.engine.turns == []
        empty = await on.ask([], generate=False)
        assert empty.response["id"] != warm.response["id"]
        on.previous = empty.response["id"]
        await on.turn("go")
        await on.ask([user("base")], generate=False)
    assert [words(given) for given in inputs(deps)] == [["go"]]
    assert deps.sockets.counts.messages == {"prewarm": 3, "create": 1}


async def test_what_a_prewarm_was_given_is_part_of_the_conversation() -> None:
    deps = FakeDeps()
    async with talk(deps) as on:
        await on.turn(user("base"), generate=False)
        await on.turn("go")
    assert [words(given) for given in inputs(deps)] == [["base", "go"]]


async def test_rp_92_a_request_of_its_own_is_not_merged() -> None:
    """RP-92. Given a second create without a former response: its input is used as it is."""
    deps = FakeDeps()
    async with talk(deps) as on:
        await on.turn("one")
        await on.ask([user("else")])
    assert words(inputs(deps)[1]) == ["else"]


@pytest.mark.parametrize("known", [False, True])
async def test_cv_32_an_unknown_response_ends_the_connection(known: bool) -> None:
    """CV-32. Given an unknown previous_response_id: a frame that makes clients connect anew, and a close."""
    deps = FakeDeps()
    async with talk(deps) as on:
        if known:
            await on.turn("one")
        answer = await on.ask([user("two")], previous_response_id="resp_of_another_life")
        assert answer.error == (400, LIMIT, "previous_response_id")
        assert (await on.closed())[0] == 1000
    await at_rest(deps)
    assert len(deps.engine.turns) == known
    assert deps.sockets.counts.closed == {"chain": 1}


@pytest.mark.parametrize("named", [{"response_id": "{known}"}, {"response_id": "resp_x"}, {}])
async def test_cv_41_43_processed_is_not_answered(named: dict[str, str]) -> None:
    """CV-41, CV-43. Given response.processed for a known, an unknown or no response, twice: no frame, the
    connection stays, the counter goes up; and the next create still goes on from the response.
    """
    deps = FakeDeps()
    async with talk(deps) as on:
        await on.send(type="response.processed", **named)
        await on.turn("one")
        frame = {key: value.format(known=on.previous) for key, value in named.items()}
        for _ in range(2):
            await on.send(type="response.processed", **frame)
        answer = await on.turn("two")
        assert answer.types[0] == "response.created"
    assert words(inputs(deps)[1]) == ["one", "hi", "two"]
    assert deps.sockets.counts.messages["processed"] == 3


async def test_cv_65_headers_and_messages_name_the_same_thread() -> None:
    """CV-65. Given a thread named in the handshake, in a message, or as a cache key: the same affinity."""
    found = []
    for headers, fields in (
        ({"thread_id": "t1"}, {}),
        ({"session_id": "t1"}, {}),
        ({}, {"prompt_cache_key": "t1"}),
        ({}, {"client_metadata": {"x-codex-turn-metadata": '{"thread_id":"t1"}'}}),
    ):
        deps = FakeDeps()
        async with talk(deps, user_agent=CODEX, **headers) as on:
            await on.ask("x", **fields)
        found += [turn.user for turn in deps.engine.turns]
    assert found == ["t1"] * 4


async def test_what_a_message_says_in_place_of_headers_is_of_its_turn() -> None:
    deps = FakeDeps()
    async with talk(deps, x_codex_window_id="w:0", x_api_key="secret") as on:
        await on.turn("one", client_metadata={"x-codex-window-id": "w:1"})
        await on.turn("two")
    first, second = (turn.headers for turn in deps.engine.turns)
    assert (first["x-codex-window-id"], second["x-codex-window-id"]) == ("w:1", "w:0")
    assert "x-api-key" not in first


# -- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "param"),
    [
        ("nope", None),
        ("[]", None),
        ('{"input":"x"}', "type"),
        ('{"type":"response.steer"}', "type"),
        ('{"type":"response.create","input":"x"}', "model"),
        ('{"type":"response.create","model":"m"}', "input"),
        ('{"type":"response.create","model":"m","input":[]}', "input"),
        ('{"type":"response.create","model":"m","input":"x","temperature":3}', "temperature"),
        ('{"type":"response.create","model":"m","input":"x","background":true}', "background"),
        ('{"type":"response.create","model":"m","input":"x","tools":7}', "tools"),
        ('{"type":"response.create","model":7,"input":"x","generate":false}', "model"),
    ],
)
async def test_what_is_wrong_is_told_and_the_connection_stays(frame: str, param: str | None) -> None:
    deps = FakeDeps()
    async with talk(deps) as on:
        await on.socket.send(frame)
        answer = await on.answer()
        assert (answer.last["status"], answer.last["error"]["param"]) == (400, param)
        assert (await on.ask("hello")).text == "hi"
    assert deps.sockets.counts.messages == {"refused": 1, "create": 1}


async def test_a_lane_is_refused_on_itself() -> None:
    async with talk(FakeDeps()) as on:
        answer = await on.ask("x", stream_id="lane-1")
        assert answer.error == (400, "invalid_stream_id", "stream_id")
        assert answer.last["stream_id"] == "lane-1"


async def test_items_at_fault_are_counted_as_the_client_did() -> None:
    async with talk(FakeDeps()) as on:
        await on.turn("one")
        answer = await on.turn("two", {"type": "message", "role": "nobody", "content": "x"})
        assert answer.error[2] == "input.1.role"
        assert "input.1.role" in answer.last["error"]["message"]
        assert (await on.turn("two")).text == "hi", "what was said before is still known"


async def test_a_model_that_the_key_may_not_use_is_not_found() -> None:
    deps = FakeDeps()
    deps.tiers = Tiers(KeyRing([ApiKey(digest=ApiKey.of("k").digest, models=("other",))]))
    async with talk(deps, key="k") as on:
        for generate in (True, False):
            answer = await on.ask("x", generate=generate)
            assert answer.error == (400, "model_not_found", "model")
        assert (await on.ask("x", model="other")).text == "hi"


async def test_cv_66_a_message_above_the_limit_is_told_so() -> None:
    """CV-66. Given a message above the limit: an error frame with 400, no close with 1009."""
    deps = FakeDeps(limits=EdgeLimits(max_body_bytes=1000))
    async with talk(deps) as on:
        for size in (1000, 500_000):
            answer = await on.ask("é" * size)
            assert answer.error == (400, "request_too_large", None)
        first = await on.turn("x" * 400)
        assert first.text == "hi"
        answer = await on.turn("y" * 400)
        assert answer.error == (400, "request_too_large", "input"), "the conversation is, with it"


def refused_with(error: Exception) -> FakeEngine:
    async def script(_: Turn) -> AsyncIterator[Burst]:
        raise error
        yield []

    return FakeEngine(script)


BUSY = QueueTimeout("No capacity became free in time", retry_after_s=1.5)


async def test_a_failure_before_content_has_its_status() -> None:
    async with talk(FakeDeps(refused_with(BUSY))) as on:
        for _ in range(2):
            answer = await on.ask("x")
            assert answer.error == (429, "queue_timeout", None)
            assert answer.last["headers"]["retry-after"] == "2"
            assert {"x-turn-id", "x-request-id"} <= answer.last["headers"].keys()


async def test_codex_is_told_of_it_in_its_own_words() -> None:
    """Some releases give up on a 429 frame, and all wait as long as this one says."""
    async with talk(FakeDeps(refused_with(BUSY)), user_agent=CODEX) as on:
        answer = await on.ask("x")
        assert answer.last["type"] == "response.failed"
        error = answer.response["error"]
        assert (error["code"], "try again in 1.5s" in error["message"]) == ("rate_limit_exceeded", True)


async def test_what_codex_cannot_mend_is_a_400_for_it_too() -> None:
    wrong = ErrorInfo(kind=ErrorKind.INVALID_REQUEST, message="no such thing")
    async with talk(FakeDeps(FakeEngine(saying(STARTED, TurnFailed(wrong)))), user_agent=CODEX) as on:
        assert (await on.ask("x")).error[0] == 400


@pytest.mark.parametrize(
    "end",
    [
        TurnFailed(ErrorInfo(kind=ErrorKind.WORKER_LOST, message="gone", retryable=True)),
        TurnCancelled("drain"),
    ],
)
async def test_a_failure_behind_content_ends_the_response(end: Any) -> None:
    script = saying(*text_events("half")[:3], ItemDone(0, Message(role="assistant", parts=())), end)
    deps = FakeDeps(FakeEngine(script))
    async with talk(deps) as on:
        answer = await on.ask("x")
        assert answer.valid().response["status"] == "failed"
        again = await on.ask("y", previous_response_id=answer.response["id"])
        assert again.error[1] == LIMIT, "what failed is not gone on with"


async def test_a_defect_ends_the_connection_legally(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeEngine):
        def run_turn(self, turn: Turn) -> Any:
            raise RuntimeError("on purpose")

    deps = FakeDeps(Broken())
    async with talk(deps) as on:
        await on.create("x")
        assert (await on.closed())[0] == 1011
    await at_rest(deps)


# -- one after the other ----------------------------------------------------------------------------------


async def test_requests_are_answered_in_their_order() -> None:
    slow = Slow()
    deps = FakeDeps(FakeEngine(slow))
    async with talk(deps) as on:
        for name in ("one", "two", "three"):
            await on.create(name)
        await until(lambda: deps.engine.runs, "the first turn")
        for number in (1, 2, 3):
            assert len(deps.engine.turns) <= number
            slow.gate.release()
            assert (await on.answer()).text == "so it is"
    assert inputs(deps) == ["one", "two", "three"]


async def test_requests_beyond_those_that_may_wait_are_refused_in_their_turn() -> None:
    slow = Slow()
    deps = FakeDeps(FakeEngine(slow))
    async with talk(deps) as on:
        await on.create("first")
        await until(lambda: deps.engine.runs, "the first turn")
        for number in range(10):
            await on.create(f"{number}")
        answers: list[Answer] = []
        for _ in range(11):
            slow.gate.release()
            answers.append(await on.answer())
    assert [answer.text for answer in answers[:9]] == ["so it is"] * 9
    assert [answer.error[1] for answer in answers[9:]] == ["too_many_waiting_requests"] * 2


async def test_a_client_that_floods_is_cut() -> None:
    deps = FakeDeps(FakeEngine(Slow()))
    async with talk(deps) as on:
        await on.create("first")
        await until(lambda: deps.engine.runs, "the first turn")
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):
                await on.create("more")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await on.socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    await at_rest(deps)
    assert deps.engine.runs[0].cut
    assert deps.sockets.counts.closed == {"flood": 1}


# -- the life of a connection -----------------------------------------------------------------------------


@pytest.mark.parametrize("politely", [True, False])
async def test_a_client_that_leaves_stops_its_turn(politely: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    deps = FakeDeps(FakeEngine(Slow()))
    async with talk(deps) as on:
        await on.create("x")
        await on.socket.recv()
        if politely:
            await on.socket.close()
        else:
            on.socket.transport.abort()
        await at_rest(deps)
    assert deps.engine.runs[0].cut
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert "websocket.closed" in caplog.messages


async def test_a_silent_turn_is_kept_alive_with_events() -> None:
    slow = Slow()
    deps = FakeDeps(FakeEngine(slow), limits=EdgeLimits(first_byte_hold_s=0.02, keepalive_s=0.03))
    async with talk(deps) as on:
        await on.create("x")
        seen: list[str] = []
        while '"type":"keepalive"' not in "".join(seen[-1:]):
            seen.append(await on.socket.recv(decode=True))
        slow.gate.release()
        rest = await on.answer()
    assert Answer([*seen, *rest.frames]).valid().text == "so it is"


async def test_an_old_connection_is_closed_when_nothing_runs() -> None:
    slow = Slow()
    deps = FakeDeps(FakeEngine(slow))
    deps.sockets = msgspec.structs.replace(deps.sockets, max_age_s=0.1)
    async with serving(build_app(deps)) as url:
        async with talking(url) as idle:
            assert (await idle.closed())[0] == 1000
        async with talking(url) as busy:
            await busy.create("x")
            await busy.create("y")
            await busy.socket.recv()
            await asyncio.sleep(0.15)
            slow.gate.release()
            assert (await busy.answer()).text == "so it is"
            assert (await busy.answer()).error[1] == LIMIT, "and what waits is sent to another one"
            assert (await busy.closed())[0] == 1000
    await at_rest(deps)
    assert deps.sockets.counts.closed == {"age": 2}


async def test_cv_67_a_replica_that_stops_ends_the_response_first() -> None:
    """CV-67. Given a shutdown during a response: it ends, then the connection closes; idle ones at once."""
    slow = Slow()
    deps = FakeDeps(FakeEngine(slow))
    async with serving(build_app(deps)) as url, talking(url) as idle, talking(url) as busy:
        await busy.create("x")
        await busy.socket.recv()
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(deps.lobby.drain())
            assert (await idle.closed())[0] == 1012
            assert not draining.done(), "the other is waited for"
            slow.gate.release()
            assert (await busy.answer()).text == "so it is"
            assert (await busy.closed())[0] == 1012
    await at_rest(deps)
    assert deps.sockets.counts.closed == {"drain": 2}


async def test_a_client_that_does_not_read_is_given_up() -> None:
    many = [TextDelta(0, secrets.token_hex(25_000)) for _ in range(600)]

    async def script(_: Turn) -> AsyncIterator[Burst]:
        yield burst(STARTED, ItemStarted(0, "message", "m"))
        for event in many:
            yield burst(event)
        await asyncio.Event().wait()

    deps = FakeDeps(FakeEngine(script), limits=EdgeLimits(send_deadline_s=0.2))
    async with talk(deps) as on:
        on.socket.transport.pause_reading()
        await on.create("x")
        await at_rest(deps)
        on.socket.transport.abort()
    assert deps.engine.runs[0].cut
    assert deps.sockets.counts.closed == {"stalled": 1}
