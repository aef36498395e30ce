"""What the pods are told agrees with the program."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.sdk import environment_variables as otel

from gateway import serving
from gateway.cli import app as cli
from gateway.engine import drain
from gateway.environ import leaves
from gateway.settings import GatewaySettings
from gateway.settings import load as load_gateway
from tests.deploy import rendered as r
from workers import supervisor
from workers.settings import WorkerSettings
from workers.settings import load as load_worker

pytestmark = r.needs_helm

STAND_INS = {
    "API_KEYS": "sk-one",
    "ADMIN_TOKEN": "admin",
    "METRICS_TOKEN": "metrics",
    "STATE_KEYS": "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "REDIS_URL": "rediss+sentinel://a:26379,b:26379/mymaster",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=x",
    "GEMINI_API_KEY": "AIza",
    "keys.json": '{"keys": [{"key": "sk-two"}]}',
    "accounts.json": "ann:secret",
}
"""What secrets that the chart does not make would hold."""
PLATFORM = {"HOME", "POD_NAME", "HTTPS_PROXY", "GEMINI_API_KEY"}
"""Not settings: what programs and variables refer to, and what the value files add."""


def product(case: str) -> list[r.Workload]:
    return [one for one in r.workloads(r.rendered(case)) if one.component in ("gateway", "worker")]


# -- settings ---------------------------------------------------------------------------------------------


@r.by_value_file
def test_every_variable_is_a_setting_of_that_process(case: str) -> None:
    known = {
        "gateway": {name for leaf in leaves(GatewaySettings) for name in leaf.names},
        "worker": {name for leaf in leaves(WorkerSettings) for name in leaf.names},
    }
    standard = {name for name in vars(otel) if name.startswith("OTEL_")}
    for one in product(case):
        unknown = r.env(one.container).keys() - known[one.component] - standard - PLATFORM
        assert unknown == set(), one.name


def environment(case: str, one: r.Workload, directory: Path) -> dict[str, str]:
    """What the process would find: values, secrets of the chart, stand-ins; files in a directory."""
    made = r.secrets(r.rendered(case))
    found = {}
    for name, variable in r.env(one.container).items():
        source = variable.get("valueFrom", {})
        if "secretKeyRef" in source:
            reference = source["secretKeyRef"]
            secret = made.get(reference["name"])
            if secret is None and reference.get("optional") and name not in STAND_INS:
                continue
            found[name] = STAND_INS[name] if secret is None else secret[reference["key"]]
        else:
            found[name] = "pod-0" if "fieldRef" in source else variable["value"]
    volumes = {volume["name"]: volume for volume in one.pod["volumes"]}
    for name, value in found.items():
        for mount in one.container["volumeMounts"]:
            if mount.get("readOnly") and value.startswith(mount["mountPath"] + "/"):
                found[name] = str(_put(directory, volumes[mount["name"]], value, mount["mountPath"], made))
    return found


def _put(
    directory: Path, volume: r.Json, path: str, mounted_at: str, made: dict[str, dict[str, str]]
) -> Path:
    """The file at that path of the volume, in the directory."""
    inside = path.removeprefix(mounted_at + "/")
    secret = volume["secret"]
    keys = {item["path"]: item["key"] for item in secret.get("items", [])}
    key = keys[inside] if keys else inside
    texts = made.get(secret["secretName"])
    target = directory / f"{volume['name']}-{inside}"
    target.write_text(STAND_INS[key] if texts is None else texts[key], encoding="utf-8")
    return target


@r.by_value_file
def test_processes_take_these_settings(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a wrong value, not an unknown name, not a warning; a warning would be in every pod's log."""
    readers: dict[str, Callable[..., tuple[GatewaySettings | WorkerSettings, list[str]]]] = {
        "gateway": load_gateway,
        "worker": load_worker,
    }
    for one in product(case):
        environ = environment(case, one, tmp_path)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)  # `api_key_env` of upstreams looks there
        settings, warnings = readers[one.component](environ)
        assert warnings == [], one.name
        if isinstance(settings, WorkerSettings):
            settings.check()
        else:
            settings.require_shared_store()
            assert settings.access.api_keys, "the interface would be open"


def test_values_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = "everything-on"
    monkeypatch.setenv("GEMINI_API_KEY", "AIza")
    settings, _ = load_gateway(environment(case, r.workload(r.rendered(case), "gateway"), tmp_path))
    assert settings.server.max_body_bytes == 134217728
    assert settings.server.keepalive_s == 7.5
    assert settings.replay.strict is True
    assert settings.server.drain_deadline_s == 300
    assert [key.get_secret_value() for key in settings.access.api_keys] == ["sk-one", "sk-two"]
    assert sorted(upstream.name for upstream in settings.upstreams.config().upstreams) == ["codex", "gem"]
    worker, _ = load_worker(environment(case, r.workload(r.rendered(case), "worker"), tmp_path))
    assert worker.simulated
    assert worker.lingma_username == "ann"
    assert worker.lingma_password.get_secret_value() == "secret"
    assert worker.drain_deadline_s == 300
    aliases, _ = load_gateway(
        environment("production", r.workload(r.rendered("production"), "gateway"), tmp_path)
    )
    assert aliases.models.aliases == {"gpt-4o": "dashscope_qwen3_coder"}


def test_the_address_of_a_cluster_with_tls_arrives_and_so_do_its_certificates(tmp_path: Path) -> None:
    case = "cluster-redis"
    for one in product(case):
        address = environment(case, one, tmp_path)["REDIS_URL"]
        assert address.startswith("rediss+cluster://")
        (mount,) = [m for m in one.container["volumeMounts"] if m["name"] == "redis-tls"]
        named_files = re.findall(r"=(/[^&]+)/(?:ca\.crt|tls\.crt|tls\.key)", address)
        assert named_files == [mount["mountPath"]] * 3


@pytest.mark.parametrize(("case", "field"), [("defaults", "metadata.name"), ("daemonset", "spec.nodeName")])
def test_a_worker_keeps_its_name_when_its_pod_is_replaced(case: str, field: str) -> None:
    variable = r.env(r.workload(r.rendered(case), "worker").container)["WORKER_ID"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == field


@r.by_value_file
def test_gateways_do_not_see_logins_nor_workers_keys(case: str) -> None:
    for one in product(case):
        names = r.env(one.container).keys()
        if one.component == "gateway":
            assert not [name for name in names if name.startswith("LINGMA_")]
            assert "lingma" not in [volume["name"] for volume in one.pod["volumes"]]
        else:
            assert not names & {"API_KEYS", "ADMIN_TOKEN", "METRICS_TOKEN", "CODEX_API_KEYS", "KEY_FILE"}


@r.by_value_file
def test_containers_run_commands_that_there_are(case: str) -> None:
    commands = {
        command.name or command.callback.__name__ for command in cli.registered_commands if command.callback
    }
    for one in product(case):
        assert one.container["args"] == [{"gateway": "serve", "worker": "work"}[one.component]]
        assert set(one.container["args"]) <= commands
        assert "command" not in one.container, "the entry point is the image's"


# -- addresses --------------------------------------------------------------------------------------------


@r.by_value_file
def test_services_and_probes_lead_to_ports_that_processes_listen_on(case: str) -> None:
    for one in product(case):
        env = r.env(one.container)
        ((name, number),) = one.ports.items()
        told = {"gateway": "PORT", "worker": "WORKER_PORT"}[one.component]
        assert env[told]["value"] == str(number)
        assert env["HOST" if one.component == "gateway" else "WORKER_HOST"]["value"] == "0.0.0.0"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert one.container[probe]["httpGet"]["port"] == name
    for service in r.of_kind(r.rendered(case), "Service"):
        selector = service["spec"]["selector"]
        (target,) = [one for one in r.workloads(r.rendered(case)) if selector.items() <= one.labels.items()]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in target.ports


def test_default_ports_are_those_of_the_program() -> None:
    defaults = {
        leaf.env: leaf.field.default
        for found in (leaves(GatewaySettings), leaves(WorkerSettings))
        for leaf in found
    }
    ports = {one.component: one.ports for one in product("defaults")}
    assert ports == {"gateway": {"http": defaults["PORT"]}, "worker": {"health": defaults["WORKER_PORT"]}}


def told_paths(title: str) -> set[str]:
    """Paths in a chapter of the page of endpoints, which a test holds against the routes."""
    page = (r.ROOT / "docs/reference/endpoints.md").read_text(encoding="utf-8")
    return set(re.findall(r"`GET (/\w+)`", page.partition(f"## {title}")[2].partition("\n## ")[0]))


@r.by_value_file
def test_probes_ask_what_is_there(case: str) -> None:
    chapters = {"gateway": "Probes of a replica", "worker": "A worker"}
    for one in product(case):
        asked = {
            probe: one.container[probe]["httpGet"]["path"]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert asked == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
        assert set(asked.values()) <= told_paths(chapters[one.component])


@r.by_value_file
def test_scrapers_ask_what_is_there(case: str) -> None:
    for monitor in r.of_kind(r.rendered(case), "ServiceMonitor", "PodMonitor"):
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        gateway = monitor["kind"] == "ServiceMonitor"
        assert endpoint["path"] in told_paths("Figures and questions of operators" if gateway else "A worker")


@r.by_value_file
def test_what_leads_in_leads_to_the_gateways(case: str) -> None:
    documents = r.rendered(case)
    service = r.one(documents, f"Service/{r.FULL}-gateway")
    assert service["spec"]["sessionAffinity"] == "None"
    for ingress in r.of_kind(documents, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            (path,) = rule["http"]["paths"]
            assert path["backend"]["service"]["name"] == service["metadata"]["name"]
            assert path["backend"]["service"]["port"]["name"] in [p["name"] for p in service["spec"]["ports"]]


# -- stopping ---------------------------------------------------------------------------------------------


@r.by_value_file
def test_pods_have_the_time_that_their_processes_take(case: str) -> None:
    for one in product(case):
        env, container = r.env(one.container), one.container
        deadline = float(env["DRAIN_DEADLINE_S"]["value"])
        if one.component == "gateway":
            wait = container["lifecycle"]["preStop"]["sleep"]["seconds"]
            needed = wait + float(env["DRAIN_LISTEN_S"]["value"]) + drain.CANCEL_S + serving.GRACEFUL_S
        else:
            needed = supervisor.CANCEL_WAIT_S + 1 + supervisor.LEAVE_S
        grace = one.pod["terminationGracePeriodSeconds"]
        assert grace > deadline + needed, one.name
        assert grace == deadline + 20 or case == "everything-on"


@pytest.mark.parametrize(
    ("values", "gateway", "worker"),
    [
        ({}, 140, 140),
        ({"deadlineSeconds": 30}, 50, 50),
        ({"deadlineSeconds": 30.5, "listenSeconds": 0, "preStopSeconds": 0}, 51, 51),
        ({"deadlineSeconds": 600, "listenSeconds": 30, "preStopSeconds": 20}, 660, 620),
    ],
)
def test_the_grace_period_follows_from_the_drain(values: dict[str, float], gateway: int, worker: int) -> None:
    documents = r.render({"drain": values})
    found = {
        one.component: one.pod["terminationGracePeriodSeconds"]
        for one in r.workloads(documents)
        if one.component in ("gateway", "worker")
    }
    assert found == {"gateway": gateway, "worker": worker}


def test_a_new_version_comes_in_before_an_old_one_goes() -> None:
    strategy = r.workload(r.rendered("defaults"), "gateway").document["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


# -- rights -----------------------------------------------------------------------------------------------


@r.by_value_file
def test_pods_have_no_rights_that_they_do_not_need(case: str) -> None:
    for one in r.workloads(r.rendered(case)):
        assert one.pod["automountServiceAccountToken"] is False, one.name
        assert one.pod["enableServiceLinks"] is False, one.name
        context = one.pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 10001
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert one.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        resources = one.container["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert resources["limits"].keys() == {"memory"}
    for account in r.of_kind(r.rendered(case), "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@r.by_value_file
def test_everything_that_is_written_has_a_place(case: str) -> None:
    for one in product(case):
        writable = {m["mountPath"] for m in one.container["volumeMounts"] if not m.get("readOnly")}
        assert writable == ({"/tmp"} if one.component == "gateway" else {"/tmp", "/app/data"})
    for leaf in leaves(WorkerSettings):
        if leaf.env in ("LINGMA_BIN", "LINGMA_WORK_DIR"):
            assert str(leaf.field.default).startswith("data/"), "the image works in /app"
