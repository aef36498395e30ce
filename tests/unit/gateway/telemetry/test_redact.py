"""What is taken out of log fields and foreign texts, and what is left in."""

import pytest

from gateway.telemetry.redact import REDACTED, is_secret_name, redact_fields, redact_text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {REDACTED}"),
        ("key sk-proj-abcdefgh1234 refused", f"key {REDACTED} refused"),
        ("AIzaSyA1234567890abcdefghijk", REDACTED),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", f"jwt {REDACTED}"),
        ("POST /x?key=abc123&alt=sse", f"POST /x?key={REDACTED}&alt=sse"),
        ("redis://user:hunter2@host:6379/0", f"redis://{REDACTED}@host:6379/0"),
        ("redis://:hunter2@host", f"redis://{REDACTED}@host"),
        ("access_token=abc; next", f"access_token={REDACTED}; next"),
        ('{"api_key": "abc", "n": 1}', f'{{"api_key": "{REDACTED}", "n": 1}}'),
    ],
)
def test_credentials_are_taken_out_of_texts(text: str, safe: str) -> None:
    assert redact_text(text) == safe


@pytest.mark.parametrize(
    "text",
    [
        "the model 'org_auto' is overloaded",
        "basic usage of tokens: 12",
        "max_tokens=100",
        "http://host:8317/v1/models",
        "task-force sketch",
    ],
)
def test_ordinary_texts_pass(text: str) -> None:
    assert redact_text(text) == text


def test_redaction_stays_linear_on_hostile_text() -> None:
    hostile = "://" * 30_000 + "token=" * 30_000 + "sk-" * 30_000 + "eyJaaaaaaaaa." * 10_000
    assert len(redact_text(hostile)) > 0


@pytest.mark.parametrize(
    "name",
    ["token", "x-api-key", "apiKey", "api_key", "Authorization", "session_bundle", "refreshToken", "prompt"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["key_id", "tokens", "turn_id", "monkey", "total_tokens", "tokenizer"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


def test_fields_are_redacted_by_name_and_by_shape_at_any_depth() -> None:
    fields = {
        "prompt_tokens": 12,
        "prompt": "tell me",
        "frame": b"bytes of a client",
        "nested": {"token": "abc", "urls": ["redis://:pw@h"]},
        "error": ValueError("Bearer abcdefgh"),
        "ok": None,
    }
    assert redact_fields(fields) == {
        "prompt_tokens": 12,
        "prompt": REDACTED,
        "frame": "17 bytes",
        "nested": {"token": REDACTED, "urls": [f"redis://{REDACTED}@h"]},
        "error": f"Bearer {REDACTED}",
        "ok": None,
    }
