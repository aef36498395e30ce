"""A worker's settings: names, defaults, files, and what is refused."""

import socket
from pathlib import Path

import pytest

from gateway.environ import SettingsError, leaves
from gateway.settings import GatewaySettings
from workers.settings import OUR_PREFIXES, WorkerSettings, load


def loaded(**environ: str) -> WorkerSettings:
    settings, _ = load(environ)
    return settings


def test_defaults_need_no_environment() -> None:
    settings = loaded()
    assert settings.worker_id == socket.gethostname()
    assert (settings.host, settings.port) == ("127.0.0.1", 8318)
    assert settings.lingma_startup_timeout_s == 40
    assert settings.lingma_rpc_timeout_s == 30
    assert settings.lingma_instance_max_in_flight == 4
    assert settings.lingma_instance_count is None
    assert settings.auto_login_enabled is False
    assert (settings.lingma_http_port, settings.lingma_coalesce_frames) == (37510, True)
    assert not settings.simulated


def test_names_of_the_worker_win_over_shared_ones() -> None:
    shared = {"HOST": "0.0.0.0", "PORT": "8317"}
    settings = loaded(**shared)
    assert (settings.host, settings.port) == ("0.0.0.0", 8317)
    settings, warnings = load(shared | {"WORKER_HOST": "127.0.0.2", "WORKER_PORT": "9000"})
    assert (settings.host, settings.port) == ("127.0.0.2", 9000)
    assert warnings == []


def test_settings_of_a_replica_in_the_same_environment_are_ignored() -> None:
    assert loaded(API_KEYS="a,b", GATEWAY_MAX_IN_FLIGHT="many") == loaded()


def test_a_misspelt_name_is_a_warning_with_the_nearest_one() -> None:
    given = {"LINGMA_BNI": "x", "LINGMA_SIM_LOGGED_IN": "1", "AUTO_LOGIN_TIMEOUT": "9", "API_KEYZ": "x"}
    assert load(given)[1] == ["LINGMA_BNI is not a setting; did you mean LINGMA_BIN?"]


def test_no_setting_of_a_replica_begins_like_one_of_a_worker() -> None:
    ours = {leaf.env for leaf in leaves(WorkerSettings)}
    theirs = {name for leaf in leaves(GatewaySettings) for name in leaf.names}
    assert [name for name in theirs - ours if name.startswith(OUR_PREFIXES)] == []


@pytest.mark.parametrize("text", ["x", "", "0", "-3", "2.5"])
def test_an_instance_count_that_makes_no_sense_is_the_default(text: str) -> None:
    assert loaded(LINGMA_INSTANCE_COUNT=text).lingma_instance_count is None
    assert loaded(LINGMA_INSTANCE_COUNT=" 5 ").lingma_instance_count == 5


@pytest.mark.parametrize(
    ("text", "expected"), [("Yes", True), ("0", False), ("OFF", False), ("perhaps", True), ("", True)]
)
def test_booleans_take_the_usual_words_and_else_the_default(text: str, expected: bool) -> None:
    assert loaded(LINGMA_BOOTSTRAP_ALWAYS=text).lingma_bootstrap_always is expected


def test_lv_82_a_secret_may_come_from_a_file_and_the_inline_value_wins(tmp_path: Path) -> None:
    """LV-82. Given: LINGMA_SESSION_BUNDLE and its _FILE both set. Expected: inline used."""
    path = tmp_path / "bundle.b64"
    path.write_text("from-file\n")
    settings = loaded(LINGMA_SESSION_BUNDLE_FILE=str(path))
    assert settings.lingma_session_bundle.get_secret_value() == "from-file"
    settings = loaded(LINGMA_SESSION_BUNDLE_FILE=str(path), LINGMA_SESSION_BUNDLE="inline")
    assert settings.lingma_session_bundle.get_secret_value() == "inline"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="LINGMA_PASSWORD_FILE"):
        loaded(LINGMA_PASSWORD_FILE=str(tmp_path / "none"))


def test_secrets_are_not_shown() -> None:
    settings = loaded(
        LINGMA_PASSWORD="pw-4711", LINGMA_ACCOUNTS="ann:pw-4711", REDIS_URL="redis://:pw-4711@h"
    )
    assert "pw-4711" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_ID", "a{b}"),
        ("WORKER_ID", "w 1"),
        ("WORKER_ID", "w/1"),
        ("WORKER_PORT", "99999"),
        ("LINGMA_RPC_TIMEOUT", "0"),
        ("LOG_LEVEL", "LOUD"),
        ("REDIS_URL", "mysql://:pw-4711@host"),
        ("LINGMA_INSTANCE_MAX_IN_FLIGHT", "none"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as refused:
        loaded(**{name: value})
    assert f"'{value}'" not in str(refused.value)


def test_a_worker_of_its_own_refuses_the_memory_store() -> None:
    with pytest.raises(SettingsError, match="REDIS_URL"):
        loaded().check()
    loaded(REDIS_URL="redis://localhost:6379/0").check()


def test_the_bundled_stand_in_is_named_by_a_word() -> None:
    assert loaded(LINGMA_BIN="simulator").simulated


def test_every_setting_is_described() -> None:
    for name, field in WorkerSettings.model_fields.items():
        assert field.description, name


def test_the_password_of_redis_may_stand_apart() -> None:
    assert loaded(REDIS_URL="redis://r", REDIS_PASSWORD="p@ss").store_url == "redis://:p%40ss@r"
