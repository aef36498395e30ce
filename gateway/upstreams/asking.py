"""The request of one attempt, as far as all dialects make it alike: what is sent, and how long to wait."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import JsonObject, dumps
from gateway.turn.ports import Call
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.http import HttpLimits, UpstreamRequest

MAX_BYTES: Final = 64 * 1024 * 1024
MIN_SECRET: Final = 6
"""Characters. Anything shorter would be found in every text."""


def upstream_request(
    config: UpstreamConfig,
    call: Call,
    *,
    url: str,
    body: JsonObject,
    headers: Mapping[str, str],
    credential: Mapping[str, str],
    streams: bool,
    now_ms: int,
) -> UpstreamRequest:
    """headers: the dialect's own. credential: its headers. streams: whether the answer will be events.

    Raises InvalidRequest for a body that is nested deeper than JSON is written.
    """
    try:
        written = dumps(body)
    except TypeError:
        raise InvalidRequest("The request is nested too deep to be passed on") from None
    if len(written) > MAX_BYTES:
        raise InvalidRequest("The request is too large to be passed on once its schemas are written out")
    total_s = max(0.0, (call.deadline_ms - now_ms) / 1000)
    timeouts = config.timeouts
    return UpstreamRequest(
        upstream=config.name,
        url=url,
        body=written,
        headers={
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if streams else "application/json",
            **headers,
            **credential,
        },
        secrets=tuple(_secrets(credential)),
        limits=HttpLimits(
            connect_s=timeouts.connect_s,
            # An answer that is not streamed begins when it is complete.
            first_byte_s=timeouts.first_byte_s if streams else total_s,
            idle_s=timeouts.idle_s,
        ),
        total_s=total_s,
        proxy=config.proxy,
    )


def _secrets(credential: Mapping[str, str]) -> Iterator[str]:
    """The values of its headers, and keys behind the word that says what they are."""
    for value in credential.values():
        yield from (word for word in (value, *value.split()[1:]) if len(word) >= MIN_SECRET)
