from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.jobs.stats import HubCollector, HubStats


class View(NamedTuple):
    stats: HubStats
    turns: int = 3
    parked: int = 1
    down_since: float | None = None


def told(view: View) -> dict[str, float]:
    """The samples that are no buckets, as a scraper reads them."""
    registry = CollectorRegistry()
    registry.register(HubCollector(view))
    return {
        sample.name.removeprefix("gateway_hub_"): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_a_scraper_is_told_all_figures_from_the_beginning() -> None:
    assert told(View(HubStats())) == {
        "streams": 3,
        "parked": 1,
        "down": 0,
        "recoveries_total": 0,
        "reads_total": 0,
        "entries_total": 0,
        "lag_seconds_count": 0,
        "lag_seconds_sum": 0,
    }


def test_a_store_is_away_only_while_turns_wait_for_it() -> None:
    found = [told(View(HubStats(), turns=turns, down_since=5.0))["down"] for turns in (2, 0)]
    assert found == [1, 0]


def test_reads_that_brought_nothing_are_not_counted() -> None:
    stats = HubStats()
    for entries in (0, 2, 0, 5):
        stats.read(entries)
    stats.waited(1_000, 1_250)
    stats.waited(2_000, 1_000)
    found = told(View(stats, down_since=0.0))
    assert (found["reads_total"], found["entries_total"], found["down"]) == (2, 7, 1)
    assert (found["lag_seconds_count"], found["lag_seconds_sum"]) == (2, 0.25)
