from hypothesis import given
from hypothesis import strategies as st

from gateway.turn.flatten import flatten_parts, flatten_parts_with_losses
from gateway.turn.items import MediaPart, RefusalPart, TextPart
from gateway.turn.losses import Loss

PARTS = st.lists(
    st.one_of(
        st.text(max_size=4).map(TextPart),
        st.text(max_size=4).map(RefusalPart),
        st.sampled_from(["image", "audio", "video", "file"]).map(lambda kind: MediaPart(kind=kind)),
    ),
    max_size=6,
)


def test_nothing_is_the_empty_text() -> None:
    assert flatten_parts(()) == ""


def test_text_is_kept_as_it_is() -> None:
    assert flatten_parts([TextPart(" a\n")]) == " a\n"


def test_every_kind_of_media_has_its_placeholder() -> None:
    parts = [
        MediaPart(kind="image"),
        MediaPart(kind="audio"),
        MediaPart(kind="video"),
        MediaPart(kind="file"),
    ]
    assert flatten_parts(parts) == "[image]\n[audio]\n[video]\n[file]"


def test_losses_name_each_placeholder_by_its_place() -> None:
    parts = [TextPart("a"), MediaPart(kind="image"), RefusalPart("no"), MediaPart(kind="audio")]
    text, losses = flatten_parts_with_losses(parts, "messages.2.content")
    assert text == "a\n[image]\nno\n[audio]"
    assert losses == [
        Loss("messages.2.content.1", "placeholder"),
        Loss("messages.2.content.3", "placeholder"),
    ]


@given(PARTS)
def test_both_forms_agree_and_media_are_counted(parts: list[TextPart | RefusalPart | MediaPart]) -> None:
    text, losses = flatten_parts_with_losses(parts, "p")
    assert text == flatten_parts(parts)
    assert len(losses) == sum(isinstance(part, MediaPart) for part in parts)
