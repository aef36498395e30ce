"""The counters as text."""

from gateway.jobs.messages import InstanceRecord
from workers.stats import WorkerStats


def test_text_names_counters_gauges_and_instances() -> None:
    stats = WorkerStats()
    stats.turns["completed"] += 2
    stats.dead_letters["undecodable"] += 1
    stats.frames = 200
    one = InstanceRecord(
        name="inst-0", index=0, ready=True, state="ready", capacity=4, in_flight=2, restarts=3
    )
    lines = stats.prometheus(in_flight=2, draining=False, instances=[one]).split("\n")
    assert lines[-1] == ""
    for line in (
        'worker_turns_total{outcome="completed"} 2',
        'worker_dead_letters_total{reason="undecodable"} 1',
        "worker_frames_total 200",
        "worker_turns_in_flight 2",
        "worker_draining 0",
        'worker_instance_ready{name="inst-0",idx="0"} 1',
        'worker_instance_in_flight{name="inst-0",idx="0"} 2',
        'worker_instance_restarts_total{name="inst-0",idx="0"} 3',
    ):
        assert line in lines


def test_text_parses_with_the_official_parser() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    stats = WorkerStats()
    stats.declined["full"] += 1
    text = stats.prometheus(in_flight=0, draining=True, instances=[])
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert ("worker_declined_total", {"reason": "full"}, 1.0) in [
        (s.name, s.labels, s.value) for s in samples
    ]
