"""Counters, and the text that Prometheus reads."""

import msgspec
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gateway.jobs.messages import InstanceRecord
from gateway.kernel.ids import TurnId
from gateway.telemetry.exposition import Format
from gateway.telemetry.metrics import ChatStats, TurnStatistics, render_reference
from gateway.turn.losses import Loss
from gateway.turn.request import RawRequest, Turn
from gateway.turn.usage import Usage


class Figures(msgspec.Struct, kw_only=True):
    outcome: str = "completed"
    usage: Usage | None = None
    upstream: str = "lingma"
    ttft_ms: int | None = 40
    duration_ms: int = 1500
    failed_attempts: list[tuple[str, str]] = []
    replayed: list[tuple[str, str]] = []
    queued_s: float | None = 0.02
    repairs: int = 0
    losses: list[Loss] = []
    exemplar: dict[str, str] | None = None


def turn(*, stream: bool = True) -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant="-",
        created_at_ms=0,
        model="whatever-a-user-wrote",
        items=(),
        raw=RawRequest("chat", {}),
        stream=stream,
    )


def instance(name: str, index: int, *, in_flight: int = 0, ready: bool = True) -> InstanceRecord:
    return InstanceRecord(name=name, index=index, ready=ready, state="ready", capacity=4, in_flight=in_flight)


def test_lv_90_negative_tokens_count_as_none() -> None:
    """Given chats recorded with (-3, 5) and (2, -7) tokens.

    Expected total 2, success 1, error 1, stream 1, non_stream 1, prompt 2, completion 5.
    """
    stats = ChatStats()
    stats.record_chat(stream=True, success=True, prompt_tokens=-3, completion_tokens=5)
    stats.record_chat(stream=False, success=False, prompt_tokens=2, completion_tokens=-7)
    assert stats.counters() == {
        "chat_requests_total": 2,
        "chat_requests_success": 1,
        "chat_requests_error": 1,
        "chat_stream_requests": 1,
        "chat_non_stream_requests": 1,
        "prompt_tokens_estimated_total": 2,
        "completion_tokens_estimated_total": 5,
        "total_tokens_estimated": 7,
    }


def test_lv_91_pool_lines_are_exact() -> None:
    """Given inst-0 with two turns and inst-1 not ready. Expected these lines, labels name then idx."""
    text = render_reference({}, [instance("inst-0", 0, in_flight=2), instance("inst-1", 1, ready=False)], [])
    assert text == (
        "# TYPE gateway_pool_instance_in_flight gauge\n"
        'gateway_pool_instance_in_flight{name="inst-0",idx="0"} 2\n'
        'gateway_pool_instance_in_flight{name="inst-1",idx="1"} 0\n'
        "# TYPE gateway_pool_instance_ready gauge\n"
        'gateway_pool_instance_ready{name="inst-0",idx="0"} 1\n'
        'gateway_pool_instance_ready{name="inst-1",idx="1"} 0\n'
    )


def test_the_reference_block_has_types_integers_and_a_newline_at_the_end() -> None:
    figures = {"in_flight": 1, "accepted_total": 7}
    text = render_reference(
        figures, [], ["# TYPE gateway_session_cache_size gauge", "gateway_session_cache_size 3"]
    )
    assert text == (
        "# TYPE gateway_in_flight gauge\n"
        "gateway_in_flight 1\n"
        "# TYPE gateway_accepted_total counter\n"
        "gateway_accepted_total 7\n"
        "# TYPE gateway_session_cache_size gauge\n"
        "gateway_session_cache_size 3\n"
    )


def test_the_official_parser_reads_both_blocks_together() -> None:
    statistics = TurnStatistics()
    statistics.record(turn(), Figures(usage=Usage(input_tokens=4, output_tokens=6)))
    statistics.record(turn(stream=False), Figures(outcome="failed", ttft_ms=None))
    odd_name = 'w"1\\\n/inst-0'
    text = statistics.metrics.render(Format.TEXT) + render_reference(
        {"in_flight": 1, **statistics.chat.counters()}, [instance(odd_name, 0, in_flight=2)], []
    )
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["gateway_chat_requests_total", ()] == 2
    assert "\ngateway_total_tokens_estimated 10\n" in text  # the parser itself appends _total to counters
    assert samples["gateway_pool_instance_in_flight", (("idx", "0"), ("name", odd_name))] == 2
    done = (("dialect", "chat"), ("outcome", "completed"), ("upstream", "lingma"))
    assert samples["gateway_turns_total", done] == 1
    assert samples["gateway_turn_duration_seconds_sum", done] == 1.5
    assert samples["gateway_turn_time_to_first_token_seconds_count", (done[0], done[2])] == 1
    assert samples["gateway_tokens_total", (("direction", "output"), ("upstream", "lingma"))] == 6
    assert "whatever-a-user-wrote" not in text


def test_what_went_wrong_on_the_way_is_counted() -> None:
    statistics = TurnStatistics()
    failed = [("codex", "rate_limited"), ("codex", "rate_limited"), ("gem", "upstream_timeout")]
    statistics.record(
        turn(), Figures(failed_attempts=failed, repairs=3, queued_s=None, replayed=[("gem", "injected")])
    )
    statistics.record(turn(), Figures(queued_s=0.2))
    text = statistics.metrics.render(Format.TEXT)
    assert 'gateway_attempts_failed_total{kind="rate_limited",upstream="codex"} 2.0' in text
    assert 'gateway_attempts_failed_total{kind="upstream_timeout",upstream="gem"} 1.0' in text
    assert 'gateway_replay_total{event="injected",upstream="gem"} 1.0' in text
    assert 'gateway_grammar_repairs_total{upstream="lingma"} 3.0' in text
    assert "gateway_turn_queue_wait_seconds_count 1.0" in text


def test_losses_are_counted_by_turn_and_reason_and_hold_nothing_that_a_user_wrote() -> None:
    statistics = TurnStatistics()
    losses = [
        Loss("tools.whatever-a-user-wrote", "hosted-elsewhere"),
        Loss("tools.another", "hosted-elsewhere"),
        Loss("messages.0", "not-in-gemini", "whatever-a-user-wrote"),
    ]
    for _ in range(2):
        statistics.record(turn(), Figures(upstream="gem", losses=losses))
    text = statistics.metrics.render(Format.TEXT)
    assert 'gateway_losses_total{reason="hosted-elsewhere",upstream="gem"} 2.0' in text
    assert 'gateway_losses_total{reason="not-in-gemini",upstream="gem"} 2.0' in text
    assert "whatever-a-user-wrote" not in text


TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}


def test_a_bucket_names_the_trace_of_the_last_sampled_turn_in_it() -> None:
    statistics = TurnStatistics()
    later = {"trace_id": "f" * 32, "span_id": "e" * 16}
    for exemplar in (TRACE, later, None):
        statistics.record(turn(), Figures(exemplar=exemplar))
    statistics.record(turn(), Figures(duration_ms=20, exemplar=None))
    samples = [
        sample
        for family in openmetrics(statistics.metrics.render(Format.OPENMETRICS))
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert {sample.name: sample.exemplar.labels for sample in samples if sample.exemplar} == {
        "gateway_turn_duration_seconds_bucket": later,
        "gateway_turn_time_to_first_token_seconds_bucket": later,
        "gateway_turn_queue_wait_seconds_bucket": later,
    }
    assert [(sample.labels["le"], sample.exemplar.value) for sample in samples if sample.exemplar] == [
        ("2.5", 1.5),
        ("0.05", 0.04),
        ("0.05", 0.02),
    ]
    assert "trace_id" not in statistics.metrics.render(Format.TEXT)


def test_a_histogram_has_no_series_of_its_age() -> None:
    statistics = TurnStatistics()
    statistics.record(turn(), Figures())
    assert "_created" not in statistics.metrics.render(Format.TEXT)


def test_a_turn_that_was_cancelled_is_no_success() -> None:
    statistics = TurnStatistics()
    statistics.record(turn(), Figures(outcome="cancelled"))
    assert statistics.chat.counters()["chat_requests_error"] == 1


def test_two_sets_of_instruments_live_side_by_side() -> None:
    first, second = TurnStatistics(), TurnStatistics()
    first.record(turn(), Figures())
    assert "gateway_turns_total{" in first.metrics.render(Format.TEXT)
    assert "gateway_turns_total{" not in second.metrics.render(Format.TEXT)
