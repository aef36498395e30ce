import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.openai.content import read_parts, split_data_url
from gateway.turn.flatten import flatten_parts
from gateway.turn.items import MediaPart, Part, RefusalPart, TextPart
from gateway.turn.losses import Loss
from gateway.wire.chat import ContentPart

PNG = "data:image/png;base64,iVBORw0="


def read(*parts: dict[str, object]) -> tuple[Part, ...]:
    losses: list[Loss] = []
    read_as = read_parts([ContentPart.model_validate(part) for part in parts], "p", losses)
    assert losses == []
    return read_as


def test_lv_86_parts_flatten_to_lines_and_placeholders() -> None:
    """Given text, image_url, input_image, input_audio, text: they flatten to
    `hello\\n[image]\\n[image]\\n[audio]\\nworld`.
    """
    parts = read(
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "input_image", "image_url": "https://example.com/a.png"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "text", "text": "world"},
    )
    assert flatten_parts(parts) == "hello\n[image]\n[image]\n[audio]\nworld"


def test_text_and_nothing_are_parts_too() -> None:
    assert read_parts("hi", "p", []) == (TextPart("hi"),)
    assert read_parts(None, "p", []) == ()
    assert read_parts([], "p", []) == ()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "input_text", "text": "a"}, TextPart("a")),
        ({"type": "output_text", "text": "a", "annotations": []}, TextPart("a")),
        ({"type": "refusal", "refusal": "no"}, RefusalPart("no")),
        (
            {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
            MediaPart(kind="image", mime_type="image/png", data="iVBORw0=", detail="low"),
        ),
        (
            {"type": "image_url", "image_url": "https://a/b.png"},
            MediaPart(kind="image", url="https://a/b.png"),
        ),
        (
            {"type": "input_image", "file_id": "f-1", "detail": "high"},
            MediaPart(kind="image", file_id="f-1", detail="high"),
        ),
        ({"type": "image_url"}, MediaPart(kind="image")),
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "AA"},
            },
            MediaPart(kind="image", mime_type="image/png", data="AA"),
        ),
        ({"type": "image", "source": {"type": "url", "url": "u"}}, MediaPart(kind="image", url="u")),
        ({"type": "image", "source": {"file_id": "f-1"}}, MediaPart(kind="image", file_id="f-1")),
        ({"type": "image", "source": PNG}, MediaPart(kind="image", mime_type="image/png", data="iVBORw0=")),
        ({"type": "image", "image": PNG}, MediaPart(kind="image", mime_type="image/png", data="iVBORw0=")),
        (
            {"type": "image", "image": {"url": "u"}, "detail": "low"},
            MediaPart(kind="image", url="u", detail="low"),
        ),
        ({"type": "image", "image_url": "u"}, MediaPart(kind="image", url="u")),
        ({"type": "image"}, MediaPart(kind="image")),
        (
            {"type": "input_image", "image_url": PNG, "detail": "auto"},
            MediaPart(kind="image", mime_type="image/png", data="iVBORw0=", detail="auto"),
        ),
        ({"type": "image_url", "image_url": {"url": None}}, MediaPart(kind="image")),
        ({"type": "video_url", "video_url": {"url": "u"}}, MediaPart(kind="video", url="u")),
        (
            {"type": "video_url", "video_url": "data:video/mp4;base64,AA"},
            MediaPart(kind="video", mime_type="video/mp4", data="AA"),
        ),
        ({"type": "audio_url", "audio_url": {"url": "u"}}, MediaPart(kind="audio", url="u")),
        (
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
            MediaPart(kind="audio", mime_type="audio/mp3", data="AA"),
        ),
        ({"type": "input_audio"}, MediaPart(kind="audio")),
        (
            {"type": "file", "file": {"file_id": "f-1", "filename": "a.pdf"}},
            MediaPart(kind="file", file_id="f-1", name="a.pdf"),
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JV", "filename": "a.pdf"}},
            MediaPart(kind="file", mime_type="application/pdf", data="JV", name="a.pdf"),
        ),
        (
            {"type": "input_file", "file_url": "https://a/b.pdf", "filename": "b"},
            MediaPart(kind="file", url="https://a/b.pdf", name="b"),
        ),
        ({"type": "input_file", "file_data": "JV"}, MediaPart(kind="file", data="JV")),
    ],
)
def test_each_part_keeps_what_leads_to_its_content(part: dict[str, object], expected: Part) -> None:
    assert read(part) == (expected,)


def test_a_part_of_unknown_type_is_left_out_and_told() -> None:
    losses: list[Loss] = []
    parts = [ContentPart(type="hologram"), ContentPart(type="text", text="a")]
    assert read_parts(parts, "messages.3.content", losses) == (TextPart("a"),)
    assert losses == [Loss("messages.3.content.0", "unknown-part")]


def test_a_text_part_without_text_is_refused_by_its_path() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read({"type": "text", "text": "a"}, {"type": "text"})
    assert caught.value.param == "p.1.text"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (PNG, ("image/png", "iVBORw0=")),
        ("DATA:Image/PNG;BASE64,AA", ("image/png", "AA")),
        ("data:text/plain;charset=utf-8;base64,AA", ("text/plain", "AA")),
        ("data:;base64,AA", ("application/octet-stream", "AA")),
        ("data:text/plain,hello", None),
        ("data:image/png;base64", None),
        ("https://a/data:image/png;base64,AA", None),
        ("", None),
    ],
)
def test_only_base64_data_urls_are_inline(url: str, expected: tuple[str, str] | None) -> None:
    assert split_data_url(url) == expected
