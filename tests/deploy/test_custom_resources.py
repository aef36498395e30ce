"""Documents whose schemas no package brings: HTTPRoute, ScaledObject, and those of the Prometheus operator.

What is checked is what their definitions ask for (required fields, known fields, enumerations) as far as the
chart uses them.
"""

import re

import pytest

from tests.deploy import rendered as r

pytestmark = r.needs_helm

EVERYTHING = "everything-on"


def test_http_route() -> None:
    (route,) = r.of_kind(r.rendered(EVERYTHING), "HTTPRoute")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    spec = route["spec"]
    assert spec.keys() == {"parentRefs", "hostnames", "rules"}
    assert spec["parentRefs"] == [{"name": "public", "namespace": "gateways"}]
    (rule,) = spec["rules"]
    assert rule.keys() <= {"name", "matches", "filters", "backendRefs", "timeouts"}
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}  # no limit
    service = r.one(r.rendered(EVERYTHING), f"Service/{rule['backendRefs'][0]['name']}")
    assert rule["backendRefs"][0]["port"] in [port["port"] for port in service["spec"]["ports"]]


def test_http_route_without_time_limits() -> None:
    route_values = {"enabled": True, "parentRefs": [{"name": "g"}], "timeouts": None}
    (route,) = r.of_kind(r.render({"httpRoute": route_values}), "HTTPRoute")
    assert "timeouts" not in route["spec"]["rules"][0]


def test_scaled_objects() -> None:
    found = r.of_kind(r.rendered(EVERYTHING), "ScaledObject")
    assert [document["metadata"]["name"] for document in found] == [f"{r.FULL}-gateway", f"{r.FULL}-worker"]
    for document in found:
        assert document["apiVersion"] == "keda.sh/v1alpha1"
        spec = document["spec"]
        assert spec.keys() <= {
            *("scaleTargetRef", "pollingInterval", "cooldownPeriod", "minReplicaCount", "maxReplicaCount"),
            *("advanced", "triggers", "fallback", "idleReplicaCount", "initialCooldownPeriod"),
        }
        target = spec["scaleTargetRef"]
        assert target.keys() == {"apiVersion", "kind", "name"}
        scaled = r.one(r.rendered(EVERYTHING), f"{target['kind']}/{target['name']}")
        assert scaled["apiVersion"] == target["apiVersion"]
        assert "replicas" not in scaled["spec"], "Helm and KEDA would both set the number"
        assert 0 < spec["minReplicaCount"] <= spec["maxReplicaCount"]
        for trigger in spec["triggers"]:
            assert trigger.keys() <= {"type", "metadata", "metricType", "name", "authenticationRef"}
            assert all(isinstance(value, str) for value in trigger["metadata"].values())
            if trigger["type"] == "prometheus":
                assert trigger["metadata"].keys() == {"serverAddress", "query", "threshold"}
            else:
                assert trigger == {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}


def test_a_scaler_of_cpu_has_a_request_of_cpu() -> None:
    """The percentage is of what is requested."""
    for case in ("production", EVERYTHING):
        container = r.workload(r.rendered(case), "gateway").container
        assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_monitors(kind: str) -> None:
    documents = r.rendered(EVERYTHING)
    (monitor,) = r.of_kind(documents, kind)
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    spec = monitor["spec"]
    list_name = "endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"
    assert spec.keys() == {"selector", "namespaceSelector", list_name}
    assert spec["namespaceSelector"] == {"matchNames": [r.NAMESPACE]}
    (endpoint,) = spec[list_name]
    assert endpoint.keys() <= {"port", "path", "interval", "authorization"}
    assert re.fullmatch(r"[0-9]+s", endpoint["interval"])
    selected = [
        document
        for document in r.of_kind(documents, "Service")
        if spec["selector"]["matchLabels"].items() <= document["metadata"]["labels"].items()
    ]
    if kind == "ServiceMonitor":
        (service,) = selected
        assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    else:
        (watched,) = [
            one
            for one in r.workloads(documents)
            if spec["selector"]["matchLabels"].items() <= one.labels.items()
        ]
        assert watched.component == "worker"
        assert endpoint["port"] in watched.ports


@pytest.mark.parametrize("case", ["production", EVERYTHING])
def test_gateways_are_scraped_with_their_token(case: str) -> None:
    documents = r.rendered(case)
    (monitor,) = r.of_kind(documents, "ServiceMonitor")
    asked = monitor["spec"]["endpoints"][0]["authorization"]
    told = r.env(r.workload(documents, "gateway").container)["METRICS_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert asked["type"] == "Bearer"
    assert asked["credentials"] == {"name": told["name"], "key": told["key"]}


def test_prometheus_rule() -> None:
    (rule,) = r.of_kind(r.rendered(EVERYTHING), "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"].keys() == {"groups"}
    groups = rule["spec"]["groups"]
    assert len({group["name"] for group in groups}) == len(groups) == 3
    ours = [one for group in groups[:2] for one in group["rules"]]
    assert len({one["alert"] for one in ours}) == len(ours) >= 10
    for one in ours:
        assert one.keys() <= {"alert", "expr", "for", "labels", "annotations", "keep_firing_for"}
        assert one["labels"]["severity"] in ("info", "warning", "critical")
        assert one["annotations"]["summary"].endswith(".")
        assert re.fullmatch(r"[0-9]+m", one.get("for", "0m"))
