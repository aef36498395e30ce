"""One random request: which address, which body, and what is wrong with it.

The same seed and number make the same request, whatever was asked before it.
"""

import random
from collections.abc import Mapping
from typing import Any

from tests.fuzz.breaking import broken_bytes, broken_headers, broken_target, broken_value, written
from tests.fuzz.requests import Request
from tests.fuzz.surfaces import Surface, surfaces
from tests.fuzz.values import TEXTS, Dice, nested

MODELS_PATHS = (
    "/", "/healthz", "/readyz", "/livez", "/metrics", "/favicon.ico", "/v1", "/v1/", "/v1beta", "/v1/models",
    "/models", "/v1/models/org_auto", "/v1/models/x%2Fy", "/v1beta/models", "/v1beta/models/org_auto",
    "/v1beta/models/nothing", "/v1beta1/models", "/v1/responses/resp_1", "/v1/responses/resp_1/cancel",
    "/v1/responses/resp_1/input_items", "/v1/turns/x/events", "/v1/embeddings", "/v1/completions",
    "/v1/files",
    "/v1/messages/batches", "/v1/chat", "/internal/stats", "/internal/models/raw", "/internal/instances",
)  # fmt: skip
GOOGLES_METHODS = (":generateContent", ":streamGenerateContent", ":countTokens")


def make(seed: str, surface: str, key: str) -> Request:
    """`surface` is one of surfaces(), or `other` for everything that is no turn."""
    dice = random.Random(seed)
    if surface == "other":
        return _other(dice, key)
    return _turn(surfaces()[surface], dice, key)


def _turn(surface: Surface, dice: Dice, key: str) -> Request:
    value = _value(surface, dice)
    stream = dice.random() < 0.4
    if isinstance(value, dict) and surface.name != "gemini" and dice.random() < 0.3:
        value = {**value, "stream": stream}
    request = Request(
        method="POST",
        target=surface.target(dice, stream=stream),
        headers=surface.headers(key),
        body=written(value, dice),
        surface=surface.name,
    )
    if request.path.startswith("/v1/models/") and not request.path.endswith(GOOGLES_METHODS):
        request.surface = "any"  # below the prefix of OpenAI, whose page it may be as well
    if dice.random() < 0.12:
        request.body = broken_bytes(request.body, dice)
    if dice.random() < 0.15:
        broken_headers(request, dice)
    if dice.random() < 0.05:
        broken_target(request, dice)
        request.surface = "any"
    return _framed(request, dice)


def _value(surface: Surface, dice: Dice) -> Any:
    right = dice.choice(surface.bodies)
    match dice.randrange(20):
        case 0 | 1 | 2 | 3 | 4:
            return right
        case 5 | 6 | 7 | 8 | 9:
            return dice.choice(surface.schemas).value(dice)
        case 10:
            return _mixed(right, dice.choice(surface.schemas).value(dice), dice)
        case 11:
            return {**right, "x": nested(dice, dice.choice((10, 100, 130, 500)))}
        case 12:
            return {**right, dice.choice(list(right)): dice.choice(TEXTS) * dice.choice((1, 1000))}
        case 13:
            return broken_value(dice.choice(surface.schemas).value(dice), dice)
        case _:
            return broken_value(dict(right), dice)


def _mixed(right: Mapping[str, Any], strange: Mapping[str, Any], dice: Dice) -> Any:
    """What is right, with a few members of what may be."""
    names = [name for name in strange if name != "model"]
    return {**right, **{name: strange[name] for name in dice.sample(names, min(2, len(names)))}}


def _other(dice: Dice, key: str) -> Request:
    """Any method on any path, with the key of any protocol, and perhaps a body."""
    surface = dice.choice(list(surfaces().values()))
    target = dice.choice((*MODELS_PATHS, surface.target(dice, stream=dice.random() < 0.5)))
    request = Request(
        method=dice.choice(("GET", "GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH")),
        target=target,
        headers=dice.choice(list(surfaces().values())).headers(key),
        body=dice.choice((b"", b"", b"{}", written(dice.choice(surface.bodies), dice))),
        surface="any",
    )
    for _ in range(dice.choice((0, 1, 1, 2))):
        broken_target(request, dice)
    if dice.random() < 0.5:
        broken_headers(request, dice)
    return _framed(request, dice)


def _framed(request: Request, dice: Dice) -> Request:
    """How a server tells the body: its length or its coding, and in pieces."""
    told = dice.random()
    length = b"%d" % len(request.body)
    if told < 0.8:
        request.headers.append((b"content-length", length))
    elif told < 0.99:
        request.headers.append((b"transfer-encoding", b"chunked"))
    else:
        request.headers.append((b"content-length", dice.choice((b"0", b"", b"x", b"99999999999999999999"))))
    if dice.random() < 0.3:
        request.cuts = tuple(dice.randrange(len(request.body) + 1) for _ in range(3))
    return request
