"""The Jaeger of the chart and of Compose is the one that is tested, and takes what they tell it."""

import os
import subprocess
from typing import Any

import pytest
import yaml

from scripts import ensure_jaeger
from tests.deploy import rendered as r

pytestmark = r.needs_helm


def of_the_chart(listen_host: str) -> r.Workload:
    values = {"tracing": {"jaeger": {"enabled": True}}, "listenHost": listen_host}
    return r.workload(r.render(values), "jaeger")


def of_compose() -> dict[str, Any]:
    text = (r.ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text)["services"]["jaeger"])


def test_it_is_the_release_and_the_arguments_that_are_tested() -> None:
    chart, compose = of_the_chart("0.0.0.0").container, of_compose()
    assert chart["image"] == f"docker.io/jaegertracing/jaeger:{ensure_jaeger.RELEASE}"
    assert compose["image"] == f"jaegertracing/jaeger:{ensure_jaeger.RELEASE}"
    assert tuple(chart["args"]) == tuple(compose["command"]) == ensure_jaeger.ARGUMENTS


def told(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """What a real Jaeger makes of arguments and environment, without starting."""
    command = [
        str(ensure_jaeger.BINARY),
        "print-config",
        "--feature-gates=otelcol.printInitialConfig",
        f"--config=file:{ensure_jaeger.CONFIGURATION}",
        *arguments,
    ]
    run = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return dict(yaml.safe_load(run.stdout))


@pytest.mark.skipif(bool(ensure_jaeger.missing()), reason=ensure_jaeger.missing())
@pytest.mark.parametrize(("listen_host", "shown"), [("0.0.0.0", "0.0.0.0"), ("::", "[::]")])
def test_a_real_one_listens_where_the_chart_looks_for_it(listen_host: str, shown: str) -> None:
    jaeger = of_the_chart(listen_host)
    environment = {name: variable["value"] for name, variable in r.env(jaeger.container).items()}
    config = told(jaeger.container["args"], environment)
    receiver = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    assert receiver == f"{shown}:{jaeger.ports['otlp-http']}"
    query = config["extensions"]["jaeger_query"]["http"]["endpoint"]
    assert query == f":{jaeger.ports['ui']}", "everywhere, whatever it is told"
    storage = config["extensions"]["jaeger_storage"]["backends"]["some_storage"]["memory"]
    assert storage["max_traces"] == 20000


@pytest.mark.skipif(bool(ensure_jaeger.missing()), reason=ensure_jaeger.missing())
def test_a_real_one_takes_what_compose_tells_it() -> None:
    compose = of_compose()
    config = told(compose["command"], compose["environment"])
    assert config["receivers"]["otlp"]["protocols"]["http"]["endpoint"] == "0.0.0.0:4318"
    assert config["extensions"]["jaeger_query"]["http"]["endpoint"] == ":16686"
