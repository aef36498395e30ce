"""What a Lingma subprocess says about its account and its models, as data. Pure. Called by client.py.

Of the login only what operators may see is kept: no token, no name; the account is a hash.
"""

import hashlib
from dataclasses import dataclass

from gateway.jobs.messages import ModelInfo
from gateway.kernel import json
from gateway.kernel.json import Json, JsonObject

LOGGED_IN = 2
"""The only status that means usable."""


@dataclass(frozen=True, slots=True)
class Login:
    logged_in: bool
    account: str = ""
    """Hash of the account id."""
    user_type: str = ""
    expires_at_ms: int = 0


def read_object(result: bytes) -> JsonObject:
    """A result as an object; {} for anything else."""
    try:
        value = json.loads(result)
    except json.JsonError:
        return {}
    return value if isinstance(value, dict) else {}


def read_login(result: bytes) -> Login:
    """The answer to auth/status. What cannot be read is not logged in."""
    status = read_object(result)
    if status.get("status") != LOGGED_IN:
        return Login(False)
    identity = str(status.get("accountId") or status.get("id") or "")
    account = hashlib.sha256(identity.encode()).hexdigest()[:12] if identity else ""
    expires_at = status.get("expireTime")
    return Login(
        True,
        account,
        str(status.get("userType") or ""),
        expires_at if isinstance(expires_at, int) else 0,
    )


def read_login_url(result: bytes) -> str:
    """The address of login/generateUrl; empty when there is none."""
    answer = read_object(result)
    url = answer.get("loginUrl") or answer.get("url") or answer.get("Url")
    return url if isinstance(url, str) else ""


def read_refusal(result: bytes) -> tuple[str, str] | None:
    """Code and text of an answer to chat/ask that says no; None for every other answer."""
    answer = read_object(result)
    if answer.get("success") is not False and answer.get("isSuccess") is not False:
        return None
    text = answer.get("errorMessage") or answer.get("errorMsg") or "no reason given"
    return str(answer.get("errorCode") or ""), str(text)


def read_models(result: bytes) -> list[ModelInfo]:
    """The answer to config/queryModels: scenes with lists of models, once each by key, in order.

    A model that several scenes name keeps its first display name. An entry without a key is left out.
    """
    models: dict[str, ModelInfo] = {}
    for scene, entries in _scenes(read_object(result)):
        for entry in entries:
            if isinstance(entry, dict):
                _add(models, scene, entry)
    return list(models.values())


def _scenes(value: JsonObject, depth: int = 0) -> list[tuple[str, list[Json]]]:
    """Lists at the top, or one level down as in {"models": {...}}."""
    scenes: list[tuple[str, list[Json]]] = []
    for name, inner in value.items():
        if isinstance(inner, list):
            scenes.append((name, inner))
        elif isinstance(inner, dict) and depth == 0:
            scenes += _scenes(inner, depth + 1)
    return scenes


def _add(models: dict[str, ModelInfo], scene: str, entry: JsonObject) -> None:
    key, display_name = entry.get("key"), entry.get("displayName")
    if not isinstance(key, str) or not key:
        return
    model = models.setdefault(key, ModelInfo(key=key))
    if not model.display_name and isinstance(display_name, str):
        model.display_name = display_name
    model.vision = model.vision or entry.get("isVl") is True
    model.reasoning = model.reasoning or entry.get("isReasoning") is True
    model.default = model.default or entry.get("isDefault") is True
    limit = entry.get("maxInputTokens")
    if type(limit) is int and limit > 0 and not model.max_input_tokens:
        model.max_input_tokens = limit
    if scene not in model.scenes:
        model.scenes.append(scene)
