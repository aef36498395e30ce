"""A worker's settings: names, defaults, files, and what is refused."""

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from workers.settings import SettingsProblem, WorkerSettings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in WorkerSettings.model_fields.values():
        alias = field.validation_alias
        for name in [alias] if isinstance(alias, str) else getattr(alias, "choices", []):
            monkeypatch.delenv(str(name), raising=False)
            monkeypatch.delenv(f"{name}_FILE", raising=False)


def test_defaults_need_no_environment() -> None:
    settings = WorkerSettings()
    assert settings.worker_id == socket.gethostname()
    assert (settings.host, settings.port) == ("127.0.0.1", 8318)
    assert settings.lingma_startup_timeout_s == 40
    assert settings.lingma_rpc_timeout_s == 30
    assert settings.lingma_instance_max_in_flight == 4
    assert settings.lingma_instance_count is None
    assert settings.auto_login_enabled is None


def test_names_of_the_worker_win_over_shared_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    monkeypatch.setenv("PORT", "8317")
    assert (WorkerSettings().host, WorkerSettings().port) == ("0.0.0.0", 8317)
    monkeypatch.setenv("WORKER_HOST", "127.0.0.2")
    monkeypatch.setenv("WORKER_PORT", "9000")
    assert (WorkerSettings().host, WorkerSettings().port) == ("127.0.0.2", 9000)


def test_settings_of_a_replica_in_the_same_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "a,b")
    monkeypatch.setenv("GATEWAY_MAX_IN_FLIGHT", "many")
    assert not hasattr(WorkerSettings(), "api_keys")


@pytest.mark.parametrize("text", ["x", "", "0", "-3", "2.5"])
def test_an_instance_count_that_makes_no_sense_is_the_default(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("LINGMA_INSTANCE_COUNT", text)
    assert WorkerSettings().lingma_instance_count is None


@pytest.mark.parametrize(
    ("text", "expected"), [("Yes", True), ("0", False), ("OFF", False), ("perhaps", True), ("", True)]
)
def test_booleans_take_the_usual_words_and_else_the_default(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    monkeypatch.setenv("AUTO_LOGIN_HEADLESS", text)
    assert WorkerSettings().auto_login_headless is expected


def test_a_secret_may_come_from_a_file_and_the_inline_value_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """LV-82. Given: LINGMA_SESSION_BUNDLE and its _FILE both set. Expected: inline used."""
    path = tmp_path / "bundle.b64"
    path.write_text("from-file\n")
    monkeypatch.setenv("LINGMA_SESSION_BUNDLE_FILE", str(path))
    assert WorkerSettings().lingma_session_bundle.get_secret_value() == "from-file"
    monkeypatch.setenv("LINGMA_SESSION_BUNDLE", "inline")
    assert WorkerSettings().lingma_session_bundle.get_secret_value() == "inline"


def test_a_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LINGMA_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsProblem, match="LINGMA_PASSWORD_FILE"):
        WorkerSettings()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGMA_PASSWORD", "pw-4711")
    monkeypatch.setenv("LINGMA_ACCOUNTS", "ann:pw-4711")
    monkeypatch.setenv("REDIS_URL", "redis://:pw-4711@localhost")
    assert "pw-4711" not in repr(WorkerSettings())


@pytest.mark.parametrize("name", ["a{b}", "w 1", "w/1"])
def test_a_name_that_would_break_keys_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("WORKER_ID", name)
    with pytest.raises(ValidationError):
        WorkerSettings()


def test_a_worker_of_its_own_refuses_the_memory_store(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsProblem, match="REDIS_URL"):
        WorkerSettings().check()
    monkeypatch.setenv("REDIS_URL", "redis://localhost:6379/0")
    WorkerSettings().check()


def test_every_setting_is_described() -> None:
    for name, field in WorkerSettings.model_fields.items():
        assert field.description, name
