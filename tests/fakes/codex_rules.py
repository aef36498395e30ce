"""What the fake Responses upstream accepts, and the vendor's own words for what it does not.

Deliberately narrower than the gateway: unknown fields, wrong types, ids that are too long or of another kind,
calls without results and results without calls are all refused, so that a request which passes here is one
that the original takes, too.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes.codex_shapes import (
    Check,
    Refusal,
    anything,
    at,
    by_type,
    list_of,
    members,
    named,
    number,
    of_type,
    one_of,
    or_null,
    refuse,
    text,
)

MAX_ID = 64
ITEM_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
}


# -- content ----------------------------------------------------------------------------------------------

_STRING = of_type(str)
_OBJECT = of_type(dict)
_CALL_ID = text(MAX_ID)
_NAME = text(MAX_ID, "[a-zA-Z0-9_-]+")


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
    "input_text": members({"type": _STRING, "text": _STRING}),
    "input_image": members(
        {"type": _STRING},
        {
            "image_url": or_null(_image_url),
            "file_id": or_null(_STRING),
            "detail": one_of("low", "high", "auto", "original"),
        },
    ),
    "input_file": members(
        {"type": _STRING},
        dict.fromkeys(("filename", "file_data", "file_id", "file_url"), or_null(_STRING)),
    ),
}
_OUTPUT_PARTS = {
    "output_text": members(
        {"type": _STRING, "text": _STRING}, {"annotations": of_type(list), "logprobs": or_null(of_type(list))}
    ),
    "refusal": members({"type": _STRING, "refusal": _STRING}),
}


def _message(value: Any, path: str) -> None:
    roles = one_of("assistant", "system", "developer", "user")
    fields = {
        "type": _STRING,
        "status": or_null(_STRING),
        "id": or_null(_STRING),
        "phase": or_null(_STRING),
    }
    members({"role": roles, "content": anything}, fields)(value, path)
    content = value["content"]
    if isinstance(content, str):
        return
    parts = _OUTPUT_PARTS if value["role"] == "assistant" else _INPUT_PARTS
    list_of(by_type(parts))(content, at(path, "content"))


def _output(value: Any, path: str) -> None:
    if not isinstance(value, str):
        list_of(by_type(_INPUT_PARTS))(value, path)


_STATUS = {"status": or_null(one_of("in_progress", "completed", "incomplete")), "id": or_null(_STRING)}
_SEALED = members({"type": _STRING, "encrypted_content": _STRING}, {"id": or_null(_STRING)})
_REASONING = members(
    {
        "type": _STRING,
        "summary": list_of(by_type({"summary_text": members({"type": _STRING, "text": _STRING})})),
    },
    {
        "content": or_null(list_of(by_type({"reasoning_text": members({"type": _STRING, "text": _STRING})}))),
        "encrypted_content": or_null(_STRING),
        **_STATUS,
    },
)
_HOSTED = ("web_search", "web_search_preview", "image_generation", "file_search", "code_interpreter", "mcp")

ITEMS: dict[str, Check] = {
    "message": _message,
    "reasoning": _REASONING,
    "function_call": members(
        {"type": _STRING, "call_id": _CALL_ID, "name": _NAME, "arguments": _STRING},
        {**_STATUS, "namespace": or_null(_STRING)},
    ),
    "function_call_output": members({"type": _STRING, "call_id": _CALL_ID, "output": _output}, _STATUS),
    "custom_tool_call": members(
        {"type": _STRING, "call_id": _CALL_ID, "name": _NAME, "input": _STRING},
        {**_STATUS, "namespace": or_null(_STRING)},
    ),
    "custom_tool_call_output": members({"type": _STRING, "call_id": _CALL_ID, "output": _output}, _STATUS),
    "item_reference": members({"id": _STRING}, {"type": _STRING}),
    "web_search_call": anything,
    "additional_tools": members({"type": _STRING, "tools": of_type(list)}, {"role": _STRING, "id": _STRING}),
}
COMPACTION_ITEMS: dict[str, Check] = {
    "compaction": _SEALED,
    "compaction_summary": _SEALED,
    "context_compaction": members({"type": _STRING}, {"encrypted_content": _STRING, "id": _STRING}),
    "compaction_trigger": members({"type": _STRING}),
}


# -- tools ------------------------------------------------------------------------------------------------

_FUNCTION = members(
    {"type": _STRING, "name": _NAME},
    {
        "description": or_null(_STRING),
        "parameters": or_null(_OBJECT),
        "strict": or_null(of_type(bool)),
        "defer_loading": of_type(bool),
    },
)
_CUSTOM = members({"type": _STRING, "name": _NAME}, {"description": _STRING, "format": _OBJECT})
_TOOLS: dict[str, Check] = {
    "function": _FUNCTION,
    "custom": _CUSTOM,
    "namespace": members(
        {
            "type": _STRING,
            "name": _NAME,
            "tools": list_of(by_type({"function": _FUNCTION, "custom": _CUSTOM})),
        },
        {"description": _STRING},
    ),
    **dict.fromkeys(_HOSTED, _OBJECT),
}
_CHOICES: dict[str, Check] = {
    "function": members({"type": _STRING, "name": _STRING}),
    "custom": members({"type": _STRING, "name": _STRING}),
    "allowed_tools": members(
        {"type": _STRING, "mode": one_of("auto", "required"), "tools": list_of(_OBJECT)}
    ),
    **dict.fromkeys(_HOSTED, _OBJECT),
}


def _choice(value: Any, path: str) -> None:
    if isinstance(value, str):
        one_of("none", "auto", "required")(value, path)
    else:
        by_type(_CHOICES)(value, path)


# -- the request ------------------------------------------------------------------------------------------

_FORMATS: dict[str, Check] = {
    "text": members({"type": _STRING}),
    "json_object": members({"type": _STRING}),
    "json_schema": members(
        {"type": _STRING, "name": text(64, "[a-zA-Z0-9_-]+"), "schema": _OBJECT},
        {"strict": or_null(of_type(bool)), "description": or_null(_STRING)},
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
    "instructions": or_null(_STRING),
    "tools": or_null(list_of(by_type(_TOOLS))),
    "parallel_tool_calls": or_null(of_type(bool)),
    "previous_response_id": or_null(text(MAX_ID)),
    "prompt_cache_key": or_null(text(MAX_ID)),
    "reasoning": or_null(
        members(
            {},
            {
                "effort": one_of(*_EFFORTS),
                "summary": one_of(None, "auto", "concise", "detailed"),
                "generate_summary": one_of(None, "auto", "concise", "detailed"),
                "context": _STRING,
            },
        )
    ),
    "text": or_null(
        members({}, {"format": by_type(_FORMATS), "verbosity": one_of(None, "low", "medium", "high")})
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
            list_of(by_type(items, "message"))(value, path)

    return check


def request_check(*, compaction: bool, compact: bool = False) -> Check:
    """Of the body as a whole; compact: that of `/responses/compact`."""
    items = {**ITEMS, **(COMPACTION_ITEMS if compaction else {})}
    required = {"model": _STRING, "input": _input(items)}
    if compact:
        return members(required, _SHARED)
    own: dict[str, Check] = {
        **_SHARED,
        "stream": or_null(of_type(bool)),
        "stream_options": or_null(members({}, {"include_obfuscation": of_type(bool)})),
        "store": or_null(of_type(bool)),
        "include": or_null(list_of(one_of(*_INCLUDES))),
        "tool_choice": or_null(_choice),
        "temperature": or_null(number(0, 2)),
        "top_p": or_null(number(0, 1)),
        "top_logprobs": or_null(number(0, 20, whole=True)),
        "max_output_tokens": or_null(number(16, whole=True)),
        "max_tool_calls": or_null(number(1, whole=True)),
        "metadata": or_null(_OBJECT),
        "truncation": or_null(one_of("auto", "disabled")),
        "user": or_null(_STRING),
        "safety_identifier": or_null(text(MAX_ID)),
        "service_tier": or_null(one_of("auto", "default", "flex", "priority")),
        "background": or_null(of_type(bool)),
        "client_metadata": or_null(_OBJECT),
        "prompt_cache_retention": or_null(one_of("in-memory", "24h")),
    }
    return members(required, own)


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
        text(MAX_ID)(given, at(path, "id"))
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
