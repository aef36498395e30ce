"""A real Helm renders every value file, and Kubernetes would take what comes of it."""

import kubernetes_validate
import pytest

from scripts import helm_engine
from tests.deploy import rendered as r

pytestmark = r.needs_helm

KUBERNETES = ("1.30", "1.34", "1.37")
"""The oldest that the chart asks for, one between, and the newest known to kubernetes-validate 1.37."""

CUSTOM = {"gateway.networking.k8s.io", "keda.sh", "monitoring.coreos.com"}
"""Groups that no release of Kubernetes knows: test_custom_resources.py."""


def test_the_cases_are_those_that_are_meant() -> None:
    assert r.VALUE_FILES == ["cluster-redis", "daemonset", "defaults", "everything-on", "production"]


@r.by_value_file
def test_lint_finds_nothing(case: str) -> None:
    assert helm_engine.lint(r.CHART, r.read_case(case)) == []


@r.by_value_file
@pytest.mark.parametrize("version", KUBERNETES)
def test_every_document_is_valid(case: str, version: str) -> None:
    checked = 0
    for document in r.rendered(case):
        if document["apiVersion"].partition("/")[0] in CUSTOM:
            continue
        kubernetes_validate.validate(document, version, strict=True)
        checked += 1
    assert checked >= 10


@r.by_value_file
def test_no_two_documents_have_one_name(case: str) -> None:
    names = [r.named(document) for document in r.rendered(case)]
    assert sorted(set(names)) == sorted(names)


@r.by_value_file
def test_every_document_says_where_it_belongs(case: str) -> None:
    for document in r.rendered(case):
        assert document["metadata"]["namespace"] == r.NAMESPACE, r.named(document)
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == r.NAME, r.named(document)
        assert labels["app.kubernetes.io/part-of"] == "lingma-gateway", r.named(document)


def test_everything_on_has_every_kind() -> None:
    kinds = {document["kind"] for case in r.VALUE_FILES for document in r.rendered(case)}
    assert kinds == {
        *("ConfigMap", "DaemonSet", "Deployment", "HorizontalPodAutoscaler", "HTTPRoute", "Ingress"),
        *("NetworkPolicy", "Pod", "PodDisruptionBudget", "PodMonitor", "PrometheusRule", "ScaledObject"),
        *("Secret", "Service", "ServiceAccount", "ServiceMonitor", "StatefulSet"),
    }


@pytest.mark.skipif(helm_engine.binary() is None, reason="no helm on the PATH")
@r.by_value_file
def test_the_command_renders_the_same(case: str) -> None:
    by_command = helm_engine.render_by_binary(r.CHART, r.read_case(case), name=r.NAME, namespace=r.NAMESPACE)
    expected = sorted(r.named(document) for document in r.rendered(case))
    assert sorted(r.named(document) for document in by_command) == expected


@r.by_value_file
def test_notes_say_how_to_get_the_key(case: str) -> None:
    notes = helm_engine.notes(r.CHART, r.read_case(case), name=r.NAME, namespace=r.NAMESPACE)
    if notes is None:
        pytest.skip("the helm command tells notes only after an installation")
    secret = "lingma-auth" if case == "production" else f"{r.FULL}-gateway"
    assert f"kubectl get secret --namespace {r.NAMESPACE} {secret}" in notes
    assert "no stickiness" in notes
    assert ("enable-underscores-in-headers" in notes) == bool(r.of_kind(r.rendered(case), "Ingress"))
    assert ("REDIS FOR TRIALS" in notes) == (case in ("defaults", "everything-on"))
    assert "%!" not in notes


def test_notes_say_what_the_autoscaler_needs() -> None:
    values = {"gateway": {"autoscaling": {"enabled": True, "targetInFlight": 20}}}
    notes = helm_engine.notes(r.CHART, values, name=r.NAME, namespace=r.NAMESPACE)
    if notes is None:
        pytest.skip("the helm command tells notes only after an installation")
    assert "prometheus-adapter" in notes
    assert "KEDA" in notes
