"""The chart rendered with every value file, and ways to look around in what came of it."""

import base64
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import yaml

from scripts import helm_engine

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm"
NAME, NAMESPACE = "demo", "ai"
FULL = "demo-lingma-gateway"
VALUE_FILES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

Json: TypeAlias = dict[str, Any]

needs_helm = pytest.mark.skipif(
    not helm_engine.available(),
    reason="no Helm: no wheel of helm-python-sdk for this machine, none on the PATH",
)
by_value_file = pytest.mark.parametrize("case", VALUE_FILES)


def read_case(case: str) -> Json:
    return yaml.safe_load((CHART / "ci" / f"{case}-values.yaml").read_text(encoding="utf-8")) or {}


def render(values: Mapping[str, Any]) -> list[Json]:
    return helm_engine.render(CHART, dict(values), name=NAME, namespace=NAMESPACE)


@cache
def rendered(case: str) -> tuple[Json, ...]:
    return tuple(render(read_case(case)))


def of_kind(documents: tuple[Json, ...] | list[Json], *kinds: str) -> list[Json]:
    return [document for document in documents if document["kind"] in kinds]


def named(document: Json) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def one(documents: tuple[Json, ...] | list[Json], name: str) -> Json:
    """The document that is called `Kind/name`."""
    found = [document for document in documents if named(document) == name]
    assert len(found) == 1, f"{len(found)} documents are {name}"
    return found[0]


class Workload(NamedTuple):
    """What makes pods, and the pods it makes."""

    document: Json
    labels: Json
    pod: Json

    @property
    def name(self) -> str:
        return named(self.document)

    @property
    def component(self) -> str:
        return str(self.labels["app.kubernetes.io/component"])

    @property
    def container(self) -> Json:
        (container,) = self.pod["containers"]
        return dict(container)

    @property
    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", [])}


def workloads(documents: tuple[Json, ...] | list[Json]) -> list[Workload]:
    found = []
    for document in documents:
        if document["kind"] == "Pod":
            found.append(Workload(document, document["metadata"]["labels"], document["spec"]))
        elif document["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):
            template = document["spec"]["template"]
            found.append(Workload(document, template["metadata"]["labels"], template["spec"]))
    return found


def workload(documents: tuple[Json, ...] | list[Json], component: str) -> Workload:
    (found,) = [one for one in workloads(documents) if one.component == component]
    return found


def env(container: Json) -> dict[str, Json]:
    """Variables by name; a name twice would be a mistake."""
    found: dict[str, Json] = {}
    for variable in container.get("env", []):
        assert variable["name"] not in found, f"{variable['name']} is set twice"
        found[variable["name"]] = variable
    return found


def secrets(documents: tuple[Json, ...] | list[Json]) -> dict[str, dict[str, str]]:
    """Texts of the secrets that the chart makes, by name and key."""
    return {
        document["metadata"]["name"]: {
            key: base64.b64decode(value).decode() for key, value in document["data"].items()
        }
        for document in of_kind(documents, "Secret")
    }


def walk(node: Any) -> Iterator[Json]:
    """Every mapping inside."""
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)
