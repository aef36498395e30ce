"""The official SDKs, and upstreams that are not simply there: behind a proxy, behind TLS, behind silence.

One `lingma-gateway up` knows them all, on ports where each test serves what it needs.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.antigravity_server import AntigravityServer
from tests.fakes.codex_server import CodexServer
from tests.fakes.forward_proxy import ForwardProxy
from tests.support.edge import serving
from tests.support.house import GOOGLE_KEYS, antigravity_upstream, codex_upstream, route, write_upstreams
from tests.support.network import Mute, certificate, never_accepts, tls_in_front
from tests.support.ports import free_port
from tests.support.processes import Service, pool_ready, up
from tests.support.sdks import ERRORS, PROTOCOLS, Sdks, conformance, each_protocol, streamed_or_not

pytestmark = conformance

CONNECT_S, FIRST_BYTE_S = 0.5, 0.7
TIMEOUTS = {"connect_s": CONNECT_S, "first_byte_s": FIRST_BYTE_S}
USER, PASSWORD = "gate", "p@ss:word"
KINDS = ("codex", "antigravity")
each_kind = pytest.mark.parametrize("kind", KINDS)


class Ports(NamedTuple):
    codex: int
    antigravity: int
    proxy: int
    codex_tls: int
    antigravity_tls: int
    silent: int
    """Where a test serves nothing good."""


class Net(NamedTuple):
    service: Service
    ports: Ports
    pem: Path


def written(directory: Path, ports: Ports, pem: Path) -> str:
    right, wrong = (f"http://{USER}:{word}@127.0.0.1:{ports.proxy}" for word in ("p%40ss%3Aword", "guess"))
    tls = {"ca_file": str(pem), "proxy": right}
    codex_tls, antigravity_tls = (
        f"https://127.0.0.1:{port}" for port in (ports.codex_tls, ports.antigravity_tls)
    )
    two = [f"http://127.0.0.1:{port}" for port in (ports.silent, ports.antigravity)]
    upstreams = [
        codex_upstream("codex", ports.codex),
        antigravity_upstream("antigravity", ports.antigravity),
        codex_upstream("codex-proxy", ports.codex, proxy=right),
        antigravity_upstream("antigravity-proxy", ports.antigravity, proxy=right),
        codex_upstream("codex-stranger", ports.codex, proxy=wrong),
        antigravity_upstream("antigravity-stranger", ports.antigravity, proxy=wrong),
        codex_upstream("codex-tls", ports.codex, **tls, base_url=f"{codex_tls}/v1"),
        antigravity_upstream("antigravity-tls", ports.antigravity, **tls, base_url=antigravity_tls),
        codex_upstream("codex-silent", ports.silent, timeouts=TIMEOUTS),
        antigravity_upstream("antigravity-silent", ports.silent, timeouts=TIMEOUTS),
        antigravity_upstream("two-addresses", ports.silent, timeouts=TIMEOUTS, base_url=two),
        antigravity_upstream("two-addresses-mute", ports.silent, timeouts=TIMEOUTS, base_url=two),
    ]
    models = {one["name"]: one["models"][0] for one in upstreams}
    routes = [route(name, {"upstream": name, "model": model}) for name, model in models.items()]
    for kind, other in (KINDS, KINDS[::-1]):
        first = {"upstream": f"{kind}-silent", "model": models[kind]}
        routes.append(route(f"{kind}-first", first, {"upstream": other, "model": models[other], "rank": 1}))
    return write_upstreams(directory, upstreams, routes)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    directory = tmp_path_factory.mktemp("network")
    ports, pem = Ports(*(free_port() for _ in Ports._fields)), certificate(directory)
    with up(directory, UPSTREAMS_FILE=written(directory, ports, pem)) as service:
        yield Net(service.ready("/healthz", pool_ready(1)), ports, pem)


class Both(NamedTuple):
    codex: CodexServer
    antigravity: AntigravityServer
    proxy: ForwardProxy

    def count(self, kind: str) -> int:
        return len(self.codex.requests if kind == "codex" else self.antigravity.requests)


@pytest.fixture
async def both(net: Net) -> AsyncIterator[Both]:
    both = Both(CodexServer(), AntigravityServer(keys=GOOGLE_KEYS), ForwardProxy(USER, PASSWORD))
    async with (
        serving(both.codex, port=net.ports.codex),
        both.antigravity.running(net.ports.antigravity),
        both.proxy.running(net.ports.proxy),
    ):
        yield both


@contextlib.asynccontextmanager
async def model(net: Net, name: str) -> AsyncIterator[Sdks]:
    async with contextlib.aclosing(Sdks(net.service.url, name)) as sdks:
        yield sdks


# -- proxies ----------------------------------------------------------------------------------------------


@each_kind
@each_protocol
@streamed_or_not
async def test_a_proxy_is_told_who_asks_and_passes_it_on(
    net: Net, both: Both, kind: str, ask: Any, stream: bool
) -> None:
    async with model(net, f"{kind}-proxy") as sdks:
        assert await ask(sdks, "say one two", stream=stream) == "one two"
    assert (both.count(kind), both.proxy.refused) == (1, 0)
    (target,) = both.proxy.forwarded
    assert target.startswith(f"http://127.0.0.1:{getattr(net.ports, kind)}/v1")
    headers: Any = (both.codex if kind == "codex" else both.antigravity).requests[0].headers
    assert "proxy-authorization" not in headers


@each_kind
@streamed_or_not
async def test_a_proxy_has_a_tunnel_for_what_is_sealed(net: Net, both: Both, kind: str, stream: bool) -> None:
    port = getattr(net.ports, f"{kind}_tls")
    async with (
        tls_in_front(port, getattr(net.ports, kind), net.pem),
        model(net, f"{kind}-tls") as sdks,
    ):
        for ask in PROTOCOLS.values():
            assert await ask(sdks, "say one two", stream=stream) == "one two"
    assert both.count(kind) == len(PROTOCOLS)
    assert both.proxy.forwarded == []
    assert set(both.proxy.tunnels) == {f"127.0.0.1:{port}"}


@each_kind
@each_protocol
async def test_a_proxy_that_refuses_is_told_without_its_password(
    net: Net, both: Both, kind: str, ask: Any
) -> None:
    async with model(net, f"{kind}-stranger") as sdks:
        with pytest.raises(ERRORS) as caught:
            await ask(sdks, "say hi", stream=True)
    assert "guess" not in str(caught.value)
    assert "guess" not in net.service.log
    assert (both.count(kind), both.proxy.forwarded) == (0, [])


# -- silence ----------------------------------------------------------------------------------------------


@each_kind
@streamed_or_not
async def test_who_takes_no_connection_is_followed_by_the_next_candidate(
    net: Net, both: Both, kind: str, stream: bool
) -> None:
    (other,) = set(KINDS) - {kind}
    with never_accepts(net.ports.silent):
        async with model(net, f"{kind}-first") as sdks:
            begun = time.monotonic()
            for ask in PROTOCOLS.values():
                assert await ask(sdks, "say here", stream=stream) == "here"
            assert time.monotonic() - begun < 20
    assert (both.count(kind), both.count(other)) == (0, len(PROTOCOLS))


@each_protocol
@streamed_or_not
async def test_an_address_that_takes_no_connection_is_followed_by_the_other(
    net: Net, both: Both, ask: Any, stream: bool
) -> None:
    with never_accepts(net.ports.silent):
        async with model(net, "two-addresses") as sdks:
            begun = time.monotonic()
            assert await ask(sdks, "say here", stream=stream) == "here"
            assert time.monotonic() - begun > CONNECT_S, "the first was not asked"
    assert both.count("antigravity") == 1


async def test_an_address_where_nobody_listens_is_followed_by_the_other(net: Net, both: Both) -> None:
    async with model(net, "two-addresses") as sdks:
        for ask in PROTOCOLS.values():
            assert await ask(sdks, "say here", stream=True) == "here"
    assert both.count("antigravity") == len(PROTOCOLS)


async def test_an_address_that_took_the_turn_and_says_nothing_is_followed_by_the_other(
    net: Net, both: Both
) -> None:
    """The connection is closed, which ends its work."""
    async with Mute().running(net.ports.silent) as mute, model(net, "two-addresses-mute") as sdks:
        assert await PROTOCOLS["gemini"](sdks, "say here", stream=True) == "here"
    assert (mute.asked, both.count("antigravity")) == (1, 1)
