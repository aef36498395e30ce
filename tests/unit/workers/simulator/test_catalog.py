"""The built-in models."""

from workers.simulator.catalog import DEFAULT_MODEL, default_models


def test_one_default_and_every_scene_names_known_models() -> None:
    models = default_models()
    assert [model["key"] for model in models["chat"] if model["isDefault"]] == [DEFAULT_MODEL]
    known = {model["key"] for model in models["chat"]}
    assert all({model["key"] for model in scene} <= known for scene in models.values())


def test_an_entry_has_the_fields_of_the_real_one() -> None:
    entry = next(model for model in default_models()["chat"] if model["key"] == "kmodel")
    assert entry == {
        "key": "kmodel",
        "displayName": "Kimi-K2.6",
        "format": "openai",
        "source": "system",
        "isVl": True,
        "isReasoning": True,
        "isDefault": False,
        "url": "",
        "apiKey": "",
        "model": "",
    }
