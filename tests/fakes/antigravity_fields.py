"""The fields of a Gemini request to the letter: unknown names, wrong types, schemas it does not know.

Google's service reads JSON into messages and then checks them; both steps have their own form of error. The
names may be written in camelCase or in snake_case; errors name them in snake_case.
"""

import base64
import re
from typing import Any, NamedTuple

TYPES = {"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"}
FORMATS = {"STRING": {"enum", "date-time"}, "NUMBER": {"float", "double"}, "INTEGER": {"int32", "int64"}}
FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")

Spec = dict[str, Any]
ANY = "any"

BLOB: Spec = {"mimeType": str, "data": bytes, "displayName": str}
FILE: Spec = {"mimeType": str, "fileUri": str, "displayName": str}
CALL: Spec = {"id": str, "name": str, "args": dict}
RESPONSE: Spec = {
    "id": str,
    "name": str,
    "response": dict,
    "parts": [{"inlineData": BLOB, "fileData": FILE}],
    "willContinue": bool,
    "scheduling": str,
}
PART: Spec = {
    "text": str,
    "thought": bool,
    "thoughtSignature": bytes,
    "inlineData": BLOB,
    "fileData": FILE,
    "functionCall": CALL,
    "functionResponse": RESPONSE,
    "executableCode": {"language": str, "code": str, "id": str},
    "codeExecutionResult": {"outcome": str, "output": str, "id": str},
    "videoMetadata": dict,
    "partMetadata": dict,
}
DATA = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
)
CONTENT: Spec = {"role": str, "parts": [PART]}

SCHEMA: Spec = {
    "type": str,
    "format": str,
    "title": str,
    "description": str,
    "nullable": bool,
    "enum": [str],
    "maxItems": int,
    "minItems": int,
    "required": [str],
    "minProperties": int,
    "maxProperties": int,
    "minLength": int,
    "maxLength": int,
    "pattern": str,
    "example": ANY,
    "propertyOrdering": [str],
    "default": ANY,
    "minimum": float,
    "maximum": float,
}
SCHEMA["items"] = SCHEMA
SCHEMA["anyOf"] = [SCHEMA]
SCHEMA["properties"] = ("map", SCHEMA)

FUNCTION: Spec = {
    "name": str,
    "description": str,
    "parameters": SCHEMA,
    "parametersJsonSchema": ANY,
    "response": SCHEMA,
    "responseJsonSchema": ANY,
    "behavior": str,
}
TOOL: Spec = {
    "functionDeclarations": [FUNCTION],
    "googleSearch": dict,
    "codeExecution": dict,
    "urlContext": dict,
}
CONFIG: Spec = {
    "temperature": float,
    "topP": float,
    "topK": int,
    "candidateCount": int,
    "maxOutputTokens": int,
    "stopSequences": [str],
    "seed": int,
    "presencePenalty": float,
    "frequencyPenalty": float,
    "responseMimeType": str,
    "responseSchema": SCHEMA,
    "responseJsonSchema": ANY,
    "responseModalities": [str],
    "thinkingConfig": {"includeThoughts": bool, "thinkingBudget": int, "thinkingLevel": str},
    "mediaResolution": str,
    "speechConfig": dict,
}
REQUEST: Spec = {
    "contents": [CONTENT],
    "systemInstruction": CONTENT,
    "tools": [TOOL],
    "toolConfig": {"functionCallingConfig": {"mode": str, "allowedFunctionNames": [str]}},
    "safetySettings": [{"category": str, "threshold": str}],
    "generationConfig": CONFIG,
    "cachedContent": str,
}


class Violation(NamedTuple):
    field: str
    description: str


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


def camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


# -- reading ----------------------------------------------------------------------------------------------


class Reader:
    """The message that JSON says, with all names in camelCase, and what it cannot say."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def read(self, value: Any, spec: Spec, path: str = "") -> dict[str, Any]:
        if not isinstance(value, dict):
            self._say(path, f"Invalid value at '{path}' (type.googleapis.com), {value!r}")
            return {}
        message: dict[str, Any] = {}
        for given, member in value.items():
            name = camel(given)
            if name not in spec:
                where = f" at '{path}'" if path else ""
                told = f'Invalid JSON payload received. Unknown name "{given}"{where}: Cannot find field.'
                self._say(path, told)
            elif member is not None:
                message[name] = self._member(member, spec[name], f"{path}.{snake(name)}".lstrip("."))
        return message

    def _member(self, value: Any, kind: Any, path: str) -> Any:
        if isinstance(kind, list):
            values = value if isinstance(value, list) else [value]
            return [self._member(one, kind[0], f"{path}[{at}]") for at, one in enumerate(values)]
        if isinstance(value, list) and kind is not ANY:
            self._say(
                path.rpartition(".")[0],
                f'Invalid JSON payload received. Unknown name "{path.rpartition(".")[2]}" at '
                f"'{path.rpartition('.')[0]}': Proto field is not repeating, cannot start list.",
            )
            return None
        if isinstance(kind, dict):
            return self.read(value, kind, path)
        if isinstance(kind, tuple):
            if not isinstance(value, dict):
                self._say(path, f"Invalid value at '{path}' (type.googleapis.com), {value!r}")
                return {}
            return {
                name: self.read(one, kind[1], f"{path}[{at}].value")
                for at, (name, one) in enumerate(value.items())
            }
        return self._scalar(value, kind, path)

    def _scalar(self, value: Any, kind: Any, path: str) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {
            ANY: True,
            str: isinstance(value, str),
            bool: isinstance(value, bool),
            dict: isinstance(value, dict),
            float: number,
            int: number and value == int(value),
            bytes: isinstance(value, str) and is_base64(value),
        }[kind]
        if not fits:
            told = f'Base64 decoding failed for "{value}"' if kind is bytes else repr(value)
            self._say(path, f"Invalid value at '{path}' (TYPE_{kind.__name__.upper()}), {told}")
        return value

    def _say(self, field: str, description: str) -> None:
        self.violations.append(Violation(field, description))


def is_base64(text: str) -> bool:
    """Of either alphabet, padded or not."""
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return False
    return len(text) % 4 != 1


# -- checking ---------------------------------------------------------------------------------------------


class Checker:
    """What is said well, and is wrong all the same."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.problems: list[str] = []

    def request(self, request: dict[str, Any]) -> None:
        if not request.get("contents"):
            self._say("contents", "contents is not specified")
        for at, content in enumerate(request.get("contents", [])):
            self._content(content, f"contents[{at}]")
        if "systemInstruction" in request:
            self._content(request["systemInstruction"], "system_instruction", of_system=True)
        names = self._tools(request.get("tools", []))
        self._calling(request.get("toolConfig", {}).get("functionCallingConfig"), names)
        self._config(request.get("generationConfig", {}), tools=bool(names))

    def _say(self, path: str, problem: str) -> None:
        self.problems.append(f"* GenerateContentRequest.{path}: {problem}")

    def _content(self, content: dict[str, Any], path: str, *, of_system: bool = False) -> None:
        if not content.get("parts"):
            self._say(f"{path}.parts", "contents.parts must not be empty.")
        if not of_system and content.get("role", "user") not in ("user", "model", "function"):
            self.problems.append("Please use a valid role: user, model.")
        for at, part in enumerate(content.get("parts", [])):
            where = f"{path}.parts[{at}]"
            if sum(name in part for name in DATA) != 1:
                self._say(f"{where}.data", "required oneof field 'data' must have one initialized field")
            for name in ("inlineData", "fileData"):
                if name in part and not part[name].get("mimeType"):
                    self._say(f"{where}.{snake(name)}.mime_type", "must be specified")
            for name in ("functionCall", "functionResponse"):
                if name in part and not part[name].get("name"):
                    self._say(f"{where}.{snake(name)}.name", "Name cannot be empty.")
                if part.get(name, {}).get("id", "").startswith("cpa_gemini_"):
                    self._say(f"{where}.{snake(name)}.id", "is no id of this service")
            if "functionResponse" in part and "response" not in part["functionResponse"]:
                self._say(f"{where}.function_response.response", "must be specified")

    def _tools(self, tools: list[dict[str, Any]]) -> set[str]:
        names: set[str] = set()
        for number, tool in enumerate(tools):
            if not tool:
                self._say(f"tools[{number}].tool_type", "required one_of 'tool_type' must have one field")
            for at, function in enumerate(tool.get("functionDeclarations", [])):
                path = f"tools[{number}].function_declarations[{at}]"
                name = function.get("name", "")
                if not FUNCTION_NAME.fullmatch(name):
                    self._say(
                        f"{path}.name",
                        "Invalid function name. Must start with a letter or an underscore. Must be "
                        "alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), "
                        "with a maximum length of 64.",
                    )
                if name in names:
                    self.problems.append(f"Duplicate function declaration found: {name}")
                names.add(name)
                if not function.get("description"):
                    self._say(f"{path}.description", "must be specified")
                if "parameters" in function:
                    if function["parameters"].get("type", "").upper() != "OBJECT":
                        self._say(f"{path}.parameters.type", "should be OBJECT type")
                    elif not function["parameters"].get("properties"):
                        self._say(f"{path}.parameters.properties", "should be non-empty for OBJECT type")
                    self._schema(function["parameters"], f"{path}.parameters")
        return names

    def _schema(self, schema: dict[str, Any], path: str) -> None:
        if "anyOf" in schema:
            if set(schema) != {"anyOf"}:
                self._say(path, "When using any_of, it must be the only field set.")
            for at, option in enumerate(schema["anyOf"]):
                self._schema(option, f"{path}.any_of[{at}]")
            return
        kind = schema.get("type", "").upper()
        if kind not in TYPES:
            self._say(f"{path}.type", "must be specified when not using one_of, any_of or all_of fields")
        for name, of in (("properties", "OBJECT"), ("required", "OBJECT"), ("enum", "STRING")):
            if name in schema and kind != of:
                self._say(f"{path}.{name}", f"only allowed for {of} type")
        if "items" in schema and kind != "ARRAY":
            self._say(f"{path}.items", "field predicate failed: $type == Type.ARRAY")
        if kind == "ARRAY" and not schema.get("items"):
            self._say(f"{path}.items", "missing field.")
        for at, choice in enumerate(schema.get("enum", [])):
            if not choice:
                self._say(f"{path}.enum[{at}]", "cannot be empty")
        if "format" in schema and schema["format"] not in FORMATS.get(kind, ()):
            allowed = " and ".join(f"'{one}'" for one in sorted(FORMATS.get(kind, ()), reverse=True))
            self._say(f"{path}.format", f"only {allowed} are supported for {kind} type")
        for at, name in enumerate(schema.get("required", [])):
            if name not in schema.get("properties", {}):
                self._say(f"{path}.required[{at}]", "property is not defined")
        for name, inner in schema.get("properties", {}).items():
            self._schema(inner, f"{path}.properties[{name}]")
        if kind == "ARRAY" and schema.get("items"):
            self._schema(schema["items"], f"{path}.items")

    def _calling(self, config: dict[str, Any] | None, names: set[str]) -> None:
        if config is None:
            return
        path = "tool_config.function_calling_config"
        mode, allowed = config.get("mode", "").upper(), config.get("allowedFunctionNames", [])
        if mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
            self._say(f"{path}.mode", "is not a mode")
        if not names:
            self.problems.append("Function calling config is set without function_declarations.")
        if allowed and mode not in ("ANY", "VALIDATED"):
            self._say(f"{path}.allowed_function_names", "should be set only when mode is ANY or VALIDATED")
        for name in allowed:
            if name not in names:
                self._say(f"{path}.allowed_function_names", f"'{name}' is not declared")

    def _config(self, config: dict[str, Any], *, tools: bool) -> None:
        path = "generation_config"
        if not 0 <= config.get("temperature", 0) <= 2:
            self._say(f"{path}.temperature", "must be in the range [0.0, 2.0]")
        if len(config.get("stopSequences", [])) > 5:
            self._say(f"{path}.stop_sequences", "must have at most 5 elements")
        if not -(2**31) <= config.get("seed", 0) < 2**31:
            self._say(f"{path}.seed", "out of range")
        if config.get("candidateCount", 1) != 1:
            self.problems.append("Multiple candidates is not enabled for this model")
        json = config.get("responseMimeType") == "application/json"
        if ("responseSchema" in config or "responseJsonSchema" in config) and not json:
            self._say(f"{path}.response_schema", "only allowed when response_mime_type is application/json")
        if "responseSchema" in config:
            self._schema(config["responseSchema"], f"{path}.response_schema")
        newer = is_newer(self._model)
        if json and tools and not newer:
            self.problems.append(
                "Function calling with a response mime type: 'application/json' is unsupported"
            )
        self._thinking(config.get("thinkingConfig"), newer=newer)

    def _thinking(self, thinking: dict[str, Any] | None, *, newer: bool) -> None:
        if thinking is None:
            return
        if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
            self.problems.append("You can only set only one of thinking budget and thinking level.")
        least, most = (128, 32768) if "pro" in self._model else (0, 24576)
        budget = thinking.get("thinkingBudget", least)
        if budget != -1 and not least <= budget <= most:
            told = f"The thinking budget {budget} is invalid."
            self.problems.append(f"{told} Please choose a value between {least or 1} and {most}.")
        if "thinkingLevel" in thinking:
            known = {"LOW", "HIGH"} if "3-pro" in self._model else {"MINIMAL", "LOW", "MEDIUM", "HIGH"}
            if not newer:
                self.problems.append("Thinking level is not supported for this model.")
            elif thinking["thinkingLevel"].upper() not in known:
                level = thinking["thinkingLevel"]
                self.problems.append(f"Thinking level {level} is not supported for this model.")


def is_newer(model: str) -> bool:
    """Of the third generation or later, which demands its signatures back."""
    found = re.search(r"gemini-(\d+)", model)
    return found is not None and int(found[1]) >= 3
