"""Errors of workers become the gateway's own."""

import pytest

from gateway.jobs.messages import Finished
from gateway.kernel.errors import (
    GatewayError,
    InvalidRequest,
    Overloaded,
    QueueTimeout,
    StoreDataLoss,
    UpstreamEof,
    UpstreamProtocol,
    UpstreamTimeout,
    UpstreamUnavailable,
    WorkerLost,
)
from gateway.upstreams.lingma.errors import again_after, error_of


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("upstream_timeout", UpstreamTimeout),
        ("upstream_eof", UpstreamEof),
        ("upstream_unavailable", UpstreamUnavailable),
        ("store_data_loss", StoreDataLoss),
        ("upstream_protocol", UpstreamProtocol),
        ("a_kind_of_a_newer_worker", UpstreamProtocol),
        ("", UpstreamProtocol),
    ],
)
def test_each_kind_has_its_error(kind: str, error: type[GatewayError]) -> None:
    told = error_of(Finished(outcome="failed", error_kind=kind, error="it said so"))
    assert type(told) is error
    assert told.message == "it said so"


def test_a_worker_that_says_nothing_is_spoken_for() -> None:
    assert error_of(Finished(outcome="failed")).message


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (WorkerLost("gone"), "retry"),
        (QueueTimeout("full"), "next"),
        (Overloaded("full"), "next"),
        (UpstreamUnavailable("nobody there"), "next"),
        (UpstreamTimeout("late"), "no"),
        (UpstreamEof("cut"), "no"),
        (InvalidRequest("empty"), "no"),
        (StoreDataLoss("gone"), "no"),
    ],
)
def test_a_turn_that_nobody_took_goes_on_with_the_next_upstream(error: GatewayError, again: str) -> None:
    assert again_after(error) == again
