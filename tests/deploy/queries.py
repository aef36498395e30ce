"""The queries of the chart: panels of the dashboard, alerts, triggers of scalers."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.deploy import rendered as r

DASHBOARD = r.CHART / "dashboards" / "lingma-gateway.json"
WORDS = {
    *("absent", "count", "histogram_quantile", "increase", "max", "rate", "sum", "vector"),
    *("by", "or", "unless", "offset"),
}
"""Functions and words of the query language that are used."""


def words_of(query: str) -> tuple[set[str], set[str]]:
    """The names of series that a query asks for, and the labels it names."""
    labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", query))
    for group in re.findall(r"\bby\s*\(([^)]*)\)", query):
        labels |= {name.strip() for name in group.split(",")}
    bare = re.sub(r"\bby\s*\([^)]*\)", " ", re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", query))
    names = set(re.findall(r"(?<![\w.])[a-z_]\w*", re.sub(r"\b\d+[smhd]\b", " ", bare)))
    return names - WORDS, labels


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return loaded


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules(case: str) -> Iterator[dict[str, Any]]:
    for document in r.of_kind(r.rendered(case), "PrometheusRule"):
        for group in document["spec"]["groups"]:
            yield from group["rules"]


def scaler_queries(case: str) -> list[str]:
    return [
        trigger["metadata"]["query"]
        for document in r.of_kind(r.rendered(case), "ScaledObject")
        for trigger in document["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]
