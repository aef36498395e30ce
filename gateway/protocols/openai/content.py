"""Message content of Chat Completions to parts of a turn. Pure."""

from gateway.protocols.bodies import missing
from gateway.turn.items import MediaKind, MediaPart, Part, RefusalPart, TextPart
from gateway.turn.losses import Loss
from gateway.wire.chat import ContentPart, ImageUrl, MediaSource

_TEXT_TYPES = frozenset({"text", "input_text", "output_text", "summary_text", "reasoning_text"})


def read_parts(content: str | list[ContentPart] | None, path: str, losses: list[Loss]) -> tuple[Part, ...]:
    """Text stays text, media keep what leads to them; a part of unknown type is left out, as a loss."""
    if content is None:
        return ()
    if isinstance(content, str):
        return (TextPart(content),)
    parts: list[Part] = []
    for index, part in enumerate(content):
        read = _read_part(part, f"{path}.{index}")
        if read is None:
            losses.append(Loss(f"{path}.{index}", "unknown-part"))
        else:
            parts.append(read)
    return tuple(parts)


def _read_part(part: ContentPart, path: str) -> Part | None:
    if part.type in _TEXT_TYPES:
        if part.text is None:
            raise missing(f"{path}.text")
        return TextPart(part.text)
    match part.type:
        case "refusal":
            return RefusalPart(part.refusal or part.text or "")
        case "image_url" | "input_image" | "computer_screenshot":
            return _image(part)
        case "image":
            return _plain_image(part)
        case "video_url":
            return _linked("video", part.video_url)
        case "audio_url":
            return _linked("audio", part.audio_url)
        case "input_audio":
            return _audio(part)
        case "file" | "input_file":
            return _file(part)
        case _:
            return None


def _image(part: ContentPart) -> MediaPart:
    detail = part.image_url.detail if isinstance(part.image_url, ImageUrl) else part.detail
    return _linked("image", part.image_url, file_id=part.file_id, detail=detail)


def _plain_image(part: ContentPart) -> MediaPart:
    """Parts of a type that OpenAI has not, in the forms that other vendors' toolkits give it."""
    source = part.source
    if isinstance(source, MediaSource) and source.data is not None:
        return MediaPart(kind="image", mime_type=source.media_type, data=source.data)
    if isinstance(source, MediaSource):
        return MediaPart(kind="image", url=source.url, file_id=source.file_id)
    return _linked("image", source or part.image or part.image_url, detail=part.detail)


def _audio(part: ContentPart) -> MediaPart:
    audio = part.input_audio
    if audio is None:
        return MediaPart(kind="audio", file_id=part.file_id)
    mime_type = f"audio/{audio.format}" if audio.format else None
    return MediaPart(kind="audio", mime_type=mime_type, data=audio.data)


def _file(part: ContentPart) -> MediaPart:
    file = part.file
    data = file.file_data if file else part.file_data
    name = file.filename if file else part.filename
    file_id = file.file_id if file else part.file_id
    if data is not None and (inline := split_data_url(data)) is not None:
        mime_type, data = inline
        return MediaPart(kind="file", mime_type=mime_type, data=data, name=name)
    return MediaPart(kind="file", url=part.file_url, data=data, file_id=file_id, name=name)


def _linked(
    kind: MediaKind,
    link: ImageUrl | str | None,
    *,
    file_id: str | None = None,
    detail: str | None = None,
) -> MediaPart:
    """What an address leads to, or what it holds itself."""
    url = link.url if isinstance(link, ImageUrl) else link
    if url is not None and (inline := split_data_url(url)) is not None:
        mime_type, data = inline
        return MediaPart(kind=kind, mime_type=mime_type, data=data, detail=detail)
    return MediaPart(kind=kind, url=url, file_id=file_id, detail=detail)


def split_data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64 text) of a data URL; None for any other URL, or one whose data is no base64."""
    if url[:5].lower() != "data:":
        return None
    head, comma, data = url[5:].partition(",")
    if not comma or not head.lower().endswith(";base64"):
        return None
    return head.split(";", 1)[0].lower() or "application/octet-stream", data
