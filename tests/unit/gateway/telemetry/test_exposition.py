"""Which format a scraper gets, and a block written by hand in either."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.telemetry.exposition import Format, negotiated, whole

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (PROMETHEUS_2, Format.OPENMETRICS),
        (PROMETHEUS_3, Format.OPENMETRICS),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("Application/OpenMetrics-Text; version=1.0.0 ; q=0.9, text/plain; q=0.8", Format.OPENMETRICS),
        ("", Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/html", Format.TEXT),
        ("text/plain,application/openmetrics-text", Format.TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.5", Format.TEXT),
        ("application/openmetrics-text;q=0", Format.TEXT),
        ("application/openmetrics-text;q=much", Format.TEXT),
        ("application/openmetrics-text;q=1;q=0", Format.OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0", Format.TEXT),
        (";;,=,;q", Format.TEXT),
    ],
)
def test_a_scraper_gets_what_it_prefers_of_what_there_is(accept: str, form: Format) -> None:
    assert negotiated(accept) is form


BLOCK = (
    "# TYPE gateway_in_flight gauge\ngateway_in_flight 2\n"
    "# TYPE gateway_chat_requests_total counter\ngateway_chat_requests_total 5\n"
    "# TYPE gateway_chat_requests_success counter\ngateway_chat_requests_success 4\n"
    "# TYPE worker_turns_total counter\n"
    'worker_turns_total{outcome="# TYPE x_total counter"} 1\n'
)
GENERATED = "# HELP a about\n# TYPE a counter\na_total 1.0\n# EOF\n"


def test_plain_text_stays_as_it_was_written() -> None:
    assert whole(Format.TEXT, BLOCK, "# TYPE a counter\na 1.0\n") == "# TYPE a counter\na 1.0\n" + BLOCK


def test_openmetrics_has_one_end_and_only_its_own_counters() -> None:
    text = whole(Format.OPENMETRICS, BLOCK, GENERATED)
    assert text.count("# EOF") == 1
    assert text.endswith("\n# EOF\n")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name: family.type for name, family in families.items()} == {
        "a": "counter",
        "gateway_in_flight": "gauge",
        "gateway_chat_requests": "counter",
        "gateway_chat_requests_success": "unknown",
        "worker_turns": "counter",
    }
    written = {line for line in BLOCK.splitlines() if not line.startswith("#")}
    assert written < set(text.splitlines()), "samples keep their names"
    assert whole(Format.OPENMETRICS, BLOCK).endswith("\n# EOF\n")
