"""A real kube-apiserver over a real etcd. No controllers, no nodes: what is accepted is stored."""

import base64
import contextlib
import json
import secrets
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from scripts import ensure_apiserver, helm_engine
from tests.support.ports import free_port

START_S = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why = ensure_apiserver.missing()
    if not why and helm_engine.helm_python is None:
        why = "the wheel helm-python-sdk has no build for this machine"
    for item in items:
        if why and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=why))


class Cluster:
    """Where it is, and requests to it."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"https://127.0.0.1:{port}"
        self.token = secrets.token_hex(16)
        self.directory = directory

    @property
    def kubeconfig(self) -> str:
        authority = (self.directory / "certificates" / "apiserver.crt").read_bytes()
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "it",
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                "clusters": [
                    {
                        "name": "it",
                        "cluster": {
                            "server": self.url,
                            "certificate-authority-data": base64.b64encode(authority).decode(),
                        },
                    }
                ],
                "users": [{"name": "it", "user": {"token": self.token}}],
            }
        )

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and document of an answer. Raises OSError when nobody answers."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, timeout=30, context=trusting) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def get(self, path: str) -> Any:
        status, document = self.ask("GET", path)
        assert status == 200, document
        return document

    def create(self, path: str, document: Any) -> Any:
        status, made = self.ask("POST", f"{path}?fieldValidation=Strict", document)
        assert status == 201, made
        return made


def wait_for(what: str, condition: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError, ValueError):
            if condition():
                return
        tail = log.read_text(errors="replace")[-3000:]
        assert process.poll() is None, f"{what} ended:\n{tail}"
        assert time.monotonic() < deadline, f"waited in vain for {what}:\n{tail}"
        time.sleep(0.1)


@contextlib.contextmanager
def running(name: str, directory: Path, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = directory / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=directory)
        try:
            yield process, log
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("apiserver")
    clients, peers, port = free_port(), free_port(), free_port()
    it = Cluster(directory, port)
    tokens = directory / "tokens.csv"
    tokens.write_text(f"{it.token},tester,tester,system:masters\n", encoding="utf-8")
    signing = directory / "signing.pem"
    signing.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    etcd = [
        *("etcd", "--data-dir", str(directory / "etcd"), "--log-level", "warn"),
        *("--listen-client-urls", f"http://127.0.0.1:{clients}"),
        *("--advertise-client-urls", f"http://127.0.0.1:{clients}"),
        *("--listen-peer-urls", f"http://127.0.0.1:{peers}"),
    ]
    server = [
        *(str(ensure_apiserver.BINARY), "--etcd-servers", f"http://127.0.0.1:{clients}"),
        *("--bind-address", "127.0.0.1", "--secure-port", str(port)),
        *("--cert-dir", str(directory / "certificates"), "--token-auth-file", str(tokens)),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-account-key-file", str(signing), "--service-account-signing-key-file", str(signing)),
        *("--service-cluster-ip-range", "10.0.0.0/24", "--authorization-mode", "RBAC"),
        # Nobody here makes the default service account that it would wait for.
        *("--disable-admission-plugins", "ServiceAccount"),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(running("etcd", directory, *etcd))
        process, log = stack.enter_context(running("kube-apiserver", directory, *server))
        wait_for(
            "kube-apiserver", lambda: it.ask("GET", "/api/v1/namespaces/default")[0] == 200, process, log
        )
        for path in sorted(ensure_apiserver.DEFINITIONS.glob("*.yaml")):
            define(it, yaml.safe_load(path.read_text(encoding="utf-8")), process, log)
        yield it


def define(it: Cluster, definition: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    """Create a definition, and wait until its resource can be asked for."""
    status, made = it.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    assert status == 201, made
    group, plural = definition["spec"]["group"], definition["spec"]["names"]["plural"]
    version = next(v["name"] for v in definition["spec"]["versions"] if v["storage"])
    path = f"/apis/{group}/{version}/{plural}"
    wait_for(path, lambda: it.ask("GET", path)[0] == 200, process, log)
