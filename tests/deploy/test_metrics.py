"""Alerts, dashboard and scalers ask for metrics that the code shows, by labels that these have."""

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import docs_metrics
from tests.deploy import rendered as r
from tests.deploy.queries import dashboard, panels, rules, scaler_queries, words_of

SOURCES = "deploy/compose/grafana/datasources/datasources.yml"
OF_THE_SCRAPER = {"namespace", "pod", "le"}
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum")}


@cache
def shown() -> dict[str, set[str]]:
    """Series that gateways and workers show, with the labels of each."""
    series = {}
    for text in docs_metrics.expositions():
        for row in docs_metrics.rows(text):
            for suffix in SUFFIXES.get(row.kind, ("",)):
                series[row.name + suffix] = set(row.labels)
    return series


def judge(query: str) -> None:
    names, labels = words_of(query)
    assert names, query
    assert names <= shown().keys(), query
    known = set.union(*(shown()[name] for name in names)) | OF_THE_SCRAPER
    assert labels <= known, query


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_shows_what_is_there(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        judge(target["expr"])
        names = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        by = words_of(target["expr"])[1] if " by " in target["expr"] else names | OF_THE_SCRAPER
        assert names <= by, "a legend by a label that the sum took away"


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "namespace"}
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} is on top of another"
        taken |= cells
    for node in r.walk(board["panels"]):
        if "datasource" in node:
            assert node["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_durations_lead_to_traces() -> None:
    """Grafana shows exemplars where a target asks for them; one target of a panel is enough."""
    for panel in panels():
        asked = [target.get("exemplar", False) for target in panel["targets"]]
        of_turns = panel["type"] == "timeseries" and "gateway_turn_" in panel["targets"][0]["expr"]
        assert sum(asked) == int(of_turns), panel["title"]
    assert "--enable-feature=exemplar-storage" in (r.ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    sources = yaml.safe_load((r.ROOT / SOURCES).read_text(encoding="utf-8"))["datasources"]
    (prometheus,) = [source for source in sources if source["type"] == "prometheus"]
    (link,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert link["name"] == "trace_id"
    assert link["datasourceUid"] in {source["uid"] for source in sources}


@r.needs_helm
@pytest.mark.parametrize("case", ["production", "everything-on"])
def test_an_alert_asks_for_what_is_there(case: str) -> None:
    found = list(rules(case))
    assert len(found) >= 12
    for rule in found:
        judge(rule["expr"])
        for text in rule.get("annotations", {}).values():
            named = set(re.findall(r"\$labels\.(\w+)", text))
            assert named <= set.union(*(shown()[name] for name in words_of(rule["expr"])[0])) | {"pod"}


@r.needs_helm
def test_alerts_look_at_the_pods_of_their_release() -> None:
    for rule in rules("production"):
        assert f'namespace="{r.NAMESPACE}"' in rule["expr"]
        (component,) = set(re.findall(rf'pod=~"{r.FULL}-(\w+)-\.\*"', rule["expr"]))
        assert all(name.startswith(component) for name in words_of(rule["expr"])[0])


@r.needs_helm
def test_scalers_ask_for_what_is_there() -> None:
    queries = scaler_queries("everything-on")
    assert len(queries) == 2
    for query in queries:
        judge(query)
    (scaler,) = r.of_kind(
        r.render({"gateway": {"autoscaling": {"enabled": True, "targetInFlight": 20}}}),
        "HorizontalPodAutoscaler",
    )
    (metric,) = [one["pods"] for one in scaler["spec"]["metrics"] if one["type"] == "Pods"]
    judge(metric["metric"]["name"])
    assert metric["target"] == {"type": "AverageValue", "averageValue": "20"}


@r.needs_helm
def test_the_config_map_holds_the_dashboard() -> None:
    (config,) = [
        document
        for document in r.of_kind(r.rendered("production"), "ConfigMap")
        if document["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    assert json.loads(config["data"]["lingma-gateway.json"]) == dashboard()


@r.needs_helm
@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on the PATH")
@pytest.mark.parametrize("case", ["production", "everything-on"])
def test_prometheus_understands_the_alerts(case: str, tmp_path: Path) -> None:
    (document,) = r.of_kind(r.rendered(case), "PrometheusRule")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(document["spec"]), encoding="utf-8")
    checked = subprocess.run(
        ["promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@r.needs_helm
@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on the PATH")
@pytest.mark.parametrize(("store_down", "hub_down", "told"), [(1, 0, True), (0, 1, True), (0, 0, False)])
def test_a_store_that_is_away_is_told_of_with_turns_or_without(
    store_down: int, hub_down: int, told: bool, tmp_path: Path
) -> None:
    (document,) = r.of_kind(r.rendered("production"), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(document["spec"]), encoding="utf-8")
    labels = {"namespace": r.NAMESPACE, "pod": f"{r.FULL}-gateway-a"}
    where = ",".join(f'{name}="{value}"' for name, value in labels.items())
    (rule,) = [rule for rule in rules("production") if rule["alert"] == "LingmaGatewayStoreAway"]
    summary = rule["annotations"]["summary"].replace("{{ $labels.pod }}", labels["pod"])
    alert = {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": {"summary": summary}}
    case = {
        "interval": "30s",
        "input_series": [
            {"series": f"gateway_store_down{{{where}}}", "values": f"{store_down}x4"},
            {"series": f"gateway_hub_down{{{where}}}", "values": f"{hub_down}x4"},
        ],
        "alert_rule_test": [
            {"eval_time": "90s", "alertname": rule["alert"], "exp_alerts": [alert] if told else []}
        ],
    }
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [case]}), encoding="utf-8")
    asked = subprocess.run(
        ["promtool", "test", "rules", path], capture_output=True, text=True, check=False, timeout=30
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr


def test_a_query_for_what_is_not_there_is_found() -> None:
    """The judge itself."""
    for query in (
        "sum(gateway_nothing)",
        'gateway_in_flight{outcome="failed"}',
        "sum by (loop) (gateway_queued)",
    ):
        with pytest.raises(AssertionError):
            judge(query)
    judge(
        'histogram_quantile(0.95, sum by (le) (rate(gateway_turn_duration_seconds_bucket{pod="a"}[5m]))) > 5'
    )
