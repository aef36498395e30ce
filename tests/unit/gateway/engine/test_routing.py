import pytest

from gateway.engine.routing import KnownModel, Resolution, fold_name, resolve

MODELS = [
    KnownModel(key="org_auto", display_name="Auto"),
    KnownModel(key="kmodel", display_name="Kimi-K2.6"),
    KnownModel(key="dashscope_qwen3_coder", display_name="Qwen3-Coder"),
]


def found(wanted: str, models: list[KnownModel] = MODELS, **more: object) -> Resolution:
    options = {"aliases": {}, "default": "org_auto", "own_names": frozenset({"agent"})} | more
    return resolve(wanted, models, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("kmodel", "kmodel"),
        ("KModel", "kmodel"),
        ("Kimi-K2.6", "kmodel"),
        ("kimi k2.6", "kmodel"),
        ("Qwen3_Coder", "dashscope_qwen3_coder"),
        ("Agent", "org_auto"),
        ("org_auto", "org_auto"),
    ],
)
def test_names_that_map(wanted: str, key: str) -> None:
    assert found(wanted) == Resolution(key, mapped=True)


@pytest.mark.parametrize("wanted", ["gpt-4o", "claude-sonnet-4-5", "", "no such"])
def test_other_names_fall_back_to_the_default(wanted: str) -> None:
    assert found(wanted) == Resolution("org_auto", mapped=False)


def test_an_alias_may_name_anything_that_can_be_found() -> None:
    aliases = {"gpt-4o": "Qwen3-Coder", "lost": "nowhere"}
    assert found("gpt-4o", aliases=aliases) == Resolution("dashscope_qwen3_coder", mapped=True)
    assert found("GPT-4o", aliases=aliases) == Resolution("dashscope_qwen3_coder", mapped=True)
    assert found("lost", aliases=aliases) == Resolution("org_auto", mapped=False)


def test_a_real_key_wins_over_an_alias_of_the_same_name() -> None:
    assert found("kmodel", aliases={"kmodel": "org_auto"}).key == "kmodel"


def test_without_a_registry_aliases_and_the_default_are_trusted() -> None:
    assert found("x", models=[], aliases={"x": "kmodel"}) == Resolution("kmodel", mapped=True)
    assert found("y", models=[]) == Resolution("org_auto", mapped=False)


def test_a_default_that_is_not_listed_gives_way_to_the_first_chat_model() -> None:
    models = [KnownModel(key="inline", in_chat=False), KnownModel(key="chatty")]
    assert found("gpt", models=models, default="gone").key == "chatty"
    assert found("gpt", models=models[:1], default="gone").key == "inline"


def test_display_names_are_compared_without_case_and_joiners() -> None:
    assert fold_name("Kimi-K2.6") == fold_name("kimi_k2 .6")
