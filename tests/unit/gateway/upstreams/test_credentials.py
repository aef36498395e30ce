from pathlib import Path

import pytest

from gateway.kernel.errors import UpstreamUnavailable
from gateway.upstreams.config import CredentialConfig
from gateway.upstreams.credentials import Credential


def credential(environ: dict[str, str] | None = None, **fields: object) -> Credential:
    return Credential("openai", CredentialConfig.model_validate({"id": "one", **fields}), environ or {})


def test_a_key_is_sent_as_the_upstream_wants_it_or_as_configured() -> None:
    plain = credential(api_key="k", headers={"OpenAI-Organization": "o"})
    assert plain.headers(default="bearer") == {"OpenAI-Organization": "o", "Authorization": "Bearer k"}
    assert plain.headers(default="api_key") == {"OpenAI-Organization": "o", "x-goog-api-key": "k"}
    forced = credential(api_key="k", auth="bearer")
    assert forced.headers(default="api_key") == {"Authorization": "Bearer k"}


def test_a_variable_is_looked_up_each_time() -> None:
    environ = {"KEY": "first"}
    one = credential(environ, api_key_env="KEY")
    assert one.headers(default="bearer")["Authorization"] == "Bearer first"
    environ["KEY"] = "second"
    assert one.headers(default="bearer")["Authorization"] == "Bearer second"
    del environ["KEY"]
    with pytest.raises(UpstreamUnavailable, match="no key for credential one"):
        one.headers(default="bearer")


def test_a_file_is_read_again_when_it_changes_and_forgiven_when_it_vanishes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    one = credential(api_key_file=str(file))
    with pytest.raises(UpstreamUnavailable, match="key file of credential one"):
        one.headers(default="bearer")
    file.write_text("first\n")
    assert one.headers(default="bearer")["Authorization"] == "Bearer first"
    (tmp_path / "new").write_text("rotated")
    (tmp_path / "new").rename(file)
    assert one.headers(default="bearer")["Authorization"] == "Bearer rotated"
    file.unlink()
    assert one.headers(default="bearer")["Authorization"] == "Bearer rotated"
