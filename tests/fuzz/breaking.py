"""Ways to break a request: its JSON, its bytes, its headers, its address."""

import copy
import gzip
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

from tests.fuzz.requests import Request
from tests.fuzz.values import KEYS, NUMBERS, TEXTS, Dice, anything, nested

# -- JSON -------------------------------------------------------------------------------------------------


def written(value: Any, dice: Dice) -> bytes:
    """JSON as anybody might write it: with what no standard allows, such as NaN, where it is in there."""
    text = json.dumps(
        value,
        ensure_ascii=dice.random() < 0.5,
        separators=dice.choice(((",", ":"), (", ", ": "), (" ,\n", " :\t"))),
    )
    return text.encode("utf-8", "surrogatepass")


def broken_value(value: Any, dice: Dice) -> Any:
    """A copy with one to four things wrong."""
    value = copy.deepcopy(value)
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 4))):
        places = _places(value)
        if not places:
            return anything(dice)
        holder, key = dice.choice(places)
        dice.choice(_BREAKS)(holder, key, dice)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place below a value, as what holds it and under which key."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                waiting.append(holder[key])
    return found


def _drop(holder: Any, key: Any, dice: Dice) -> None:
    del holder[key]


def _duplicate(holder: Any, key: Any, dice: Dice) -> None:
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[f"{key}{dice.choice(('2', ' ', '_'))}"] = copy.deepcopy(holder[key])


def _retype(holder: Any, key: Any, dice: Dice) -> None:
    holder[key] = anything(dice, 2)


def _null(holder: Any, key: Any, dice: Dice) -> None:
    holder[key] = None


def _wrap(holder: Any, key: Any, dice: Dice) -> None:
    held = holder[key]
    holder[key] = dice.choice(([held], {"x": held}, [[held, held]], {str(key): held}))


def _unwrap(holder: Any, key: Any, dice: Dice) -> None:
    held = holder[key]
    if isinstance(held, dict) and held:
        holder[key] = dice.choice(list(held.values()))
    elif isinstance(held, list) and held:
        holder[key] = dice.choice(held)
    else:
        holder[key] = []


def _rename(holder: Any, key: Any, dice: Dice) -> None:
    if isinstance(holder, dict):
        held = holder.pop(key)
        holder[dice.choice((*KEYS, str(key).upper(), f"{key} ", f"_{key}"))] = held


def _number(holder: Any, key: Any, dice: Dice) -> None:
    holder[key] = dice.choice(NUMBERS)


def _text(holder: Any, key: Any, dice: Dice) -> None:
    held = holder[key]
    holder[key] = (held if isinstance(held, str) else "") + dice.choice(TEXTS)


def _empty(holder: Any, key: Any, dice: Dice) -> None:
    holder[key] = dice.choice(("", [], {}))


def _add(holder: Any, key: Any, dice: Dice) -> None:
    if isinstance(holder, dict):
        holder[dice.choice(KEYS)] = anything(dice)
    else:
        holder.append(anything(dice))


def _many(holder: Any, key: Any, dice: Dice) -> None:
    holder[key] = [copy.deepcopy(holder[key]) for _ in range(dice.choice((10, 100)))]


def _deep(holder: Any, key: Any, dice: Dice) -> None:
    holder[key] = nested(dice, dice.choice((5, 60, 120, 200)))


def _long(holder: Any, key: Any, dice: Dice) -> None:
    holder[key] = dice.choice(TEXTS) * dice.choice((50, 500))


_BREAKS: tuple[Callable[[Any, Any, Dice], None], ...] = (
    _drop, _drop, _duplicate, _retype, _retype, _retype, _null, _null, _wrap, _wrap, _unwrap, _rename,
    _number, _text, _empty, _add, _add, _many, _deep, _long,
)  # fmt: skip


# -- bytes ------------------------------------------------------------------------------------------------


def broken_bytes(body: bytes, dice: Dice) -> bytes:
    at = dice.randrange(len(body) + 1)
    match dice.randrange(14):
        case 0:
            return body[:at]
        case 1:
            return body[at:]
        case 2:
            return body[:at] + bytes([dice.randrange(256)]) + body[at + 1 :]
        case 3:
            return body[:at] + bytes(dice.randrange(256) for _ in range(4)) + body[at:]
        case 4:
            return b"\xef\xbb\xbf" + body
        case 5:
            return body.decode("utf-8", "replace").encode(dice.choice(("utf-16", "utf-32", "utf-16-be")))
        case 6:
            return body + dice.choice((b"x", b"}", body, b"\x00", b"\n\n", b"//"))
        case 7:
            return dice.choice(
                (b"", b" ", b"null", b"0", b"[]", b'""', b"{}", b"{", b"\x00", b"NaN", b"\xff")
            )
        case 8:
            return body.replace(b'"', b"'")
        case 9:
            return body.replace(b":", b"=", 1) if dice.random() < 0.5 else body.replace(b",", b",,", 1)
        case 10:
            return re.sub(rb"\{", b'{"model":"twice","model":null,', body, count=1)
        case 11:
            return (
                body[:at]
                + dice.choice((b"\xc3\x28", b"\xed\xa0\x80", b"\\ud800", b"\\u00", b"\\x"))
                + body[at:]
            )
        case 12:
            return dice.choice((b"[", b'{"a":', b'[{"a":[')) * dice.choice((10, 1000, 50_000))
        case _:
            return b'{"model":"m","x":"' + b"x" * dice.choice((1000, 100_000, 300_000)) + b'"}'


# -- headers ----------------------------------------------------------------------------------------------

_NONSENSE = (
    b"",
    b" ",
    b"x",
    b"\xff\xfe",
    b"a" * 5000,
    b"0",
    b"-1",
    b"*/*",
    b"null",
    b"a\tb",
    b"\xe7\x81\xb5",
)
_NAMES = (
    b"content-type",
    b"accept",
    b"accept-encoding",
    b"user-agent",
    b"x-request-id",
    b"idempotency-key",
    b"anthropic-version",
    b"anthropic-beta",
    b"openai-organization",
    b"openai-beta",
    b"x-goog-api-client",
    b"x-stainless-timeout",
    b"traceparent",
    b"tracestate",
    b"baggage",
    b"expect",
    b"cookie",
    b"forwarded",
    b"x-forwarded-for",
    b"origin",
    b"if-none-match",
    b"range",
    b"upgrade",
    b"x-http-method-override",
    b"session_id",
    b"conversation_id",
    b"x-codex-turn-metadata",
    b"x-gateway-resume",
)
_MEANT = {
    b"content-type": (
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
    ),
    b"anthropic-version": (b"2023-06-01", b"2099-01-01", b"latest", b"2023-06-01, 2024-01-01"),
    b"traceparent": (b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"00-zz-zz-zz"),
    b"accept": (b"text/event-stream", b"application/xml", b"application/json;q=0"),
    b"idempotency-key": (b"one", b"one"),
}


def broken_headers(request: Request, dice: Dice) -> None:
    """What a header may be changed to without making it another request at the level of HTTP."""
    for _ in range(dice.choice((1, 1, 2, 4))):
        match dice.randrange(5):
            case 0 | 1:
                name = dice.choice(_NAMES)
                values = _NONSENSE + _MEANT.get(name, ()) * 3
                request.headers.append((name, dice.choice(values)))
            case 2 if request.headers:
                del request.headers[dice.randrange(len(request.headers))]
            case 3 if request.headers:
                at = dice.randrange(len(request.headers))
                name, _ = request.headers[at]
                request.headers[at] = (name, dice.choice(_NONSENSE))
            case _:
                _pack(request, dice)


def _pack(request: Request, dice: Dice) -> None:
    """A body that is packed, or only says so."""
    packed, name = dice.choice(
        (
            (gzip.compress(request.body, 1), b"gzip"),
            (zlib.compress(request.body), b"deflate"),
            (zlib.compress(request.body), b"gzip"),
            (gzip.compress(request.body, 1)[:-5], b"gzip"),
            (gzip.compress(b" " * 3_000_000, 9), b"gzip"),
            (request.body, b"gzip"),
            (request.body, b"identity"),
            (request.body, b"br"),
            (request.body, b"zstd"),
            (request.body, b"gzip, gzip"),
            (request.body, b"\xff"),
        )
    )
    request.body = packed
    request.headers.append((b"content-encoding", name))


# -- addresses --------------------------------------------------------------------------------------------

METHODS = (
    "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "POST ", "post", "X" * 50,
)  # fmt: skip
_QUERIES = (
    "alt=sse", "alt=json", "alt=", "$alt=sse", "alt=sse&alt=json", "key=sk-fuzz", "key=", "key=%00",
    "key=%ff", "key=a&key=b", "starting_after=-1", "stream=true", "=", "&&&", "%", "%zz", "a=%F0%28%8C%28",
    "x=" + "y" * 3000, "prettyPrint=true&$.xgafv=2", "pageSize=-1", "beta=true", "fields=candidates", "a;b=c",
)  # fmt: skip
_PIECES = (
    "/", "//", "/..", "/.", "%2F", "%2f..%2f", "%00", "%0a", "%", "%zz", ":", "::", "?", "*", "~",
    "%E7%81%B5", "%FF",
)  # fmt: skip


def broken_target(request: Request, dice: Dice) -> None:
    path, _, query = request.target.partition("?")
    match dice.randrange(8):
        case 0:
            request.method = dice.choice(METHODS)
        case 1 | 2:
            query = "&".join(dice.sample(_QUERIES, dice.choice((1, 1, 2, 3))))
        case 3:
            at = dice.randrange(len(path) + 1)
            path = path[:at] + dice.choice(_PIECES) + path[at:]
        case 4:
            path += dice.choice(_PIECES)
        case 5:
            path = (
                path.replace(dice.choice(("/v1", "messages", "models", "beta", "completions")), "", 1) or "/"
            )
        case 6:
            path = dice.choice((path.upper(), path[:-1] or "/", f"{path}/{path}", path.replace("/", "//", 1)))
        case _:
            path = "".join(f"%{ord(c):02X}" if dice.random() < 0.2 and c != "/" else c for c in path)
    request.target = f"{path}?{query}" if query else path
