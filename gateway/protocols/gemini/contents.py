"""Contents of a Gemini request to items of a turn. Pure.

What a model said at a stretch comes back in as many contents as it was streamed in: texts that follow each
other become one message again. Calls without ids get them from their places, and a response finds its call by
id, else by name and order. A signature stays with the part that it came with; one that came alone belongs to
what stands before it.
"""

from collections.abc import Sequence, Set
from typing import Final, cast

from pydantic.alias_generators import to_camel

from gateway.kernel.errors import InvalidRequest
from gateway.kernel.json import Json, JsonObject, dumps
from gateway.protocols.gemini.calls import Calls
from gateway.turn.items import (
    Item,
    MediaKind,
    MediaPart,
    Message,
    OpaqueItem,
    Origin,
    Part,
    Reasoning,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)
from gateway.turn.losses import Loss
from gateway.wire.gemini import (
    BlobIn,
    ContentIn,
    FileDataIn,
    FunctionCallIn,
    FunctionResponseIn,
    PartIn,
    ResponsePartIn,
)

CLIENT: Final = "client"
"""Executor of items that a client brought: nobody here knows who made them."""

_ROLES: Final[dict[str, Role]] = {
    "": "user",
    "user": "user",
    "function": "user",
    "tool": "user",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "developer": "developer",
}

_NO_SIGNATURES: Final = frozenset(
    {"", "skip_thought_signature_validator", "context_engineering_is_the_way_to_go"}
)
"""What clients send in place of a signature that they do not have."""

_OUTPUTS: Final = ("output", "result", "error")
"""Members under which a function's response is wrapped; any other response is the object itself."""

_CONTENT: Final = (
    "text",
    "inline_data",
    "file_data",
    "executable_code",
    "code_execution_result",
    "function_call",
    "function_response",
)
"""Fields of a part that hold something."""

_MARKS: Final = frozenset(
    {
        "thought",
        "thoughtSignature",
        "thought_signature",
        "videoMetadata",
        "video_metadata",
        "partMetadata",
        "part_metadata",
        "mediaResolution",
        "media_resolution",
    }
)
"""Members that say something about a part, but are not what it holds."""


_PART: Final = _MARKS.union(_CONTENT, map(to_camel, _CONTENT))

_TURN: Final = frozenset({"parts", "role"})


class Conversation:
    """Collects the items of one request."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.losses: list[Loss] = []
        self._role: Role = "user"
        self._parts: list[Part] = []
        """Of the message that is being put together."""
        self._texts: list[str] = []
        """Of the model, what comes after those parts: one text in the end."""
        self._thoughts: list[str] = []
        """What comes after the items: one reasoning in the end, or with the first signature."""
        self._signed: str | None = None
        """The signature of that message."""
        self._after_code = False
        self._calls = Calls()

    def system(self, content: ContentIn, raw: Json) -> None:
        """Whatever role it carries: clients differ in that."""
        self._role = "system"
        self._content(content, raw, "systemInstruction", "system")
        self._close()
        self._end_thoughts()

    def contents(self, contents: Sequence[ContentIn], raw: Json) -> None:
        """`raw` is what the contents were read from. Raises InvalidRequest for a role that does not exist."""
        originals = raw if isinstance(raw, list) else [raw]
        for at, (content, original) in enumerate(zip(contents, originals, strict=True)):
            role = _role(content.role, f"contents.{at}.role")
            if role != self._role or role != "assistant":
                self._close()
            self._role = role
            self._content(content, original, f"contents.{at}", str(at))
        self._close()
        self._end_thoughts()

    # -- parts --------------------------------------------------------------------------------------------

    def _content(self, content: ContentIn, raw: Json, path: str, place: str) -> None:
        if isinstance(raw, dict) and not _TURN.isdisjoint(raw):
            self._ignored(raw, _TURN, path)
        for index, (part, original) in enumerate(zip(content.parts or (), _raw_parts(raw), strict=False)):
            self._part(part, original, f"{path}.parts.{index}", f"{place}_{index}")

    def _ignored(self, raw: JsonObject, known: Set[str], path: str) -> None:
        """Members that nobody here knows, beside others: told, for they may hold what a model should read."""
        self.losses.extend(
            Loss(f"{path}.{name}", "unknown-member") for name in raw if name not in known and raw[name]
        )

    def _part(self, part: PartIn, raw: Json, path: str, place: str) -> None:
        if part.text is not None and isinstance(raw, dict) and len(raw) == 1:  # as nearly all are
            self._text(part.text, thought=False, signature=None)
            return
        signature = _signature(part)
        if all(getattr(part, name) is None for name in _CONTENT):
            self._unknown(raw, signature, path)
        elif isinstance(raw, dict):
            self._ignored(raw, _PART, path)
        if part.text is not None:
            self._text(part.text, bool(part.thought), signature)
        if (media := _media(part)) is not None:
            self._add(media)
        if (code := _code(part)) is not None:
            self.losses.append(Loss(path, "as-text"))
            self._add_code(code)
        if part.function_call is not None:
            if part.function_call.partial_args:
                self.losses.append(Loss(f"{path}.functionCall.partialArgs", "unsupported"))
            self._call(part.function_call, signature, place)
        if part.function_response is not None:
            self._response(part.function_response, path, place)
        if part.video_metadata:
            self.losses.append(Loss(f"{path}.videoMetadata", "unsupported"))

    def _unknown(self, raw: Json, signature: str | None, path: str) -> None:
        """A part of a kind that nobody here knows is kept as it is; one that only signs, signs."""
        if isinstance(raw, dict) and (kinds := [key for key in raw if key not in _MARKS]):
            self._close()
            self.losses.append(Loss(path, "unknown-part"))
            self._append(OpaqueItem(dialect="gemini", type=kinds[0], payload=raw))
        elif signature is not None:
            self._sign(signature)

    def _text(self, text: str, thought: bool, signature: str | None) -> None:
        if thought:
            self._close()
            if text or signature:
                self._reasoning(text, signature)
            return
        if text and signature is not None and self._signed is not None:
            self._close()
        if text or signature is None:
            self._add(TextPart(text))
        if signature is not None:
            self._sign(signature)

    def _reasoning(self, text: str, signature: str | None) -> None:
        """Thoughts that follow each other are one, up to the first that is signed."""
        self._thoughts.append(text)
        if signature is not None:
            self._end_thoughts(signature)

    def _end_thoughts(self, signature: str | None = None) -> None:
        if self._thoughts:
            text, self._thoughts = "".join(self._thoughts), []
            self.items.append(Reasoning(text=text, signature=signature, origin=_origin(signature)))

    def _append(self, item: Item) -> None:
        self._end_thoughts()
        self.items.append(item)

    def _add(self, part: Part) -> None:
        if self._role == "assistant" and isinstance(part, TextPart):
            if self._after_code and part.text:
                self._texts.append("\n" if part.text[0] != "\n" else "")
                self._after_code = False
            self._texts.append(part.text)
        else:
            self._end_text()
            self._parts.append(part)

    def _add_code(self, code: str) -> None:
        """It begins a line, and what comes after it another one."""
        if self._texts and self._texts[-1][-1:] != "\n":
            code = f"\n{code}"
        self._after_code = False
        self._add(TextPart(code))
        self._after_code = True

    def _end_text(self) -> None:
        if self._texts:
            text, self._texts, self._after_code = "".join(self._texts), [], False
            self._parts.append(TextPart(text))

    def _sign(self, signature: str) -> None:
        """For what was said last. A signature with nothing to sign stands alone, as reasoning.

        One that a text carries does not end it: clients give streams back as they came, and there it is on
        the first piece.
        """
        if self._role != "assistant":
            return
        if self._texts or self._parts:
            self._signed = self._signed or signature
            return
        if self._thoughts:
            self._end_thoughts(signature)
            return
        last = self.items[-1] if self.items else None
        match last:
            case Message(role="assistant", origin=None):
                self.items[-1] = Message(role="assistant", parts=last.parts, origin=_origin(signature))
            case ToolCall(origin=None):
                self.items[-1] = ToolCall(
                    call_id=last.call_id,
                    name=last.name,
                    arguments=last.arguments,
                    origin=_origin(signature),
                )
            case Message(origin=Origin()) | ToolCall():
                pass  # it has one
            case _:
                self.items.append(Reasoning(signature=signature, origin=_origin(signature)))

    def _close(self) -> None:
        self._end_text()
        signature, self._signed = self._signed, None
        if not self._parts:
            return
        said = [part for part in self._parts if not isinstance(part, TextPart) or part.text]
        if said or not self._goes_on():
            parts = tuple(said or self._parts[:1])
            self._append(Message(role=self._role, parts=parts, origin=_origin(signature)))
        self._parts = []

    def _goes_on(self) -> bool:
        """Whether the model has said something just before: the end of a stream is an empty text."""
        last = self.items[-1] if self.items else None
        said = isinstance(last, Reasoning | ToolCall) or (
            isinstance(last, Message) and last.role == "assistant"
        )
        return (said or bool(self._thoughts)) and self._role == "assistant"

    # -- tools --------------------------------------------------------------------------------------------

    def _call(self, call: FunctionCallIn, signature: str | None, place: str) -> None:
        self._close()
        call_id = call.id or f"call_{place}"
        self._calls.add(call_id, call.name)
        arguments = dumps(call.args or {}).decode()
        self._append(
            ToolCall(call_id=call_id, name=call.name, arguments=arguments, origin=_origin(signature))
        )

    def _response(self, response: FunctionResponseIn, path: str, place: str) -> None:
        self._close()
        call = self._calls.answered(response.id, response.name)
        text, is_error = _output(response.response)
        media = [read for part in response.parts or () if (read := _media(part)) is not None]
        if len(media) < len(response.parts or ()):
            self.losses.append(Loss(f"{path}.functionResponse.parts", "unknown-part"))
        self._append(
            ToolResult(
                call_id=call.call_id if call else response.id or f"call_{place}",
                parts=(TextPart(text), *media),
                name=response.name or (call.name if call else None),
                is_error=is_error,
            )
        )


def _raw_parts(content: Json) -> list[Json]:
    """What the parts of a content were read from, in all the forms that it may have."""
    given = content
    if isinstance(content, dict) and ("parts" in content or "role" in content):
        given = content.get("parts")
    return given if isinstance(given, list) else [given]


def _role(given: str | None, path: str) -> Role:
    role = _ROLES.get((given or "").lower())
    if role is None:
        raise InvalidRequest(
            f"Invalid '{path}': expected 'user', 'model', 'function' or 'system'",
            param=path,
            code="invalid_value",
        )
    return role


def _signature(part: PartIn) -> str | None:
    given = part.thought_signature
    return None if given is None or given in _NO_SIGNATURES else given


def _origin(signature: str | None) -> Origin | None:
    return None if signature is None else Origin(executor=CLIENT, dialect="gemini", signature=signature)


def _output(response: object) -> tuple[str, bool]:
    """What a function gave back as text, and whether that is an error."""
    if isinstance(response, dict):
        members = cast(JsonObject, response)
        if len(members) == 1 and (name := next(iter(members))) in _OUTPUTS:
            return _as_text(members[name]), name == "error"
    return _as_text(cast(Json, response)), False


def _as_text(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps(value).decode()


# -- media and code ---------------------------------------------------------------------------------------


def _media(part: PartIn | ResponsePartIn) -> MediaPart | None:
    if part.inline_data is not None:
        return _blob(part.inline_data)
    if part.file_data is not None:
        return _file(part.file_data)
    return None


def _blob(blob: BlobIn) -> MediaPart:
    """Clients write base64 in either alphabet; upstreams want the standard one."""
    data = blob.data.replace("-", "+").replace("_", "/")
    return MediaPart(kind=_kind(blob.mime_type), mime_type=blob.mime_type, data=data, name=blob.display_name)


def _file(file: FileDataIn) -> MediaPart:
    return MediaPart(
        kind=_kind(file.mime_type), mime_type=file.mime_type, url=file.file_uri, name=file.display_name
    )


def _kind(mime_type: str | None) -> MediaKind:
    match (mime_type or "").split("/", 1)[0].lower():
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return "video"
        case _:
            return "file"


def _code(part: PartIn) -> str | None:
    """Code that Google's own tool ran, and what came of it, as a reader would see them."""
    if (code := part.executable_code) is not None:
        return f"```{(code.language or '').lower()}\n{code.code}\n```"
    if (result := part.code_execution_result) is not None:
        outcome = result.outcome if result.outcome != "OUTCOME_OK" or not result.output else None
        told = "\n".join(text for text in (outcome, result.output) if text)
        return f"```\n{told}\n```"
    return None
