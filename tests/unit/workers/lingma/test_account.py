import json
from typing import Any

import pytest

from workers.lingma.account import read_login, read_login_url, read_models, read_refusal


def result(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("status", [0, 1, 3, None, "2", {}])
def test_only_status_two_is_logged_in(status: Any) -> None:
    assert not read_login(result({"status": status, "accountId": "600"})).logged_in
    assert read_login(result({"status": 2, "accountId": "600"})).logged_in


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"'])
def test_unreadable_answers(body: bytes) -> None:
    assert not read_login(body).logged_in
    assert read_login_url(body) == ""
    assert read_models(body) == []
    assert read_refusal(body) is None


def test_account_is_a_stable_hash() -> None:
    first = read_login(result({"status": 2, "accountId": "600", "expireTime": 5, "userType": "personal"}))
    assert (first.expires_at_ms, first.user_type) == (5, "personal")
    assert first.account == read_login(result({"status": 2, "id": "600", "accountId": ""})).account
    assert first.account != read_login(result({"status": 2, "id": "601"})).account
    assert "600" not in repr(first)
    assert read_login(result({"status": 2})).account == ""


def test_odd_fields_do_not_log_an_account_out() -> None:
    login = read_login(result({"status": 2, "accountId": 600, "userType": None, "expireTime": "soon"}))
    assert (login.logged_in, login.user_type, login.expires_at_ms) == (True, "", 0)


def test_models_of_all_scenes_once_each() -> None:
    models = read_models(
        result(
            {
                "chat": [
                    {"key": "org_auto", "displayName": "Auto", "isDefault": True, "url": "", "apiKey": ""},
                    {"key": "kmodel", "displayName": "Kimi", "isVl": True, "isReasoning": True},
                    {"displayName": "no key"},
                    {"key": ""},
                    "text",
                ],
                "assistant": [{"key": "org_auto", "displayName": "Automatic", "isVl": True}, {"key": "x"}],
                "version": 3,
            }
        )
    )
    assert [(m.key, m.display_name, m.vision, m.reasoning, m.default, m.scenes) for m in models] == [
        ("org_auto", "Auto", True, False, True, ["chat", "assistant"]),
        ("kmodel", "Kimi", True, True, False, ["chat"]),
        ("x", "", False, False, False, ["assistant"]),
    ]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ([180_000], 180_000),
        ([180_000, 90_000], 180_000),
        ([0, 90_000], 90_000),
        (["many", -5, None, True], 0),
    ],
)
def test_the_first_limit_of_a_model_is_kept(said: list[Any], kept: int) -> None:
    scenes = {f"scene{n}": [{"key": "a", "maxInputTokens": limit}] for n, limit in enumerate(said)}
    assert read_models(result(scenes))[0].max_input_tokens == kept


def test_one_extra_nesting_is_tolerated() -> None:
    assert [m.key for m in read_models(result({"models": {"chat": [{"key": "a"}]}}))] == ["a"]
    assert read_models(result({"a": {"b": {"chat": [{"key": "a"}]}}})) == []


def test_logged_out_has_no_models() -> None:
    assert read_models(b"{}") == []


@pytest.mark.parametrize("name", ["loginUrl", "url", "Url"])
def test_login_url_under_any_of_its_names(name: str) -> None:
    assert read_login_url(result({name: "https://login"})) == "https://login"
