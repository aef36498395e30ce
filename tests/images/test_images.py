"""The images, built from the Dockerfile: what they say, what is in them, and that they run where nothing may
be written. Skipped where images cannot be built.
"""

import json
import os
import re
import stat
import subprocess
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from openai import OpenAI
from packaging.requirements import Requirement

from tests.images.builder import Builder, Image, registry_words
from tests.images.sandbox import Sandbox
from tests.support.ports import free_port

pytestmark = pytest.mark.timeout(1800)

NOT_FOR_RUNNING = {"pip", "setuptools", "wheel", "hatchling", "editables", "uv", "pytest", "ruff", "mypy"}
COMPILERS = {"cc", "gcc", "g++", "make", "git", "cargo", "rustc", "go"}
LARGEST_ADDITION = 130_000_000
"""Bytes that we may add to a base. 95 million when this was written."""

# -- what they say ----------------------------------------------------------------------------------------


def test_they_run_as_nobody_in_particular_and_stop_by_sigterm(image: Image) -> None:
    assert image.config["User"] == "10001:10001"
    assert image.config["WorkingDir"] == "/app"
    assert image.config["StopSignal"] == "SIGTERM"
    assert image.config["Entrypoint"] == ["lingma-gateway"]


def test_each_has_its_command_port_and_health_check(gateway_image: Image, worker_image: Image) -> None:
    for image, command, port, check in (
        (gateway_image, "serve", "8317/tcp", ["python", "-m", "gateway.health"]),
        (worker_image, "work", "8318/tcp", ["python", "-m", "gateway.health", "worker"]),
    ):
        assert image.config["Cmd"] == [command]
        assert list(image.config["ExposedPorts"]) == [port]
        assert image.config["Healthcheck"]["Test"] == ["CMD", *check]
    where = {name: value for name, value in worker_image.env.items() if name.startswith("LINGMA_")}
    assert set(where) == {"LINGMA_BIN", "LINGMA_WORK_DIR"}
    assert all(value.startswith("/app/data/") for value in where.values())


def test_labels_name_no_address(image: Image) -> None:
    labels = {name.rpartition(".")[2]: value for name, value in image.config["Labels"].items()}
    assert labels.keys() == {"title", "description", "version", "licenses"}
    assert not re.search(r"://|@|\.com|\.io|\.org", " ".join(labels.values()))


# -- what is in them --------------------------------------------------------------------------------------


def distributions(image: Image) -> dict[str, Distribution]:
    return {_canonical(found.name): found for found in Distribution.discover(path=[str(image.site)])}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_only_what_the_project_requires_is_installed(image: Image) -> None:
    """No pip, no build backend: the lock file has them for the build alone."""
    installed = distributions(image)
    version = re.findall(r"^version *= *(\S+)", (image.tree / "app/.venv/pyvenv.cfg").read_text(), re.M)[0]
    needed: set[str] = set()
    waiting = {("lingma-gateway", "")}
    while waiting:
        name, extra = waiting.pop()
        needed.add(name)
        for text in installed[name].requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is not None and not marker.evaluate({"extra": extra, "python_full_version": version}):
                continue
            wanted = {(_canonical(requirement.name), more) for more in requirement.extras or {""}}
            waiting |= {pair for pair in wanted if pair[0] not in needed or pair[1]} - {(name, extra)}
    assert installed.keys() == needed
    assert not needed & NOT_FOR_RUNNING


def test_there_are_no_build_tools(image: Image) -> None:
    programs = {
        path.name for folder in ("usr/bin", "usr/local/bin") for path in (image.tree / folder).iterdir()
    }
    assert not programs & COMPILERS
    assert not (image.tree / "build").exists()


def test_certificates_are_there(image: Image) -> None:
    bundle = image.tree / "etc/ssl/certs/ca-certificates.crt"
    assert bundle.read_text(encoding="utf-8").count("BEGIN CERTIFICATE") > 50


def test_all_byte_code_is_there(image: Image) -> None:
    sources = list(image.site.rglob("*.py"))
    assert len(sources) > 1000
    assert [
        path for path in sources if not any((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))
    ] == []


def test_the_user_owns_nothing_but_the_place_of_the_volume(image: Image) -> None:
    owned = set()
    for folder, _, names in os.walk(image.tree):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            status = path.lstat()
            loose = status.st_mode & stat.S_IWOTH and not stat.S_ISLNK(status.st_mode)
            if status.st_uid == 10001 or status.st_gid == 10001 or (loose and stat.S_ISREG(status.st_mode)):
                owned.add(path.relative_to(image.tree).as_posix())
    assert owned == {"app/data"}


def test_nothing_of_the_registries_stays(image: Image, builder: Builder) -> None:
    words = [word.encode() for word in {builder.canary, *registry_words()}]
    told = json.dumps([image.config, image.history]).encode()
    assert [word for word in words if word in told] == []
    found = []
    for folder in ("app", "etc", "root", "run", "tmp", "var"):
        for path in (image.tree / folder).rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                found += [str(path) for word in words if word in content]
    assert found == []
    assert not list((image.tree / "run").rglob("pip.conf"))


def test_sources_tests_and_secrets_of_the_tree_are_left_out(image: Image) -> None:
    assert [path.name for path in (image.tree / "app").iterdir() if path.name != ".venv"] == ["data"]
    assert list((image.tree / "app/data").iterdir()) == []


def test_they_add_little_to_their_base(image: Image) -> None:
    venv = sum(path.lstat().st_size for path in (image.tree / "app").rglob("*"))
    print(f"image {image.size / 1e6:.0f} MB, ours {venv / 1e6:.0f} MB")
    assert venv < LARGEST_ADDITION


# -- running ----------------------------------------------------------------------------------------------


def say_hello(port: int) -> str:
    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-test", max_retries=0, timeout=60)
    with client:
        asked = [{"role": "user", "content": "say hello"}]
        answer = client.chat.completions.create(model="org_auto", messages=asked)  # type: ignore[arg-type]
    return answer.choices[0].message.content or ""


def outcome(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    return done.returncode, done.stdout.strip() or done.stderr.strip()


def test_only_the_volume_and_tmp_can_be_written(image: Image, tmp_path: Path) -> None:
    box = Sandbox(image, tmp_path)
    places = "/app /app/.venv /etc /var/tmp /app/data /tmp"
    tried = f"for place in {places}; do (: >$place/x) 2>/dev/null && echo $place; done"
    assert box.run("sh", "-c", tried).stdout.split() == ["/app/data", "/tmp"]
    assert box.run("id", "-u").stdout.strip() == "10001"
    capabilities = box.run("grep", "-E", "Cap(Prm|Eff|Bnd)|NoNewPrivs", "/proc/self/status").stdout.split()
    assert capabilities[1::2] == ["0" * 16] * 3 + ["1"]


def test_a_gateway_and_a_worker_answer_from_read_only_trees(
    gateway_image: Image, worker_image: Image, redis_url: str, tmp_path: Path
) -> None:
    port, worker_port = free_port(), free_port()
    gateway = Sandbox(
        gateway_image,
        tmp_path / "gateway",
        **{"PORT": str(port), "REDIS_URL": redis_url, "API_KEYS": "sk-test", "DRAIN_LISTEN_S": "0"},
    )
    # PORT is that of the gateway: one .env feeds both.
    worker = Sandbox(
        worker_image,
        tmp_path / "worker",
        **{
            "PORT": str(port),
            "WORKER_PORT": str(worker_port),
            "REDIS_URL": redis_url,
            "WORKER_ID": "worker-1",
        },
        **{"LINGMA_BIN": "simulator", "LINGMA_SOCKET_PORT": "0", "LINGMA_HTTP_PORT": "0"},
    )
    assert gateway.healthcheck().returncode == 1
    with gateway.start() as serving:
        serving.until(f"http://127.0.0.1:{port}/readyz", "ready")
        assert outcome(gateway.healthcheck()) == (1, "not ok: 0 of 0 instances ready")
        with worker.start() as working:
            working.until(f"http://127.0.0.1:{worker_port}/healthz", "ok")
            serving.until(f"http://127.0.0.1:{port}/healthz", "ok")
            assert outcome(worker.healthcheck()) == (0, "ok: 1 of 1 instances ready")
            assert outcome(gateway.healthcheck()) == (0, "ok: 1 of 1 instances ready")
            assert "hello" in say_hello(port).lower()
            assert (worker.data / ".lingma/vscode/sharedClientCache").is_dir()
            assert working.stop() == 0, working.log
        assert serving.stop() == 0, serving.log
    assert list(gateway.data.iterdir()) == []
    for log in (serving.log, working.log):
        assert not re.search(r'"level": ?"error"|Traceback|Read-only file system', log), log


def test_one_container_alone_serves_the_simulator_as_any_user(gateway_image: Image, tmp_path: Path) -> None:
    port = free_port()
    box = Sandbox(gateway_image, tmp_path, user="4242:4242", PORT=str(port), API_KEYS="sk-test")
    with box.start("up") as running:
        running.until(f"http://127.0.0.1:{port}/healthz", "ok")
        assert "hello" in say_hello(port).lower()
        assert box.healthcheck().returncode == 0


def test_settings_that_cannot_work_end_the_process_with_2(image: Image, tmp_path: Path) -> None:
    box = Sandbox(image, tmp_path, REDIS_URL="memory://")
    done = box.run(*image.config["Entrypoint"], *image.config["Cmd"])
    assert done.returncode == 2
    assert "REDIS_URL" in done.stderr
