from typing import Any

import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.turn.ports import Call
from gateway.upstreams.asking import secrets_of, upstream_request
from gateway.upstreams.http import UpstreamRequest
from gateway.upstreams.pool import credentials_of
from tests.support.codex import chat, config_of

NOW_MS = 1_000_000


def asked(
    *,
    streams: bool,
    left_ms: int = 9000,
    headers: dict[str, str] | None = None,
    body: Any = None,
) -> UpstreamRequest:
    turn = chat({"role": "user", "content": "hi"})
    call = Call(turn=turn, model="m", account="one", attempt=1, deadline_ms=NOW_MS + left_ms, queue_until=0)
    config = config_of("http://up", proxy="http://proxy:1")
    return upstream_request(
        config,
        call,
        url="http://up/x",
        body=body or {},
        headers=headers or {},
        secrets=(),
        streams=streams,
        now_ms=NOW_MS,
    )


def test_a_stream_is_asked_for_and_begins_in_time() -> None:
    made = asked(streams=True)
    assert (made.upstream, made.url, made.body, made.proxy) == (
        "openai",
        "http://up/x",
        b"{}",
        "http://proxy:1",
    )
    assert made.headers == {"Content-Type": "application/json", "Accept": "text/event-stream"}
    assert (made.limits.connect_s, made.limits.first_byte_s, made.limits.idle_s) == (2, 5, 5)
    assert made.total_s == pytest.approx(9)


def test_a_whole_answer_may_take_all_the_time() -> None:
    made = asked(streams=False)
    assert made.headers["Accept"] == "application/json"
    assert made.limits.first_byte_s == made.total_s == pytest.approx(9)


def test_a_deadline_that_has_passed_leaves_nothing() -> None:
    assert asked(streams=True, left_ms=-5).total_s == 0


def test_what_the_dialect_says_goes_over_what_all_say() -> None:
    made = asked(streams=True, headers={"Accept": "x/y", "Authorization": "Bearer k"})
    assert made.headers == {"Content-Type": "application/json", "Accept": "x/y", "Authorization": "Bearer k"}


def test_what_nobody_else_may_read() -> None:
    """Of all credentials: an upstream may know several of them."""
    described = [
        {"id": "one", "api_key": "long-secret", "headers": {"x-org": "org", "x-k": "abcdef"}},
        {"id": "two", "api_key_env": "UNSET"},
        {"id": "three", "api_key": "third-key"},
    ]
    credentials = credentials_of(config_of("http://up", credentials=described), {})
    assert set(secrets_of(credentials.values())) == {
        "Bearer long-secret",
        "long-secret",
        "abcdef",
        "Bearer third-key",
        "third-key",
    }
    assert secrets_of(credentials.values())[0] == "Bearer long-secret", "the longest first"


def test_what_is_nested_too_deep_to_be_written_is_the_clients() -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(InvalidRequest):
        asked(streams=True, body=deep)
