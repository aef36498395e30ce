"""What an attempt asks of its upstream, without one."""

from typing import Any

import pytest

from gateway.kernel.clock import FakeClock
from gateway.kernel.errors import InvalidRequest, UpstreamUnavailable
from gateway.kernel.json import dumps, loads
from gateway.turn.ports import AttemptFailed
from gateway.turn.request import Turn
from gateway.upstreams.antigravity.lane import AntigravityLane, LaneParts
from gateway.upstreams.http import UpstreamRequest
from gateway.upstreams.pool import credentials_of
from gateway.wire.sse import SseEvent
from tests.fakes.antigravity_brain import Reply, error, limited
from tests.support.antigravity import call_of, config_for, gemini_turn
from tests.support.signature_chains import gemini_signature, model, text, user

CLOCK = FakeClock()
BODY: Any = {"contents": [user("hi")]}


def lane(turn: Turn | None = None, *, last: bool = True, config: Any = None, **call: Any) -> AntigravityLane:
    upstream = config_for("https://gem.example", **(config or {}))
    parts = LaneParts(
        config=upstream,
        credentials=credentials_of(upstream, {}),
        clock=CLOCK,
        replay=None,
        isolation="tenant",
    )
    made = call_of(turn or gemini_turn(BODY), CLOCK, **call)
    return AntigravityLane(parts, made, base_url=upstream.base_urls[0], last=last)


async def asked(*given: Any, **how: Any) -> UpstreamRequest:
    return await lane(*given, **how).request()


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("gemini-3-pro", "gemini-3-pro"),
        ("models/gemini-3-pro", "gemini-3-pro"),
        ("tunedModels/a b?c", "tunedModels/a%20b%3Fc"),
    ],
)
async def test_the_model_is_in_the_address(named: str, address: str) -> None:
    request = await asked(model=named)
    assert request.url == f"https://gem.example/v1beta/models/{address}:streamGenerateContent?alt=sse"
    request = await asked(gemini_turn(BODY, stream=False), model=named)
    assert request.url == f"https://gem.example/v1beta/models/{address}:generateContent"


@pytest.mark.parametrize("named", ["../other", "a/../../b", "a/./b", "a//b", "", "models/", ".."])
async def test_a_model_leads_to_no_other_place(named: str) -> None:
    with pytest.raises(InvalidRequest):
        await asked(model=named)


async def test_streams_may_be_all_that_the_upstream_knows() -> None:
    request = await asked(gemini_turn(BODY, stream=False), config={"stream_only": True})
    assert request.url.endswith(":streamGenerateContent?alt=sse")


async def test_limits_of_waits() -> None:
    timeouts = {"connect_s": 1, "first_byte_s": 2, "idle_s": 3}
    request = await asked(config={"timeouts": timeouts, "proxy": "http://proxy.example"})
    assert (request.limits.connect_s, request.limits.first_byte_s, request.limits.idle_s) == (1, 2, 3)
    assert (request.total_s, request.proxy) == (60, "http://proxy.example")
    request = await asked(gemini_turn(BODY, stream=False), config={"timeouts": timeouts})
    assert request.limits.first_byte_s == 60, "an answer that is not streamed begins when it is complete"
    request = await asked(deadline_ms=CLOCK.now_ms() - 5)
    assert request.total_s == 0


async def test_keys_and_headers_of_the_operator() -> None:
    credentials = [{"id": "main", "api_key": "k", "auth": "bearer", "headers": {"x-goog-user-project": "p"}}]
    request = await asked(config={"credentials": credentials})
    assert request.headers["Authorization"] == "Bearer k"
    assert request.headers["x-goog-user-project"] == "p"
    assert "x-goog-api-key" not in request.headers


async def test_fields_that_are_refused_are_dropped() -> None:
    body: Any = {**BODY, "labels": {"a": "b"}}
    request = await asked(gemini_turn(body), config={"drop": ["labels"]})
    assert loads(request.body) == BODY


async def test_whether_a_signature_goes_along() -> None:
    signed = gemini_turn({"contents": [user("a"), model(text("b", gemini_signature("s"))), user("c")]})
    with_it = lane(signed)
    await with_it.request()
    assert with_it.gives_back
    without = lane(signed, fresh=True)
    assert b"thoughtSignature" not in (await without.request()).body
    assert not without.gives_back


@pytest.mark.parametrize(
    ("base_url", "before"),
    [
        ("https://gem.example", "https://gem.example/v1beta"),
        ("https://gem.example/v1beta", "https://gem.example/v1beta"),
        ("https://gem.example/v1alpha/", "https://gem.example/v1alpha"),
        ("https://v1.example/gemini", "https://v1.example/gemini/v1beta"),
        (
            "https://x.example/v1/projects/p/locations/l/publishers/google",
            "https://x.example/v1/projects/p/locations/l/publishers/google",
        ),
    ],
)
async def test_the_version_is_added_to_an_address_without_one(base_url: str, before: str) -> None:
    request = await asked(config={"base_url": base_url})
    assert request.url == f"{before}/models/gemini-3-pro:streamGenerateContent?alt=sse"


def judged(reply: Reply, *, last: bool) -> Any:
    one = lane(last=last)
    fault = one.judge(reply.status, dumps(reply.error), None)
    assert fault == one.fault
    return fault


def test_a_limit_rests_nobody_while_another_address_is_left() -> None:
    assert judged(limited(delay="60s"), last=True).rest is not None
    assert judged(limited(delay="60s"), last=False).rest is None
    refused = error(401, "UNAUTHENTICATED", "no")
    assert judged(refused, last=False).rest is not None


async def test_where_to_go_on() -> None:
    failed = AttemptFailed(UpstreamUnavailable("x"), again="next")

    async def goes(reply: Reply | None, *, last: bool = False, again: Any = "next", ask: bool = True) -> bool:
        one = lane(last=last)
        if ask:
            await one.request()
        if reply is not None:
            one.judge(reply.status, dumps(reply.error), None)
        return one.goes_elsewhere(AttemptFailed(failed.error, again=again))

    assert await goes(None)
    assert await goes(limited())
    assert not await goes(None, last=True)
    assert not await goes(None, again="no")
    assert not await goes(None, ask=False), "the request could not even be made"
    assert not await goes(error(500, "INTERNAL", "x"))


def test_an_answer_is_as_good_as_over_with_its_finish_reason() -> None:
    one = lane()
    assert not one.is_finished()
    one.feed([SseEvent(b"", dumps({"candidates": [{"finishReason": "STOP"}]}))], 1, [])
    assert (one.is_finished(), one.ended) == (True, False)
    one.eof()
    assert one.ended


def test_nothing_to_remember_is_nothing_to_conclude() -> None:
    assert lane().conclude(None) is None
