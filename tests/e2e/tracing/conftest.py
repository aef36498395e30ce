"""Two replicas, a worker and who collects their traces, each a process, for all tests of this folder.

Every test runs with a receiver of OTLP, and with a real Jaeger where one was built (`make test-jaeger`).
"""

import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from scripts import ensure_jaeger
from tests.e2e.conftest import Fleet, Pair
from tests.support.edge import serving
from tests.support.house import write_keys
from tests.support.ports import free_port
from tests.support.processes import Service, wait_for
from tests.support.redis_server import RedisServer
from tests.support.traces import Jaeger, Receiver, Seen, Trace, Traces

KEY = "alice-1"
CLIENT_SPAN = "b7ad6b7169203331"


@contextlib.contextmanager
def a_jaeger(directory: Path) -> Iterator[Jaeger]:
    """Its own configuration of all in one, but for where it listens and what nobody asks here."""
    http, grpc, query, query_grpc, health, health_grpc = (free_port() for _ in range(6))
    changed = {
        "service.extensions": "[jaeger_storage,jaeger_query,healthcheckv2]",
        "service.pipelines.traces.receivers": "[otlp]",
        "service.telemetry.metrics.level": "none",
        "service.telemetry.metrics.readers": "[]",
        "receivers.otlp.protocols.http.endpoint": f"127.0.0.1:{http}",
        "receivers.otlp.protocols.grpc.endpoint": f"127.0.0.1:{grpc}",
        "extensions.jaeger_query.http.endpoint": f"127.0.0.1:{query}",
        "extensions.jaeger_query.grpc.endpoint": f"127.0.0.1:{query_grpc}",
        "extensions.healthcheckv2.http.endpoint": f"127.0.0.1:{health}",
        "extensions.healthcheckv2.grpc.endpoint": f"127.0.0.1:{health_grpc}",
        # Of its own queries, to its usual port.
        "extensions.jaeger_query.enable_tracing": "false",
    }
    words = [*ensure_jaeger.ARGUMENTS, *(f"--set={name}={value}" for name, value in changed.items())]
    with Service("jaeger", words, directory, health, program=[str(ensure_jaeger.BINARY)]) as service:
        service.ready("/status", lambda status: status["status"] == "StatusOK")
        yield Jaeger(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{query}")


@pytest.fixture(scope="session", params=["receiver", "jaeger"])
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    if request.param == "jaeger":
        if why := ensure_jaeger.missing():
            pytest.skip(why)
        with a_jaeger(tmp_path_factory.mktemp("jaeger")) as jaeger:
            yield jaeger
    else:
        with Receiver() as receiver:
            yield receiver


class Site:
    """What is running, and what everybody in it is told."""

    def __init__(self, fleet: Fleet, pair: Pair, traces: Traces, env: dict[str, str]) -> None:
        self.fleet = fleet
        self.pair = pair
        self.traces = traces
        self.env = env


@pytest.fixture(scope="session")
def site(traces: Traces, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("tracing")
    pair = Pair(directory)
    env = {
        "UPSTREAMS_FILE": pair.file,
        "KEY_FILE": write_keys(directory),
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with RedisServer() as redis:
        fleet = Fleet(directory, redis)
        try:
            yield Site(fleet.start(workers=1, **env), pair, traces, env)
        finally:
            fleet.close()


@pytest.fixture
async def codex(site: Site) -> AsyncIterator[Pair]:
    async with serving(site.pair.codex, port=site.pair.codex_port):
        yield site.pair
        site.pair.codex.queue.clear()


class Asked(NamedTuple):
    """A trace that a client began."""

    id: str
    headers: dict[str, str]


def begin_trace() -> Asked:
    trace_id = secrets.token_hex(16)
    traceparent = f"00-{trace_id}-{CLIENT_SPAN}-01"
    return Asked(trace_id, {"traceparent": traceparent, "authorization": f"Bearer {KEY}"})


@pytest.fixture
def asked() -> Asked:
    return begin_trace()


@pytest.fixture
async def replicas(site: Site) -> AsyncIterator[list[httpx2.AsyncClient]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=60))
            for url in site.fleet.urls
        ]


@pytest.fixture
def complete(traces: Traces) -> Callable[..., Trace]:
    """Waits until a trace has spans of these names, as often as they are given."""

    def wait(trace_id: str, *wanted: str) -> Trace:
        def found() -> Trace | None:
            trace = traces.trace(trace_id)
            missing = Counter(wanted) - Counter(span.name for span in trace.spans)
            return None if missing else trace

        try:
            return wait_for(found, "the trace")  # type: ignore[no-any-return]
        except AssertionError as error:
            shown = [(span.service, span.name) for span in traces.trace(trace_id).spans]
            raise AssertionError(f"{error}; it has {shown}") from error

    return wait


def names(spans: list[Seen]) -> list[str]:
    return sorted(span.name for span in spans)
