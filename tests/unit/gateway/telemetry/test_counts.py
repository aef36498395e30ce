from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry.counts import Counts, Distribution

BOUNDS = (0.1, 0.5, 1, 10)
VALUES = st.lists(
    st.tuples(st.sampled_from("ab"), st.one_of(st.sampled_from((*BOUNDS, 0.0)), st.floats(0, 1000)))
)


def text(registry: CollectorRegistry) -> list[str]:
    return sorted(generate_latest(registry).decode().splitlines())


@given(VALUES)
def test_a_distribution_is_told_as_the_client_library_tells_its_own(
    seen: Sequence[tuple[str, float]],
) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    labels = ("x",)
    distribution = Distribution("d_seconds", "What it is", labels, BOUNDS, ours)
    histogram = Histogram("d_seconds", "What it is", labels, buckets=BOUNDS, registry=theirs)
    for label, value in seen:
        distribution.observe((label,), value)
        histogram.labels(label).observe(value)
    assert text(ours) == text(theirs)


def test_one_without_labels_is_told_before_anything_was_seen() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Distribution("d_seconds", "What it is", (), BOUNDS, ours)
    Histogram("d_seconds", "What it is", buckets=BOUNDS, registry=theirs)
    assert text(ours) == text(theirs)


def test_each_bucket_names_its_last_example() -> None:
    registry = CollectorRegistry()
    distribution = Distribution("d_seconds", "What it is", (), BOUNDS, registry)
    for value, example in ((0.2, "one"), (0.3, "two"), (0.3, None), (99.0, "three")):
        distribution.observe((), value, None if example is None else {"trace_id": example})
    (family,) = text_string_to_metric_families(generate_openmetrics(registry).decode())
    told = {
        sample.labels["le"]: (sample.exemplar.labels["trace_id"], sample.exemplar.value)
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert told == {"0.5": ("two", 0.3), "+Inf": ("three", 99.0)}


@pytest.mark.parametrize("seen", [[], ["a"], ["a", "b", "a"]])
def test_counts_are_told_by_their_labels(seen: Sequence[str]) -> None:
    registry = CollectorRegistry()
    counts = Counts("c", "What it is", ("x",), registry)
    for label in seen:
        counts.of[(label,)] += 1
    told = [line for line in text(registry) if not line.startswith("#")]
    assert told == [f'c_total{{x="{label}"}} {float(seen.count(label))}' for label in sorted({*seen})]
