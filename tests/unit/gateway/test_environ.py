"""How a tree is read from an environment: names, files, and texts about what is wrong."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from gateway import environ as module
from gateway.environ import Reading, Section, SettingsError, leaves, setting
from gateway.settings import GatewaySettings, load

PREFIXES = ("TOOL_", "METRICS_", "GATEWAY_", "SESSION_")


class Colours(Section):
    hue: int = setting("TOOL_HUE", 3, "Number.")
    bright: bool = setting("TOOL_BRIGHT", True, "Boolean.")
    pigment: SecretStr | None = setting("TOOL_PIGMENT", None, "Secret.", file_variant=True)


class Tree(Section):
    colours: Colours = Colours()


class Flat(Section):
    """Settings that are no tree."""

    depth: int = setting("TOOL_DEPTH", 1, "Number.", shared="DEPTH", ge=0)
    name: str = setting("TOOL_NAME", None, "Text.", default_factory=lambda: "made", max_length=5)
    sharp: bool = setting("TOOL_SHARP", False, "Boolean.")


def read(**environ: str) -> Reading:
    return Reading(Tree, environ, prefixes=PREFIXES, also_known=frozenset({"TOOL_OF_OTHERS"}))


def read_flat(**environ: str) -> tuple[Flat, list[str]]:
    return module.read(Flat, environ, prefixes=PREFIXES, also_known=frozenset())


def test_a_nested_name_reaches_the_same_field_and_wins() -> None:
    assert read(GATEWAY__COLOURS__HUE="5").tree == {"colours": {"hue": "5"}}
    both = read(GATEWAY__COLOURS__HUE="5", TOOL_HUE="6")
    assert both.tree == {"colours": {"hue": "5"}}
    assert both.warnings == [
        "GATEWAY__COLOURS__HUE and TOOL_HUE are set at the same time: GATEWAY__COLOURS__HUE is used"
    ]


def test_an_empty_value_is_no_value() -> None:
    assert read(TOOL_HUE="  ", TOOL_BRIGHT="").tree == {}


def test_a_secret_may_be_named_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "pigment"
    file.write_text("ultramarine\n")
    assert read(TOOL_PIGMENT_FILE=str(file)).tree == {"colours": {"pigment": "ultramarine"}}


def test_an_inline_secret_wins_over_its_file(tmp_path: Path) -> None:
    file = tmp_path / "pigment"
    file.write_text("ultramarine")
    reading = read(TOOL_PIGMENT="ochre", TOOL_PIGMENT_FILE=str(file))
    assert reading.tree == {"colours": {"pigment": "ochre"}}
    assert len(reading.warnings) == 1


def test_a_file_that_cannot_be_read_is_a_problem_that_names_variable_and_path(tmp_path: Path) -> None:
    missing = tmp_path / "gone"
    assert read(TOOL_PIGMENT_FILE=str(missing)).problems == [
        f"TOOL_PIGMENT_FILE: the file {missing} cannot be read (FileNotFoundError)"
    ]


def test_only_secrets_have_a_file_variant() -> None:
    reading = read(TOOL_HUE_FILE="/etc/hostname")
    assert reading.tree == {}
    assert reading.warnings == ["TOOL_HUE_FILE is not a setting; did you mean TOOL_HUE?"]


def test_a_stranger_with_our_prefix_warns_with_the_nearest_name() -> None:
    assert read(TOOL_HEU="1", TOOL_OF_OTHERS="1", LC_ALL="C").warnings == [
        "TOOL_HEU is not a setting; did you mean TOOL_HUE?"
    ]


def test_a_stranger_near_to_nothing_warns_without_a_guess() -> None:
    assert read(METRICS_QQQQQQQQQQ="1").warnings == ["METRICS_QQQQQQQQQQ is not a setting"]


def test_a_misspelt_nested_name_is_a_problem() -> None:
    reading = read(GATEWAY__COLOURS__HEU="1")
    assert reading.problems == ["GATEWAY__COLOURS__HEU is not a setting; did you mean GATEWAY__COLOURS__HUE?"]
    assert reading.warnings == []


def test_a_bad_value_is_told_by_the_name_it_came_from_and_never_shown() -> None:
    reading = read(GATEWAY__COLOURS__HUE="s3cret")
    with pytest.raises(ValidationError) as caught:
        Tree.model_validate(reading.tree)
    (told,) = reading.told(caught.value)
    assert told.startswith("GATEWAY__COLOURS__HUE: ")
    assert "s3cret" not in told


def test_settings_that_are_no_tree_have_flat_names_only() -> None:
    assert read_flat() == (Flat(), [])
    assert read_flat(TOOL_DEPTH=" 7 ", TOOL_NAME=" ann ", TOOL_SHARP="yes") == (
        Flat(depth=7, name="ann", sharp=True),
        [],
    )
    with pytest.raises(SettingsError, match=r"^GATEWAY__DEPTH is not a setting"):
        read_flat(GATEWAY__DEPTH="1")


def test_a_name_shared_with_others_counts_when_there_is_none_of_our_own() -> None:
    assert read_flat(DEPTH="5") == (Flat(depth=5), [])
    assert read_flat(DEPTH="5", TOOL_DEPTH="6") == (Flat(depth=6), [])


def test_what_is_wrong_in_flat_settings_is_told_by_the_name_it_came_from() -> None:
    with pytest.raises(SettingsError) as caught:
        read_flat(DEPTH="-1", TOOL_NAME="much too long")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["DEPTH", "TOOL_NAME"]
    assert "much" not in str(caught.value)


def test_names_that_only_look_like_ours_are_left_alone() -> None:
    given = dict.fromkeys({"SESSION_MANAGER", "GATEWAY_INTERFACE", "LINGMA_SIM_ANY"}, "x")
    assert Reading(Tree, given, prefixes=(*PREFIXES, "LINGMA_"), also_known=frozenset()).warnings == []


def test_every_problem_is_reported_at_once_and_no_value_is_shown() -> None:
    environ = {
        "PORT": "s3cret-a",
        "MODEL_ALIASES": "{s3cret-b",
        "TOOL_MODE": "s3cret-c",
        "GATEWAY_QUEUE_TIMEOUT_SEC": "-1",
        "GATEWAY__SERVER__PRT": "s3cret-d",
        "ADMIN_TOKEN_FILE": "/nonexistent/token",
        "REPLICA_ID": "s3cret e",
    }
    with pytest.raises(SettingsError) as caught:
        load(environ)
    text = str(caught.value)
    assert all(name in text for name in environ)
    assert "s3cret" not in text


def test_every_leaf_of_the_gateway_has_a_name_and_a_description() -> None:
    names = [leaf.env for leaf in leaves(GatewaySettings)]
    assert len(names) == len(set(names))
    assert all(
        leaf.field.description and leaf.field.description.endswith(".") for leaf in leaves(GatewaySettings)
    )


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("LOG_LEVL", "LOG_LEVEL"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("REDIS_URI", "REDIS_URL"),
        ("STORE_WAIT", "STORE_WAIT_S"),
        ("API_KEY", "API_KEYS"),
    ],
)
def test_a_slip_without_our_prefix_is_told(slip: str, meant: str) -> None:
    _, warnings = load({slip: "1"})
    assert warnings == [f"{slip} is not a setting; did you mean {meant}?"]


def test_what_containers_and_shells_set_is_no_slip() -> None:
    usual = (
        "HOME HOSTNAME PATH PWD SHELL SHLVL TERM USER LANG LC_ALL LOGNAME OLDPWD EDITOR TZ DISPLAY "
        "XDG_RUNTIME_DIR KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_PORT_443_TCP_ADDR "
        "REDIS_SERVICE_HOST REDIS_HOST REDIS_PORT REDIS_DB HTTP_PROXY HTTPS_PROXY NO_PROXY SSL_CERT_FILE "
        "PYTHONPATH PYTHONUNBUFFERED VIRTUAL_ENV POD_NAME POD_NAMESPACE NODE_NAME OPENAI_API_KEY "
        "ANTHROPIC_API_KEY GEMINI_API_KEY DEBUG LOG_FORMAT WORKERS WEB_CONCURRENCY TIMEOUT MAIL "
        "MEMORY_LIMIT GOMAXPROCS MALLOC_ARENA_MAX"
    )
    assert load(dict.fromkeys(usual.split(), "1"))[1] == []
