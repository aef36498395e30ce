"""The request of one attempt, as far as all dialects make it alike: what is sent, and how long to wait."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from gateway.kernel.errors import InvalidRequest, UpstreamUnavailable
from gateway.kernel.json import JsonObject, dumps
from gateway.turn.ports import Call
from gateway.upstreams.config import UpstreamConfig
from gateway.upstreams.credentials import Credential
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
    secrets: tuple[str, ...],
    streams: bool,
    now_ms: int,
) -> UpstreamRequest:
    """headers: the dialect's and the credential's. secrets: of secrets_of(). streams: whether the answer will
    be events.

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
        },
        secrets=secrets,
        limits=HttpLimits(
            connect_s=timeouts.connect_s,
            # An answer that is not streamed begins when it is complete.
            first_byte_s=timeouts.first_byte_s if streams else total_s,
            idle_s=timeouts.idle_s,
        ),
        total_s=total_s,
        proxy=config.proxy,
    )


def secrets_of(credentials: Iterable[Credential]) -> tuple[str, ...]:
    """What none of them may be quoted with: the values of their headers, and keys behind the word that says
    what they are.
    """
    values: list[str] = []
    for credential in credentials:
        try:
            values += credential.headers(default="bearer").values()
        except UpstreamUnavailable:
            continue  # one without a key has nothing to hide
    return _words(tuple(values))


@lru_cache(maxsize=64)
def _words(values: tuple[str, ...]) -> tuple[str, ...]:
    found = {
        word: None for value in values for word in (value, *value.split()[1:]) if len(word) >= MIN_SECRET
    }
    return tuple(sorted(found, key=len, reverse=True))
