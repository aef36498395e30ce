"""The settings of a replica: names, defaults, and what an operator is told."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from gateway.environ import NAMES_WITHOUT_EFFECT, SettingsError, leaves
from gateway.settings import WORKER_NAMES, GatewaySettings, load
from workers.settings import WorkerSettings


def loaded(**environ: str) -> GatewaySettings:
    settings, warnings = load(environ)
    assert warnings == []
    return settings


def test_defaults_are_those_of_the_reference_but_for_the_unlimited_guard() -> None:
    settings = loaded()
    assert settings.server.port == 8317
    assert settings.server.host is None
    assert settings.access.api_keys == ()
    assert settings.access.admin_token is None
    assert settings.access.metrics_public is False
    assert settings.models.default_model == "org_auto"
    assert settings.lingma.default_ask_mode == "chat"
    assert settings.admission.max_in_flight == 0
    assert settings.admission.queue_timeout_s == 30
    assert settings.sessions.cache_ttl_s == 1800
    assert settings.sessions.cache_max_entries is None
    assert settings.tools.forward_enabled is True
    assert settings.tools.allowlist is None
    assert settings.store.redis_url.get_secret_value() == "memory://"


def test_flat_names_reach_their_fields() -> None:
    settings = loaded(
        HOST="127.0.0.1",
        PORT="9000",
        API_KEYS="k-a, k-b",
        ADMIN_TOKEN="adm",
        METRICS_PUBLIC="On",
        LOG_LEVEL="debug",
        GATEWAY_MAX_IN_FLIGHT="-1",
        GATEWAY_QUEUE_TIMEOUT_SEC="0.05",
        SESSION_CACHE_MAX_ENTRIES="-3",
        MODEL_ALIASES='{"gpt-4o": "kmodel"}',
        MODEL_FALLBACK="STRICT",
        REDIS_URL="redis://r:6379/1",
        MAX_BODY_BYTES="1024",
    )
    assert settings.server.host == "127.0.0.1"
    assert settings.server.port == 9000
    assert [key.get_secret_value() for key in settings.access.api_keys] == ["k-a", "k-b"]
    assert settings.access.admin_token == SecretStr("adm")
    assert settings.access.metrics_public is True
    assert settings.server.log_level == "DEBUG"
    assert settings.admission.max_in_flight == -1
    assert settings.admission.queue_timeout_s == 0.05
    assert settings.sessions.cache_max_entries == -3
    assert settings.models.aliases == {"gpt-4o": "kmodel"}
    assert settings.models.fallback == "strict"
    assert settings.server.max_body_bytes == 1024


def test_lv_51_the_allowlist_is_split_trimmed_and_rid_of_blanks() -> None:
    """Given TOOL_ALLOWLIST=" grep ,\\n ,edit". Expected [grep, edit]."""
    assert loaded(TOOL_ALLOWLIST=" grep ,\n ,edit").tools.allowlist == ("grep", "edit")


def test_an_allowlist_of_separators_is_empty_and_differs_from_none() -> None:
    assert loaded(TOOL_ALLOWLIST=" , , ").tools.allowlist == ()
    assert loaded(TOOL_ALLOWLIST="").tools.allowlist is None


@pytest.mark.parametrize(
    ("environ", "mode"),
    [
        ({}, "auto"),
        ({"TOOL_FORWARD_ENABLED": "false"}, "off"),
        ({"TOOL_FORWARD_ENABLED": "false", "TOOL_MODE": "Forward"}, "forward"),
        ({"TOOL_FORWARD_ENABLED": "true", "TOOL_MODE": "off"}, "off"),
    ],
)
def test_lv_92_an_explicit_tool_mode_wins_over_the_switch(environ: dict[str, str], mode: str) -> None:
    """Given TOOL_FORWARD_ENABLED and TOOL_MODE. Expected: unset means true, an explicit mode wins."""
    assert loaded(**environ).tools.effective_mode == mode


@pytest.mark.parametrize("word", ["1", "TRUE", "Yes", "on", " true "])
def test_words_for_true(word: str) -> None:
    assert loaded(METRICS_PUBLIC=word).access.metrics_public is True


@pytest.mark.parametrize("word", ["0", "False", "NO", "off"])
def test_words_for_false(word: str) -> None:
    assert loaded(SESSION_REUSE_ENABLED=word).sessions.reuse_enabled is False


def test_an_unknown_word_keeps_the_default_and_warns() -> None:
    settings, warnings = load({"SESSION_REUSE_ENABLED": "perhaps"})
    assert settings.sessions.reuse_enabled is True
    assert warnings == ["SESSION_REUSE_ENABLED: neither true nor false; its default true is used"]


def test_one_env_feeds_both_halves() -> None:
    theirs = dict.fromkeys(WORKER_NAMES | NAMES_WITHOUT_EFFECT | {"LINGMA_SIM_LOGGED_IN"}, "1")
    settings, warnings = load(theirs | {"PATH": "/bin", "SESSION_MANAGER": "x"})
    assert warnings == []
    assert settings.server.port == 8317


def test_worker_names_are_exactly_those_that_workers_read_beyond_ours() -> None:
    ours = {name for leaf in leaves(GatewaySettings) for name in leaf.names}
    theirs = {name for leaf in leaves(WorkerSettings) for name in leaf.names}
    assert theirs - ours == WORKER_NAMES
    assert not NAMES_WITHOUT_EFFECT & (ours | theirs)


def test_the_tree_is_frozen() -> None:
    settings = loaded()
    with pytest.raises(ValidationError):
        settings.server.port = 1


def test_printing_settings_shows_no_secret() -> None:
    settings = loaded(API_KEYS="sk-hide-me", ADMIN_TOKEN="hide-me", REDIS_URL="redis://:hide-me@r")
    assert "hide-me" not in repr(settings)
    assert "hide-me" not in settings.model_dump_json()


def test_two_replicas_of_one_host_have_different_ids() -> None:
    assert loaded().server.replica_id != loaded().server.replica_id
    assert loaded(REPLICA_ID="gw-0").server.replica_id == "gw-0"


def test_a_replica_of_its_own_refuses_memory() -> None:
    with pytest.raises(SettingsError, match="REDIS_URL"):
        loaded().require_shared_store()
    loaded(REDIS_URL="redis://localhost").require_shared_store()


@pytest.mark.parametrize("name", ["TURN_RETENTION_S", "TURN_RETENTION_RESUMABLE_S"])
def test_an_ended_turn_is_kept_long_enough_to_be_read(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: "):
        load({name: "0"})
    assert load({name: "1"})


def test_keys_may_be_named_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("k-a\nk-b\n")
    settings = loaded(API_KEYS_FILE=str(file))
    assert [key.get_secret_value() for key in settings.access.api_keys] == ["k-a", "k-b"]


def test_the_key_file_is_looked_at_when_settings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text('{"keys": [{"key": "k-a"}]}')
    assert loaded(KEY_FILE=str(file)).access.key_file == file
    file.write_text('{"keys": [{"key": "s3cret", "tennant": "s3cret"}]}')
    with pytest.raises(SettingsError, match=r"^KEY_FILE: .*tennant") as caught:
        load({"KEY_FILE": str(file)})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"^KEY_FILE: .* cannot be read"):
        load({"KEY_FILE": str(tmp_path / "gone")})


def test_a_store_address_that_makes_no_sense_is_refused_without_showing_it() -> None:
    with pytest.raises(SettingsError, match=r"^REDIS_URL: ") as caught:
        load({"REDIS_URL": "mysql://:s3cret@host"})
    assert "s3cret" not in str(caught.value)


def test_the_password_of_redis_may_stand_apart(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("p@ss\n")
    for given in ({"REDIS_PASSWORD": "p@ss"}, {"REDIS_PASSWORD_FILE": str(tmp_path / "pw")}):
        settings = loaded(REDIS_URL="redis://ann@r:6379/1", **given)
        assert settings.store.url == "redis://ann:p%40ss@r:6379/1"
        assert "p@ss" not in repr(settings)
