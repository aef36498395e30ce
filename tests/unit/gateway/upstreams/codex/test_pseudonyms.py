from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.json import JsonObject, dumps, loads
from gateway.upstreams.codex.pseudonyms import Pseudonyms, pseudonym
from gateway.wire.sse import SseEvent, write_event
from tests.support.codex import bench, chat, responses

METADATA = '{"session_id":"s-1","turn_id":"t-1","window_id":"s-1:0","sandbox":"none"}'
SENT: JsonObject = {
    "model": "m",
    "input": "s-1 and t-1",
    "prompt_cache_key": "s-1",
    "user": "u-1",
    "client_metadata": {
        "x-codex-installation-id": "i-1",
        "x-codex-window-id": "s-1:0",
        "turn_id": "t-1",
        "x-codex-turn-metadata": METADATA,
        "other": "o-1",
    },
}


def test_rp_36_a_pseudonym_is_that_of_home_nodes() -> None:
    """RP-36. Given kind `prompt-cache`, credential `auth-1` and value `pk-1`, expect
    `0aec5252-5865-5d1d-89b7-ef8e9c2bd8f1`.
    """
    assert pseudonym("prompt-cache", "auth-1", "pk-1") == "0aec5252-5865-5d1d-89b7-ef8e9c2bd8f1"
    others = {pseudonym("turn", "auth-1", "pk-1"), pseudonym("prompt-cache", "auth-2", "pk-1")}
    assert len({pseudonym("prompt-cache", "auth-1", "pk-1"), *others}) == 3


def test_ids_are_told_as_others_wherever_they_stand_and_nothing_else_is() -> None:
    told: Any = Pseudonyms("one").in_body(SENT)
    session = pseudonym("prompt-cache", "one", "s-1")
    turn, window = pseudonym("turn", "one", "t-1"), pseudonym("window", "one", "s-1:0")
    metadata = told["client_metadata"]
    assert told == {**SENT, "prompt_cache_key": session, "client_metadata": metadata}
    assert loads(metadata.pop("x-codex-turn-metadata")) == {
        "session_id": session,
        "turn_id": turn,
        "window_id": window,
        "sandbox": "none",
    }
    assert metadata == {
        "x-codex-installation-id": pseudonym("installation", "one", "i-1"),
        "x-codex-window-id": window,
        "turn_id": turn,
        "other": "o-1",
    }


def test_headers_name_the_same() -> None:
    given = {
        "session-id": "s-1",
        "Session-Id": "s-1",
        "x-codex-window-id": "s-1:0",
        "originator": "codex_exec",
    }
    session, window = pseudonym("prompt-cache", "one", "s-1"), pseudonym("window", "one", "s-1:0")
    told = Pseudonyms("one").in_headers({**given, "x-codex-turn-metadata": METADATA})
    assert "s-1" not in told.pop("x-codex-turn-metadata")
    assert told == {**given, "session-id": session, "Session-Id": session, "x-codex-window-id": window}


@pytest.mark.parametrize("odd", ["{", "[]", "7", '"s-1"'])
def test_metadata_that_nobody_can_read_is_not_told(odd: str) -> None:
    subject = Pseudonyms("one")
    assert subject.in_headers({"x-codex-turn-metadata": odd}) == {}
    body: JsonObject = {"client_metadata": {"x-codex-turn-metadata": odd, "a": None}}
    assert subject.in_body(body) == {"client_metadata": {"a": None}}


@pytest.mark.parametrize(
    "body", [{}, {"prompt_cache_key": None}, {"client_metadata": {"a": "b"}}, {"user": "u"}]
)
def test_a_body_without_ids_stays_the_same_object(body: JsonObject) -> None:
    assert Pseudonyms("one").in_body(body) is body


@given(st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_answers_have_the_clients_own_again(session: str, turn: str) -> None:
    subject = Pseudonyms("one")
    told = subject.in_body({"prompt_cache_key": session, "client_metadata": {"turn_id": turn}})
    data = dumps({"type": "response.created", "response": told})
    event = subject.in_event(SseEvent(write_event(data), data))
    assert loads(event.data or b"") == {
        "type": "response.created",
        "response": {"prompt_cache_key": session, "client_metadata": {"turn_id": turn}},
    }
    assert event.raw == write_event(event.data or b"")


def test_an_event_that_repeats_none_is_the_same() -> None:
    subject = Pseudonyms("one")
    subject.in_body(SENT)
    event = SseEvent(b"data: {}\n\n", b"{}")
    assert subject.in_event(event) is event


@pytest.mark.parametrize("stream", [True, False])
async def test_the_upstream_is_told_pseudonyms_and_its_client_none(stream: bool) -> None:
    turn = responses("hi", prompt_cache_key="mine", headers={"session_id": "mine"}, stream=stream)
    async with bench(pseudonyms=True, isolation="shared") as subject:
        frames = await subject.frames(turn)
        asked = subject.server.requests[-1]
    told = pseudonym("prompt-cache", "one", "mine")
    assert asked.body["prompt_cache_key"] == asked.headers["session_id"] == told
    answer = b"".join(frame.raw or b"".join(frame.raws) for frame in frames)
    assert b'"prompt_cache_key":"mine"' in answer
    assert told.encode() not in answer


@pytest.mark.parametrize("isolation", ["tenant", "shared"])
async def test_an_id_is_the_same_wherever_it_stands_and_another_for_another_tenant(isolation: str) -> None:
    metadata = {
        "session_id": "s-1",
        "parent_thread_id": "s-1",
        "x-codex-turn-metadata": '{"thread_id":"s-1"}',
    }
    headers = {"session_id": "s-1", "thread-id": "s-1", "x-codex-parent-thread-id": " s-1 "}
    told: dict[str, set[str]] = {}
    async with bench(pseudonyms=True, isolation=isolation) as subject:
        for tenant in ("a", "b"):
            turn = responses("hi", prompt_cache_key="s-1", client_metadata=metadata, headers=headers)
            frames = await subject.frames(msgspec.structs.replace(turn, tenant=tenant))
            asked = subject.server.requests[-1]
            given = dict(asked.body["client_metadata"])
            nested: Any = loads(given.pop("x-codex-turn-metadata"))
            told[tenant] = {
                asked.body["prompt_cache_key"],
                *given.values(),
                *nested.values(),
                *(asked.headers[name] for name in headers),
            }
            answer = b"".join(frame.raw or b"".join(frame.raws) for frame in frames)
            assert b'"prompt_cache_key":"s-1"' in answer
    assert [len(ids) for ids in told.values()] == [1, 1]
    assert (told["a"] == told["b"]) is (isolation == "shared")


async def test_each_credential_has_its_own_and_keeps_it() -> None:
    async with bench(pseudonyms=True) as subject:
        keys = []
        for account in ("one", "one", "two"):
            await subject.ask(chat({"role": "user", "content": "hi"}), account=account)
            keys.append(subject.last["prompt_cache_key"])
    assert keys[0] == keys[1] != keys[2]
