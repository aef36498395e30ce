import pytest

from gateway.protocols.gemini.names import is_model, model_name


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ("models/org_auto", "org_auto"),
        ("models/models/org_auto", "org_auto"),
        ("models/vendor/coder:free", "vendor/coder:free"),
        ("publishers/google/models/gemini-x", "gemini-x"),
        ("projects/p/locations/global/publishers/google/models/gemini-x", "gemini-x"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("models/", ""),
    ],
)
def test_names_lose_googles_prefixes(resource: str, name: str) -> None:
    assert is_model(resource)
    assert model_name(resource) == name


@pytest.mark.parametrize(
    "resource", ["files", "files/x", "corpora/models/x", "cachedContents/x", "", "models"]
)
def test_other_resources_are_no_models(resource: str) -> None:
    assert not is_model(resource)
