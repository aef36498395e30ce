"""What a look at the configuration and its surroundings finds."""

from pathlib import Path
from typing import Any

from gateway.upstreams.check import problems, summaries
from gateway.upstreams.config import UpstreamsConfig


def config(tmp_path: Path, **more: Any) -> UpstreamsConfig:
    key = tmp_path / "key"
    key.write_text("k")
    upstream = {
        "name": "openai",
        "kind": "codex",
        "base_url": "https://api.example.com/v1",
        "credentials": [
            {"id": "plain", "api_key": "secret-value"},
            {"id": "env", "api_key_env": "KEY"},
            {"id": "file", "api_key_file": str(key)},
        ],
        "models": ["gpt", "mini"],
    }
    routes = [
        {
            "models": ["best", "gpt"],
            "candidates": [
                {"upstream": "lingma", "rank": 1},
                {"upstream": "openai", "model": "gpt", "credentials": ["env"]},
            ],
        }
    ]
    return UpstreamsConfig.model_validate({"upstreams": [{**upstream, **more}], "routes": routes})


def test_a_sound_configuration_is_described(tmp_path: Path) -> None:
    sound = config(tmp_path)
    assert list(problems(sound, {"KEY": "k"})) == []
    told = list(summaries(sound))
    assert told == [
        "upstream openai (codex): credentials plain, env, file; models gpt, mini",
        "route best, gpt: openai/gpt (rank 0, env), lingma/* (rank 1)",
    ]
    assert "secret-value" not in str(told)


def test_keys_that_cannot_be_found_are_named(tmp_path: Path) -> None:
    asked = config(tmp_path)
    (tmp_path / "key").unlink()
    env, file = problems(asked, {"KEY": " "})
    assert env == "upstream openai: credential env: the variable KEY holds no key"
    assert file.startswith("upstream openai: credential file: the file ")


def test_files_of_certificates_must_be_there(tmp_path: Path) -> None:
    (problem,) = problems(config(tmp_path, ca_file=str(tmp_path / "ca.pem")), {"KEY": "k"})
    assert problem.endswith("ca.pem (ca_file)")


def test_models_that_an_upstream_does_not_list_are_named(tmp_path: Path) -> None:
    lacking = config(tmp_path, models=["mini"])
    assert list(problems(lacking, {"KEY": "k"})) == [
        "route best, gpt: upstream openai lists no model 'gpt'",
    ]
    bare = UpstreamsConfig.model_validate(
        {
            "upstreams": [one.model_dump(by_alias=True) for one in config(tmp_path).upstreams],
            "routes": [{"models": ["gpt", "other"], "candidates": [{"upstream": "openai"}]}],
        }
    )
    assert list(problems(bare, {"KEY": "k"})) == [
        "route gpt, other: upstream openai lists no model 'other'",
    ], "without a model of its own a candidate is asked for the public name"
