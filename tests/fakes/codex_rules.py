"""What the fake Responses upstream accepts, and the vendor's own words for what it does not.

Deliberately narrower than the gateway: unknown fields, wrong types, ids that are too long or of another kind,
calls without results and results without calls are all refused, so that a request which passes here is one
that the original takes, too.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Check = Callable[[Any, str], None]

MAX_ID = 64
ITEM_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
}


class Refusal(Exception):
    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": code, **more}
        }
        self.headers = dict(headers or {})


def refuse(message: str, param: str, code: str | None = "invalid_value") -> Refusal:
    return Refusal(400, message, param=param, code=code)


def at(path: str, step: str | int) -> str:
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


# -- shapes -----------------------------------------------------------------------------------------------

_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def named(value: Any) -> str:
    return _NAMES[type(value)]


def _is(*types: type) -> Check:
    def check(value: Any, path: str) -> None:
        if type(value) in types or (float in types and type(value) is int):
            return
        wanted = " or ".join(_NAMES[one] for one in types)
        raise refuse(
            f"Invalid type for '{path}': expected {wanted}, but got {named(value)} instead.",
            path,
            "invalid_type",
        )

    return check


def _one_of(*values: Any) -> Check:
    def check(value: Any, path: str) -> None:
        if value not in values:
            told = ", ".join(f"'{one}'" for one in values if one is not None)
            raise refuse(f"Invalid value: '{value}'. Supported values are: {told}.", path)

    return check


def _number(low: float, high: float = float("inf"), *, whole: bool = False) -> Check:
    def check(value: Any, path: str) -> None:
        _is(int if whole else float)(value, path)
        kind = "integer" if whole else "decimal"
        if value < low:
            raise refuse(
                f"Invalid '{path}': {kind} below minimum value. Expected a value >= {low}, but got {value} "
                "instead.",
                path,
                f"{kind}_below_min_value",
            )
        if value > high:
            raise refuse(
                f"Invalid '{path}': {kind} above maximum value. Expected a value <= {high}, but got {value} "
                "instead.",
                path,
                f"{kind}_above_max_value",
            )

    return check


def _text(most: int | None = None, pattern: str | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        _is(str)(value, path)
        if most is not None and len(value) > most:
            raise refuse(
                f"Invalid '{path}': string too long. Expected a string with maximum length {most}, but got a "
                f"string with length {len(value)} instead.",
                path,
                "string_above_max_length",
            )
        if pattern is not None and not re.fullmatch(pattern, value):
            raise refuse(
                f"Invalid '{path}': string does not match pattern. Expected a string that matches the "
                f"pattern '^{pattern}$'.",
                path,
            )

    return check


def _or_null(check: Check) -> Check:
    def nullable(value: Any, path: str) -> None:
        if value is not None:
            check(value, path)

    return nullable


def _anything(value: Any, path: str) -> None:
    pass


def _object(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    fields = {**required, **(optional or {})}

    def check(value: Any, path: str) -> None:
        _is(dict)(value, path)
        for name in value:
            if name not in fields:
                raise refuse(f"Unknown parameter: '{at(path, name)}'.", at(path, name), "unknown_parameter")
        for name in required:
            if name not in value:
                raise refuse(
                    f"Missing required parameter: '{at(path, name)}'.",
                    at(path, name),
                    "missing_required_parameter",
                )
        for name, given in value.items():
            fields[name](given, at(path, name))

    return check


def _list(each: Check) -> Check:
    def check(value: Any, path: str) -> None:
        _is(list)(value, path)
        for index, item in enumerate(value):
            each(item, at(path, index))

    return check


def _by_type(shapes: Mapping[str, Check], default: str | None = None) -> Check:
    def check(value: Any, path: str) -> None:
        _is(dict)(value, path)
        kind = value.get("type", default)
        if kind is None:
            raise refuse(
                f"Missing required parameter: '{at(path, 'type')}'.",
                at(path, "type"),
                "missing_required_parameter",
            )
        if kind not in shapes:
            told = ", ".join(f"'{one}'" for one in shapes)
            raise refuse(f"Invalid value: '{kind}'. Supported values are: {told}.", at(path, "type"))
        shapes[kind](value, path)

    return check


# -- content ----------------------------------------------------------------------------------------------

_STRING = _is(str)
_OBJECT = _is(dict)
_CALL_ID = _text(MAX_ID)
_NAME = _text(MAX_ID, "[a-zA-Z0-9_-]+")


def _image_url(value: Any, path: str) -> None:
    _STRING(value, path)
    if value.startswith("data:"):
        head, _, data = value.partition(",")
        try:
            base64.b64decode(data, validate=True)
        except binascii.Error:
            head = ""
        if not re.fullmatch(r"data:image/(png|jpeg|webp|gif);base64", head):
            raise refuse(
                "Invalid 'image_url': the image data is not a valid image of a supported format.",
                path,
                "invalid_base64",
            )
    elif not value.startswith(("https://", "http://")):
        raise refuse(f"Invalid '{path}'. Expected a valid URL, but got a value with an invalid format.", path)


_INPUT_PARTS = {
    "input_text": _object({"type": _STRING, "text": _STRING}),
    "input_image": _object(
        {"type": _STRING},
        {
            "image_url": _or_null(_image_url),
            "file_id": _or_null(_STRING),
            "detail": _one_of("low", "high", "auto", "original"),
        },
    ),
    "input_file": _object(
        {"type": _STRING},
        dict.fromkeys(("filename", "file_data", "file_id", "file_url"), _or_null(_STRING)),
    ),
}
_OUTPUT_PARTS = {
    "output_text": _object(
        {"type": _STRING, "text": _STRING}, {"annotations": _is(list), "logprobs": _or_null(_is(list))}
    ),
    "refusal": _object({"type": _STRING, "refusal": _STRING}),
}


def _message(value: Any, path: str) -> None:
    roles = _one_of("assistant", "system", "developer", "user")
    fields = {
        "type": _STRING,
        "status": _or_null(_STRING),
        "id": _or_null(_STRING),
        "phase": _or_null(_STRING),
    }
    _object({"role": roles, "content": _anything}, fields)(value, path)
    content = value["content"]
    if isinstance(content, str):
        return
    parts = _OUTPUT_PARTS if value["role"] == "assistant" else _INPUT_PARTS
    _list(_by_type(parts))(content, at(path, "content"))


def _output(value: Any, path: str) -> None:
    if not isinstance(value, str):
        _list(_by_type(_INPUT_PARTS))(value, path)


_STATUS = {"status": _or_null(_one_of("in_progress", "completed", "incomplete")), "id": _or_null(_STRING)}
_SEALED = _object({"type": _STRING, "encrypted_content": _STRING}, {"id": _or_null(_STRING)})
_REASONING = _object(
    {
        "type": _STRING,
        "summary": _list(_by_type({"summary_text": _object({"type": _STRING, "text": _STRING})})),
    },
    {
        "content": _or_null(_list(_by_type({"reasoning_text": _object({"type": _STRING, "text": _STRING})}))),
        "encrypted_content": _or_null(_STRING),
        **_STATUS,
    },
)
_HOSTED = ("web_search", "web_search_preview", "image_generation", "file_search", "code_interpreter", "mcp")

ITEMS: dict[str, Check] = {
    "message": _message,
    "reasoning": _REASONING,
    "function_call": _object(
        {"type": _STRING, "call_id": _CALL_ID, "name": _NAME, "arguments": _STRING},
        {**_STATUS, "namespace": _or_null(_STRING)},
    ),
    "function_call_output": _object({"type": _STRING, "call_id": _CALL_ID, "output": _output}, _STATUS),
    "custom_tool_call": _object(
        {"type": _STRING, "call_id": _CALL_ID, "name": _NAME, "input": _STRING},
        {**_STATUS, "namespace": _or_null(_STRING)},
    ),
    "custom_tool_call_output": _object({"type": _STRING, "call_id": _CALL_ID, "output": _output}, _STATUS),
    "item_reference": _object({"id": _STRING}, {"type": _STRING}),
    "web_search_call": _anything,
    "additional_tools": _object({"type": _STRING, "tools": _is(list)}, {"role": _STRING, "id": _STRING}),
}
COMPACTION_ITEMS: dict[str, Check] = {
    "compaction": _SEALED,
    "compaction_summary": _SEALED,
    "context_compaction": _object({"type": _STRING}, {"encrypted_content": _STRING, "id": _STRING}),
    "compaction_trigger": _object({"type": _STRING}),
}


# -- tools ------------------------------------------------------------------------------------------------

_FUNCTION = _object(
    {"type": _STRING, "name": _NAME},
    {
        "description": _or_null(_STRING),
        "parameters": _or_null(_OBJECT),
        "strict": _or_null(_is(bool)),
        "defer_loading": _is(bool),
    },
)
_CUSTOM = _object({"type": _STRING, "name": _NAME}, {"description": _STRING, "format": _OBJECT})
_TOOLS: dict[str, Check] = {
    "function": _FUNCTION,
    "custom": _CUSTOM,
    "namespace": _object(
        {
            "type": _STRING,
            "name": _NAME,
            "tools": _list(_by_type({"function": _FUNCTION, "custom": _CUSTOM})),
        },
        {"description": _STRING},
    ),
    **dict.fromkeys(_HOSTED, _OBJECT),
}
_CHOICES: dict[str, Check] = {
    "function": _object({"type": _STRING, "name": _STRING}),
    "custom": _object({"type": _STRING, "name": _STRING}),
    "allowed_tools": _object({"type": _STRING, "mode": _one_of("auto", "required"), "tools": _list(_OBJECT)}),
    **dict.fromkeys(_HOSTED, _OBJECT),
}


def _choice(value: Any, path: str) -> None:
    if isinstance(value, str):
        _one_of("none", "auto", "required")(value, path)
    else:
        _by_type(_CHOICES)(value, path)


# -- the request ------------------------------------------------------------------------------------------

_FORMATS: dict[str, Check] = {
    "text": _object({"type": _STRING}),
    "json_object": _object({"type": _STRING}),
    "json_schema": _object(
        {"type": _STRING, "name": _text(64, "[a-zA-Z0-9_-]+"), "schema": _OBJECT},
        {"strict": _or_null(_is(bool)), "description": _or_null(_STRING)},
    ),
}
_INCLUDES = (
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "file_search_call.results",
    "message.output_text.logprobs",
    "message.input_image.image_url",
)
_EFFORTS = (None, "none", "minimal", "low", "medium", "high", "xhigh")

_SHARED: dict[str, Check] = {
    "instructions": _or_null(_STRING),
    "tools": _or_null(_list(_by_type(_TOOLS))),
    "parallel_tool_calls": _or_null(_is(bool)),
    "previous_response_id": _or_null(_text(MAX_ID)),
    "prompt_cache_key": _or_null(_text(MAX_ID)),
    "reasoning": _or_null(
        _object(
            {},
            {
                "effort": _one_of(*_EFFORTS),
                "summary": _one_of(None, "auto", "concise", "detailed"),
                "generate_summary": _one_of(None, "auto", "concise", "detailed"),
                "context": _STRING,
            },
        )
    ),
    "text": _or_null(
        _object({}, {"format": _by_type(_FORMATS), "verbosity": _one_of(None, "low", "medium", "high")})
    ),
}


def _input(items: Mapping[str, Check]) -> Check:
    def check(value: Any, path: str) -> None:
        if not isinstance(value, str | list):
            raise refuse(
                f"Invalid type for '{path}': expected one of a string or array of input items, but got "
                f"{named(value)} instead.",
                path,
                "invalid_type",
            )
        if isinstance(value, list):
            _list(_by_type(items, "message"))(value, path)

    return check


def request_check(*, compaction: bool, compact: bool = False) -> Check:
    """Of the body as a whole; compact: that of `/responses/compact`."""
    items = {**ITEMS, **(COMPACTION_ITEMS if compaction else {})}
    required = {"model": _STRING, "input": _input(items)}
    if compact:
        return _object(required, _SHARED)
    own: dict[str, Check] = {
        **_SHARED,
        "stream": _or_null(_is(bool)),
        "stream_options": _or_null(_object({}, {"include_obfuscation": _is(bool)})),
        "store": _or_null(_is(bool)),
        "include": _or_null(_list(_one_of(*_INCLUDES))),
        "tool_choice": _or_null(_choice),
        "temperature": _or_null(_number(0, 2)),
        "top_p": _or_null(_number(0, 1)),
        "top_logprobs": _or_null(_number(0, 20, whole=True)),
        "max_output_tokens": _or_null(_number(16, whole=True)),
        "max_tool_calls": _or_null(_number(1, whole=True)),
        "metadata": _or_null(_OBJECT),
        "truncation": _or_null(_one_of("auto", "disabled")),
        "user": _or_null(_STRING),
        "safety_identifier": _or_null(_text(MAX_ID)),
        "service_tier": _or_null(_one_of("auto", "default", "flex", "priority")),
        "background": _or_null(_is(bool)),
        "client_metadata": _or_null(_OBJECT),
        "prompt_cache_retention": _or_null(_one_of("in-memory", "24h")),
    }
    return _object(required, own)


def check_ids(items: Sequence[Any], *, stored: bool) -> None:
    for index, item in enumerate(items):
        kind = item.get("type", "message")
        path = at("input", index)
        given = item.get("id")
        by_id = kind == "reasoning" and given and not item.get("encrypted_content")
        if not stored and (kind == "item_reference" or by_id):
            raise Refusal(
                404,
                f"Item with id '{given}' not found. Items are not persisted when `store` is set to false. "
                "Try again with `store` set to true, or remove this item from your input.",
                param="input",
            )
        if given is None or kind not in ITEM_PREFIXES:
            continue
        _text(MAX_ID)(given, at(path, "id"))
        prefix = ITEM_PREFIXES[kind]
        if not given.startswith(prefix):
            raise refuse(
                f"Invalid '{at(path, 'id')}': '{given}'. Expected an ID that begins with '{prefix}'.",
                at(path, "id"),
            )


_PAIRS = (
    ("function_call", "function_call_output", "function call", "function call output"),
    ("custom_tool_call", "custom_tool_call_output", "custom tool call", "custom tool call output"),
)


def check_calls(items: Sequence[Any]) -> None:
    """Every call has its output behind it, every output its call before it."""
    for call, output, call_words, output_words in _PAIRS:
        open_calls: set[str] = set()
        known: set[str] = set()
        for item in items:
            kind = item.get("type")
            if kind == call:
                if item["call_id"] in known:
                    raise refuse(f"Duplicate item found with call_id {item['call_id']}.", "input", None)
                open_calls.add(item["call_id"])
                known.add(item["call_id"])
            elif kind == output:
                if item["call_id"] not in known:
                    raise refuse(
                        f"No tool call found for {output_words} with call_id {item['call_id']}.",
                        "input",
                        None,
                    )
                open_calls.discard(item["call_id"])
        for call_id in sorted(open_calls):
            raise refuse(f"No tool output found for {call_words} {call_id}.", "input", None)


def check_settings(body: Mapping[str, Any], *, reasons: bool) -> None:
    """What one field makes of another, and the model of all of them."""
    if body.get("stream_options") is not None and not body.get("stream"):
        raise refuse(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options", None
        )
    for name in ("temperature", "top_p") if reasons else ("reasoning",):
        if body.get(name) is not None:
            raise refuse(f"Unsupported parameter: '{name}' is not supported with this model.", name, None)
    if not reasons and "reasoning.encrypted_content" in (body.get("include") or ()):
        raise refuse("Encrypted content is not supported with this model.", "include", None)
    _check_format(body)
    choice = body.get("tool_choice")
    offered = [tool.get("name", tool["type"]) for tool in body.get("tools") or ()]
    if isinstance(choice, dict):
        wanted = [one.get("name") for one in choice.get("tools", [choice])]
        for name in wanted:
            if name not in offered:
                raise refuse(f"Tool choice '{name}' not found in 'tools' parameter.", "tool_choice")
    elif choice == "required" and not offered:
        raise refuse("Tool choice 'required' must be specified with 'tools' parameter.", "tool_choice", None)


def _check_format(body: Mapping[str, Any]) -> None:
    wanted = (body.get("text") or {}).get("format") or {}
    if (
        wanted.get("type") == "json_object"
        and "json" not in str((body["input"], body.get("instructions"))).lower()
    ):
        raise refuse(
            "Response input messages must contain the word 'json' in some form to use 'text.format' of type "
            "'json_object'.",
            "input",
            None,
        )
    strict = wanted.get("type") == "json_schema" and wanted.get("strict")
    if strict and wanted["schema"].get("additionalProperties") is not False:
        raise refuse(
            f"Invalid schema for response_format '{wanted['name']}': In context=(), 'additionalProperties' "
            "is required to be supplied and to be false.",
            "text.format.schema",
            "invalid_json_schema",
        )
