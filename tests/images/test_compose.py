"""docker-compose.yml and the files it mounts, by reading them. What Compose itself would refuse is refused by
a check of the few keys that are used.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from gateway.environ import leaves
from gateway.health import GATEWAY_NAMES, WORKER_NAMES
from gateway.settings import GatewaySettings
from tests.support.redis_server import RedisServer
from workers.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "compose"

Service: TypeAlias = dict[str, Any]

OURS = {"gateway", "gateway-2", "worker", "worker-2", "worker-demo"}
PROFILES = {
    "": {"gateway", "worker", "redis"},
    "demo": {"worker-demo"},
    "scale": {"gateway-2", "worker-2", "balancer"},
    "observe": {"jaeger", "prometheus", "grafana"},
}
READ_BY_COMPOSE = {"APP_UID", "APP_GID", "IMAGE_PREFIX", "IMAGE_TAG", "WITH_BROWSER", "BALANCER_PORT"} | {
    "REDIS_MAXMEMORY",
    "GRAFANA_PASSWORD",
}
SHAPES: dict[str, type | tuple[type, ...]] = {
    "build": dict,
    "cap_drop": list,
    "command": list,
    "depends_on": dict,
    "env_file": list,
    "environment": dict,
    "healthcheck": dict,
    "image": str,
    "init": bool,
    "ports": list,
    "profiles": list,
    "read_only": bool,
    "restart": str,
    "security_opt": list,
    "stop_grace_period": str,
    "stop_signal": str,
    "tmpfs": list,
    "user": str,
    "volumes": list,
}
"""Keys of a service that are used, with the form of each, out of the several that Compose takes."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


COMPOSE = read(ROOT / "docker-compose.yml")
SERVICES: dict[str, Service] = COMPOSE["services"]


def settings_names() -> set[str]:
    return {
        name for root in (GatewaySettings, WorkerSettings) for leaf in leaves(root) for name in leaf.names
    }


def interpolated(value: str, **variables: str) -> str:
    """`${NAME:-default}` as Compose reads it; this form alone is used."""

    def given(match: re.Match[str]) -> str:
        return variables.get(match[1]) or match[2]

    return re.sub(r"\$\{(\w+):-([^}]*)\}", given, value)


def texts(value: Any) -> list[str]:
    """Every text in a document."""
    if isinstance(value, dict):
        return [text for member in value.values() for text in texts(member)]
    if isinstance(value, list):
        return [text for member in value for text in texts(member)]
    return [value] if isinstance(value, str) else []


# -- form -------------------------------------------------------------------------------------------------


def test_keys_and_values_have_the_form_that_compose_wants() -> None:
    extensions = {key for key in COMPOSE if key.startswith("x-")}
    assert COMPOSE.keys() - extensions == {"name", "services", "volumes"}
    for name, service in SERVICES.items():
        wrong = {key for key, value in service.items() if not isinstance(value, SHAPES.get(key, ()))}
        assert wrong == set(), name
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), name
        assert all(isinstance(value, str) for value in service.get("command", [])), name


def test_services_and_volumes_that_are_named_exist() -> None:
    for name, service in SERVICES.items():
        active = PROFILES[""] | {one for profile in service.get("profiles", []) for one in PROFILES[profile]}
        for other, how in service.get("depends_on", {}).items():
            assert other in active, name
            assert how["condition"] in ("service_healthy", "service_started")
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in COMPOSE["volumes"], volume


def test_profiles_add_what_their_names_say() -> None:
    found: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for profile in service.get("profiles", [""]):
            found.setdefault(profile, set()).add(name)
    assert found == PROFILES


def test_variables_have_defaults_and_are_known() -> None:
    used = {match for text in texts(COMPOSE) for match in re.findall(r"\$\{?(\w+)", text)}
    with_default = {match for text in texts(COMPOSE) for match in re.findall(r"\$\{(\w+):-", text)}
    assert used == with_default
    assert used - settings_names() == READ_BY_COMPOSE
    head = (ROOT / "docker-compose.yml").read_text(encoding="utf-8").partition("\nname:")[0]
    assert {name for name in READ_BY_COMPOSE if name not in head} == set()


def test_files_that_are_mounted_are_there() -> None:
    sources = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    # The dashboards are the chart's.
    files = {source for source in sources if source.startswith("./")} - {"./helm/dashboards"}
    assert {source for source in files if not (ROOT / source).exists()} == set()


# -- our services -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(entry.startswith("/tmp:") for entry in service["tmpfs"])
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_are_told_nothing_but_settings(name: str) -> None:
    assert set(SERVICES[name]["environment"]) - settings_names() == set()


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_services_are_built_run_as_10001_and_wait_for_redis(name: str) -> None:
    service = SERVICES[name]
    kind = "worker" if "worker" in name else "gateway"
    assert service["build"]["target"] == kind
    assert interpolated(service["image"]) == f"lingma-gateway{'-worker' if kind == 'worker' else ''}:latest"
    assert interpolated(service["user"]) == "10001:10001"
    assert interpolated(service["user"], APP_UID="1000") == "1000:10001"
    assert service["depends_on"]["redis"] == {"condition": "service_healthy"}
    assert interpolated(service["environment"]["REDIS_URL"]) == "redis://redis:6379/0"
    assert "healthcheck" not in service, "the image has one"


def test_a_migrating_user_finds_the_mounts_the_port_and_the_env_file() -> None:
    gateway, worker = SERVICES["gateway"], SERVICES["worker"]
    for service in (gateway, worker):
        assert service["volumes"] == ["./data:/app/data", "./secrets:/secrets:ro"]
        assert service["env_file"] == [{"path": ".env", "required": False}]
    assert [interpolated(port) for port in gateway["ports"]] == ["8317:8317"]
    assert [interpolated(port, PORT="9000") for port in gateway["ports"]] == ["9000:8317"]
    assert "ports" not in worker


def test_everybody_listens_on_the_port_of_the_image_on_all_interfaces() -> None:
    for name in OURS:
        told = SERVICES[name]["environment"]
        host, port, names = (
            ("WORKER_HOST", "WORKER_PORT", WORKER_NAMES)
            if "worker" in name
            else ("HOST", "PORT", GATEWAY_NAMES)
        )
        assert (told[host], told[port]) == ("0.0.0.0", str(names[2]))


def test_workers_share_neither_name_nor_work_directory() -> None:
    workers = [SERVICES[name]["environment"] for name in sorted(OURS) if "worker" in name]
    assert len({told["WORKER_ID"] for told in workers}) == len(workers) == 3
    assert len({told.get("LINGMA_WORK_DIR", "the image's") for told in workers}) == len(workers)


def test_the_demo_knows_nothing_of_real_accounts() -> None:
    demo = SERVICES["worker-demo"]
    assert demo["environment"]["LINGMA_BIN"] == "simulator"
    assert demo["env_file"] == []
    assert demo["volumes"] == ["./secrets:/secrets:ro"]


def test_stopping_takes_longer_than_draining() -> None:
    server = GatewaySettings().server
    for name in (*OURS, "balancer"):
        grace = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace > server.drain_listen_s + server.drain_deadline_s


def test_redis_never_evicts() -> None:
    program, *arguments = map(interpolated, SERVICES["redis"]["command"])
    assert program == "redis-server"
    with RedisServer(*arguments) as server, server.client() as client:
        told = client.config_get("maxmemory*", "appendonly", "save")
    assert (told["maxmemory-policy"], told["maxmemory"]) == ("noeviction", str(512 * 1024 * 1024))
    assert (told["appendonly"], told["save"]) == ("yes", "")


def test_what_operators_look_at_is_published_on_loopback_only() -> None:
    for name in PROFILES["observe"]:
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])


# -- the files beside it ----------------------------------------------------------------------------------


def test_prometheus_asks_every_gateway_and_worker_on_its_port() -> None:
    config = read(DEPLOY / "prometheus.yml")
    asked = {}
    for job in config["scrape_configs"]:
        (found,) = job["dns_sd_configs"]
        asked |= dict.fromkeys(found["names"], found["port"])
    assert asked == {name: 8318 if "worker" in name else 8317 for name in OURS}


def test_the_balancer_asks_the_gateways_whether_they_want_requests_and_has_no_stickiness() -> None:
    text = (DEPLOY / "haproxy.cfg").read_text(encoding="utf-8")
    servers = dict(re.findall(r"^\s+server (\S+) (\S+)", text, re.MULTILINE))
    assert servers == {name: f"{name}:8317" for name in ("gateway", "gateway-2")}
    assert "http-check send meth GET uri /readyz " in text
    assert not re.search(r"\b(?:cookie|stick|source)\b", re.sub(r"#.*", "", text))
    timeouts = {int(seconds) for seconds in re.findall(r"timeout (?:client|server) (\d+)s", text)}
    assert min(timeouts) > GatewaySettings().turns.timeout_s
    assert [interpolated(port) for port in SERVICES["balancer"]["ports"]] == ["8320:8320"]
    assert "bind :8320" in text


def test_grafana_knows_the_sources_and_where_dashboards_are() -> None:
    sources = {one["uid"]: one for one in read(DEPLOY / "grafana/datasources/datasources.yml")["datasources"]}
    assert {uid: one["url"] for uid, one in sources.items()} == {
        "prometheus": "http://prometheus:9090",
        "jaeger": "http://jaeger:16686",
    }
    (provider,) = read(DEPLOY / "grafana/dashboards/dashboards.yml")["providers"]
    assert f"./helm/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here")
    token = tmp_path / "token"
    token.write_text("x")
    config = tmp_path / "prometheus.yml"
    text = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
    config.write_text(text.replace("/secrets/metrics_token", str(token)))
    done = subprocess.run(
        [promtool, "check", "config", config], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
