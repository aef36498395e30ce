"""Probes, metrics and operators' pages over HTTP, with ports that answer what a test wants."""

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from gateway.access.keys import KeyRing
from gateway.access.tiers import Tiers
from gateway.admin.routes import AdminPorts, admin_routes, error_response
from gateway.jobs.messages import InstanceRecord
from gateway.kernel.errors import (
    Forbidden,
    GatewayError,
    InstanceAmbiguous,
    InstanceNotFound,
    Internal,
    StoreUnavailable,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.kernel.json import Json, JsonObject
from gateway.telemetry.exposition import Format
from gateway.telemetry.metrics import ChatStats


class Counts(msgspec.Struct):
    in_flight: int = 1
    queued: int = 0
    accepted_total: int = 5
    rejected_total: int = 2


class Ports:
    """Every port at once."""

    def __init__(self) -> None:
        self.records = [
            InstanceRecord(name="inst-0", index=0, ready=True, state="ready", capacity=4, in_flight=2)
        ]
        self.max_in_flight = 8
        self.reason: str | None = None
        self.sessions_down = False
        self.asked: list[str | None] = []
        self.refusal: GatewayError | None = None

    def instances(self) -> Sequence[InstanceRecord]:
        return self.records

    def counts(self) -> Counts:
        return Counts()

    async def stats(self) -> JsonObject:
        if self.sessions_down:
            raise StoreUnavailable("the store did not answer")
        return {"enabled": True, "size": 3, "hit_total": 2, "hit_rate": 0.6667}

    async def prometheus_lines(self) -> list[str]:
        if self.sessions_down:
            raise StoreUnavailable("the store did not answer")
        return ["# TYPE gateway_session_cache_size gauge", "gateway_session_cache_size 3"]

    async def sums(self) -> Mapping[str, int] | None:
        return {"chat_requests_total": 40, "in_flight": 4, "accepted_total": 50}

    async def why_not_ready(self) -> str | None:
        return self.reason

    async def raw_models(self, instance: str | None) -> Json:
        self.asked.append(instance)
        if self.refusal is not None:
            raise self.refusal
        return {"chat": [{"key": "kmodel"}]}


def client(ports: Ports, tiers: Tiers) -> TestClient:
    chat = ChatStats()
    chat.record_chat(stream=True, success=True, prompt_tokens=3, completion_tokens=4)
    routes = admin_routes(
        AdminPorts(
            replica_id="r-1",
            tiers=tiers,
            pool=ports,
            admission=ports,
            chat=chat,
            cluster=ports,
            sessions=ports,
            readiness=ports,
            models=ports,
            instruments=instruments,
            upstreams=dict,
        )
    )
    return TestClient(Starlette(routes=routes))


def instruments(form: Format) -> str:
    if form is Format.OPENMETRICS:
        return "# TYPE gateway_turns counter\ngateway_turns_total 1.0\n# EOF\n"
    return "# TYPE gateway_turns_total counter\ngateway_turns_total 1.0\n"


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def operator(ports: Ports) -> TestClient:
    """A client that holds the token of admin and metrics."""
    return TestClient(
        client(ports, Tiers(KeyRing(), admin_token="adm", metrics_token="adm")).app,
        headers={"authorization": "Bearer adm"},
    )


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_lv_46_admin_tier(ports: Ports) -> None:
    """Given API_KEYS "k-a, k-b", ADMIN_TOKEN "adm": Bearer k-a on /internal/stats; Bearer adm.

    Expected 401; 200. With ADMIN_TOKEN unset: k-b gives 200. All unset: 503.
    """
    keys = KeyRing.from_csv("k-a, k-b")
    with_token = client(ports, Tiers(keys, admin_token="adm"))
    refused = with_token.get("/internal/stats", headers=bearer("k-a"))
    assert refused.status_code == 401
    assert refused.json()["error"]["message"] == "Invalid admin token"
    assert with_token.get("/internal/stats", headers=bearer("adm")).status_code == 200
    assert client(ports, Tiers(keys)).get("/internal/stats", headers=bearer("k-b")).status_code == 200
    assert client(ports, Tiers(KeyRing())).get("/internal/stats", headers=bearer("k-b")).status_code == 503


def test_lv_47_metrics_tier(ports: Ports) -> None:
    """Given nothing configured; METRICS_PUBLIC=true. Expected 503 metrics_disabled; 200, last a newline."""
    closed = client(ports, Tiers(KeyRing())).get("/metrics")
    assert closed.status_code == 503
    assert closed.json()["error"]["code"] == "metrics_disabled"
    assert closed.json()["error"]["message"] == "metrics scraping disabled"
    public = client(ports, Tiers(KeyRing(), metrics_public=True)).get("/metrics")
    assert public.status_code == 200
    assert public.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert public.text.endswith("\n")


def test_lv_91_the_metrics_page_has_the_pool_line_and_parses(operator: TestClient) -> None:
    """Given inst-0 with two turns. Expected its literal line, in a page that the official parser reads."""
    text = operator.get("/metrics").text
    assert '\ngateway_pool_instance_in_flight{name="inst-0",idx="0"} 2\n' in text
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {
        "gateway_turns",
        "gateway_in_flight",
        "gateway_queued",
        "gateway_max_in_flight",
        "gateway_accepted",
        "gateway_rejected",
        "gateway_session_cache_size",
        "gateway_chat_requests",
        "gateway_pool_instance_ready",
    } <= names


def test_a_scraper_that_prefers_openmetrics_gets_it_with_every_name(operator: TestClient) -> None:
    plain = operator.get("/metrics").text
    page = operator.get("/metrics", headers={"accept": "application/openmetrics-text;version=1.0.0"})
    assert page.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert page.text.endswith("\n# EOF\n")
    families = list(openmetrics(page.text))
    assert {family.name: family.type for family in families}["gateway_chat_requests_success"] == "unknown"
    samples = {line.rpartition(" ")[0] for line in plain.splitlines() if not line.startswith("#")}
    assert samples == {
        line.rpartition(" ")[0] for line in page.text.splitlines() if not line.startswith("#")
    }, "no name is lost and none is changed"


def test_metrics_go_on_without_the_session_store(ports: Ports, operator: TestClient) -> None:
    ports.sessions_down = True
    page = operator.get("/metrics")
    assert page.status_code == 200
    assert "gateway_in_flight 1\n" in page.text
    assert "session_cache" not in page.text
    stats = operator.get("/internal/stats")
    assert stats.status_code == 200
    assert stats.json()["session_cache"] == {}


def test_healthz_is_open_and_200_even_when_not_ok(ports: Ports) -> None:
    ports.records = []
    page = client(ports, Tiers(KeyRing.from_csv("k"))).get("/healthz")
    assert page.status_code == 200
    assert page.json() == {"ok": False, "pool_size": 0, "pool_ready": 0, "instances": []}


def test_livez_is_always_well(ports: Ports) -> None:
    assert client(ports, Tiers(KeyRing())).get("/livez").json() == {"ok": True}


@pytest.mark.parametrize("reason", ["draining", "store_unavailable"])
def test_readyz_turns_traffic_away_with_a_reason(ports: Ports, reason: str) -> None:
    http = client(ports, Tiers(KeyRing()))
    assert http.get("/readyz").status_code == 200
    ports.reason = reason
    page = http.get("/readyz")
    assert page.status_code == 503
    assert page.json() == {"ready": False, "reason": reason}


def test_stats_are_sums_with_the_replica_beside(operator: TestClient) -> None:
    page = operator.get("/internal/stats").json()
    assert page["stats"]["chat_requests_total"] == 40
    assert page["concurrency"] == {
        "in_flight": 4,
        "queued": 0,
        "accepted_total": 50,
        "rejected_total": 0,
        "max_in_flight": 8,
    }
    assert page["pool"]["pool_ready"] == 1
    assert page["session_cache"]["hit_rate"] == 0.6667
    assert page["replica"]["id"] == "r-1"
    assert page["replica"]["stats"]["chat_requests_total"] == 1
    assert page["replica"]["stats"]["total_tokens_estimated"] == 7


def test_raw_models_are_handed_through_for_the_instance_asked_for(ports: Ports, operator: TestClient) -> None:
    page = operator.get("/internal/models/raw?instance=w-0/inst-1")
    assert page.json() == {"chat": [{"key": "kmodel"}]}
    operator.get("/internal/models/raw")
    assert ports.asked == ["w-0/inst-1", None]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InstanceNotFound("instance 'x' does not exist"), 404, "invalid_request"),
        (InstanceAmbiguous("several workers have one"), 409, "invalid_request"),
        (UpstreamUnavailable("no worker is running"), 503, "service_unavailable"),
        (UpstreamTimeout("the worker did not answer in time"), 504, "upstream_timeout"),
    ],
)
def test_what_a_worker_refuses_has_its_status(
    ports: Ports, operator: TestClient, error: GatewayError, status: int, code: str
) -> None:
    ports.refusal = error
    page = operator.get("/internal/models/raw?instance=x")
    assert page.status_code == status
    assert page.json()["error"]["code"] == code
    assert page.json()["error"]["message"] == error.message


def test_operators_pages_ask_for_the_token_before_anything_else(ports: Ports) -> None:
    http = client(ports, Tiers(KeyRing(), admin_token="adm"))
    assert http.get("/internal/models/raw").status_code == 401
    assert ports.asked == []


def test_an_error_tells_when_to_try_again() -> None:
    answer = error_response(UpstreamUnavailable("wait", retry_after_s=0.2))
    assert answer.headers["retry-after"] == "1"
    assert error_response(Forbidden("no")).status_code == 403
    assert error_response(Internal("broken")).status_code == 500


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz", "/metrics", "/internal/stats"])
@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
def test_pages_are_only_to_be_read(path: str, method: str) -> None:
    answer = client(Ports(), Tiers(KeyRing())).request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "method_not_allowed"
