"""A replica and a worker as scrapers meet them: both formats, and a real Prometheus, asked every query.

Turns of several kinds are made first, so that most series have something to show.
"""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from gateway.store.keys import Keys
from gateway.telemetry.exposition import Format
from scripts import docs_metrics
from tests.deploy import rendered as r
from tests.deploy.queries import panels, rules, scaler_queries, words_of
from tests.fakes.codex_server import REASONING_MODEL, SERVER_ERROR, CodexServer
from tests.support.edge import serving
from tests.support.house import codex_upstream, write_upstreams
from tests.support.ports import free_port
from tests.support.processes import Service, pool_ready, serve, wait_for, work
from tests.support.prometheus import Prometheus, Target, needs_prometheus, needs_promtool
from tests.support.redis_server import RedisServer
from tests.support.sockets import talking

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TOKEN = "scraper"
GATEWAY = {"namespace": r.NAMESPACE, "pod": f"{r.FULL}-gateway-0"}
WORKER = {"namespace": r.NAMESPACE, "pod": f"{r.FULL}-worker-0"}
RULES = "everything-on"


class Site(NamedTuple):
    replica: Service
    worker: Service
    traces: set[str]
    """As answers told them."""

    def page(self, service: Service, form: Format) -> str:
        accept = form.partition("; charset")[0]
        headers = {"accept": accept, "authorization": f"Bearer {TOKEN}"}
        answer = httpx2.get(f"{service.url}/metrics", headers=headers, timeout=10)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == form
        return answer.text

    def families(self, form: Format) -> list[Metric]:
        """Of both, by the official parser."""
        parse = openmetrics if form is Format.OPENMETRICS else plain_text
        return [
            family for service in (self.replica, self.worker) for family in parse(self.page(service, form))
        ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The upstream is served by a loop of its own, for what else a test does waits."""
    directory = tmp_path_factory.mktemp("scrape")
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(running(directory)) as site:
        yield site


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Site]:
    port = free_port()
    env = {
        "UPSTREAMS_FILE": write_upstreams(directory, [codex_upstream("codex", port)], []),
        "METRICS_TOKEN": TOKEN,
        "OTEL_TRACES_EXPORTER": "console",
    }
    upstream = CodexServer()
    with (
        RedisServer() as redis,
        work(directory, redis.url, "w0") as worker,
        serve(directory, redis.url, "g0", **env) as replica,
    ):
        replica.ready("/healthz", pool_ready(1))
        redis.command("XADD", Keys().commands("w0"), "*", "m", "no command")
        async with serving(upstream, port=port):
            yield Site(replica, worker, await make_turns(replica, upstream))


async def make_turns(replica: Service, upstream: CodexServer) -> set[str]:
    """On Lingma with losses, streamed and not; on codex after an error, and with reasoning put back; on a
    WebSocket.
    """
    said: list[dict[str, str]] = [{"role": "user", "content": "say one"}]
    traces = set()
    async with httpx2.AsyncClient(base_url=replica.url, timeout=60) as client:

        async def ask(**body: Any) -> httpx2.Response:
            answer = await client.post("/v1/chat/completions", json={"messages": said, **body})
            assert answer.status_code == 200, answer.text
            traces.add(answer.headers["x-trace-id"])
            return answer

        for stream in (True, False):
            await ask(model="gpt-nobody-knows", seed=7, stream=stream)
        upstream.queue.append(SERVER_ERROR)
        for _ in range(2):
            answer = await ask(model=REASONING_MODEL)
            told = answer.json()["choices"][0]["message"]["content"]
            said += [{"role": "assistant", "content": told}, {"role": "user", "content": "say two"}]
    async with talking(replica.url, "org_auto") as on:
        (await on.turn("say three")).valid()
        assert on.socket.response is not None
        traces.add(on.socket.response.headers["x-trace-id"])
    return traces


def names(families: list[Metric]) -> set[str]:
    """As Prometheus names them."""
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


def test_the_documented_names_are_what_both_show_in_either_format(site: Site) -> None:
    rows = [row for text in docs_metrics.expositions() for row in docs_metrics.rows(text)]
    assert names(site.families(Format.OPENMETRICS)) == {row.name for row in rows}
    shown = {
        line.split(" ")[2]
        for service in (site.replica, site.worker)
        for line in site.page(service, Format.TEXT).splitlines()
        if line.startswith("# TYPE ")
    }
    assert shown == {row.name for row in rows}


def test_the_official_parsers_read_the_same_series_from_both_formats(site: Site) -> None:
    # The parser of plain text appends `_total` to every counter, whatever its samples are called.
    series = [
        {
            (sample.name.removesuffix("_total"), *sorted(sample.labels.items()))
            for family in site.families(form)
            for sample in family.samples
        }
        for form in Format
    ]
    assert series[0] == series[1]
    assert len(series[0]) > 100


def test_a_bucket_names_the_trace_that_an_answer_told(site: Site) -> None:
    found: dict[str, set[str]] = {}
    for family in site.families(Format.OPENMETRICS):
        for sample in family.samples:
            if sample.exemplar is not None:
                assert sample.name == f"{family.name}_bucket"
                assert len(sample.exemplar.labels["span_id"]) == 16
                found.setdefault(family.name, set()).add(sample.exemplar.labels["trace_id"])
    assert found.keys() == {
        "gateway_turn_duration_seconds",
        "gateway_turn_time_to_first_token_seconds",
        "gateway_turn_queue_wait_seconds",
    }
    for traces in found.values():
        assert traces <= site.traces
    assert "trace_id" not in site.page(site.replica, Format.TEXT)


def test_labels_hold_nothing_that_a_client_sent(site: Site) -> None:
    values = {
        value
        for family in site.families(Format.TEXT)
        for sample in family.samples
        for value in sample.labels.values()
    }
    assert not any("nobody-knows" in value for value in values)
    assert {"served-by", "unsupported"} <= values, "reasons of losses, without what they name"


COMPLAINTS = ("no help text", 'counter metrics should have "_total" suffix')
"""What promtool may say of names that are written by hand: those of lingma-openai-gateway, and a worker's."""


@needs_promtool
def test_promtool_reads_the_text_and_finds_no_fault_with_names_of_our_own(site: Site) -> None:
    generated = {row.name for row in docs_metrics.rows(docs_metrics.expositions()[0])}
    for service in (site.replica, site.worker):
        checked = subprocess.run(
            ["promtool", "check", "metrics"],
            input=site.page(service, Format.TEXT),
            capture_output=True,
            text=True,
            check=False,
        )
        said = checked.stderr.splitlines()
        assert checked.returncode in (0, 3), said  # 3: parsed, with complaints
        complained = [line.split(" ", 1) for line in said]
        assert {name for name, _ in complained}.isdisjoint(generated), said
        assert all(what.endswith(COMPLAINTS) for _, what in complained), said


# -- a real Prometheus ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prometheus(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    (document,) = r.of_kind(r.rendered(RULES), "PrometheusRule")
    targets = [
        Target(f"127.0.0.1:{site.replica.port}", GATEWAY, TOKEN),
        Target(f"127.0.0.1:{site.worker.port}", WORKER),
    ]
    directory: Path = tmp_path_factory.mktemp("prometheus")
    with Prometheus(directory, targets, document["spec"]) as running:
        yield running


def as_grafana_asks(query: str) -> str:
    return query.replace("$namespace", r.NAMESPACE).replace("$__rate_interval", "5m")


NOT_HERE = (
    "gateway_grammar_repairs_total",  # needs an upstream that breaks its own format
    "worker_declined_total",  # needs a replica that believes in a slot that is gone
    "worker_loop_restarts_total",  # needs a defect
    "gateway_max_in_flight",  # shown where there is a limit
    "gateway_hub_down",  # shown while they are so
    "gateway_store_down",
    "gateway_hub_recoveries_total",
)
"""Of what panels show, what none of the turns made; that the metrics exist is asked all the same."""


@needs_prometheus
@r.needs_helm
def test_panels_have_something_to_show(prometheus: Prometheus) -> None:
    for panel in panels():
        for target in panel["targets"]:
            found = prometheus.query(as_grafana_asks(target["expr"]))
            expected = not words_of(target["expr"])[0] & set(NOT_HERE)
            assert bool(found) is expected, f"{panel['title']}: {target['expr']}"


@needs_prometheus
@r.needs_helm
def test_every_metric_that_is_asked_for_was_scraped(prometheus: Prometheus) -> None:
    known = prometheus.ask("metadata")
    scraped = {
        name + suffix
        for name, told in known.items()
        for suffix in (("_bucket", "_sum", "_count") if told[0]["type"] == "histogram" else ("", "_total"))
    }
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    queries += [rule["expr"] for rule in rules(RULES)]
    queries += scaler_queries(RULES)
    asked = set().union(*(words_of(query)[0] for query in queries))
    assert asked <= scraped
    for query in queries:
        prometheus.query(as_grafana_asks(query))


@needs_prometheus
@r.needs_helm
def test_alerts_are_evaluated_and_only_the_dead_letter_is_reported(prometheus: Prometheus) -> None:
    def reported() -> list[dict[str, Any]] | None:
        found = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
        evaluated = all(rule["health"] != "unknown" for rule in found)
        return found if evaluated and any(rule["state"] == "firing" for rule in found) else None

    found = wait_for(reported, "an alert")
    assert len(found) == len(list(rules(RULES)))
    assert [rule.get("lastError") for rule in found if rule["health"] != "ok"] == []
    assert {rule["name"] for rule in found if rule["state"] == "firing"} == {"LingmaWorkerDeadLetters"}


@needs_prometheus
@r.needs_helm
def test_prometheus_keeps_the_exemplars(site: Site, prometheus: Prometheus) -> None:
    asked = [
        as_grafana_asks(target["expr"])
        for panel in panels()
        for target in panel["targets"]
        if target.get("exemplar")
    ]
    assert len(asked) == 3
    for query in asked:
        found = prometheus.ask("query_exemplars", query=query, start="0", end="9999999999")
        traces = {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}
        assert traces, query
        assert traces <= site.traces
