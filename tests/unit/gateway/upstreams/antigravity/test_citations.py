from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.upstreams.antigravity.citations import MAX_ANNOTATIONS, _Text, annotations

TEXT = "灵码 is an assistant. It is fast."


def web(uri: str, title: str = "") -> Any:
    return {"web": {"uri": uri, "title": title}}


def support(text: str, *indices: int, start: int | None = None, end: int | None = None) -> Any:
    segment = {"text": text, "startIndex": start, "endIndex": end}
    return {
        "segment": {name: value for name, value in segment.items() if value is not None},
        "groundingChunkIndices": list(indices),
    }


def places(found: list[Any]) -> list[tuple[str, str]]:
    return [(one["url"], TEXT[one["start_index"] : one["end_index"]]) for one in found]


def test_places_are_counted_in_bytes() -> None:
    grounding = {
        "groundingChunks": [web("https://a.example", "A"), web("https://b.example")],
        "groundingSupports": [
            support("灵码", 0, end=6),
            support(
                "It is fast.", 0, 1, start=len("灵码 is an assistant. ".encode()), end=len(TEXT.encode())
            ),
        ],
    }
    found = annotations(TEXT, grounding, None)
    assert places(found) == [
        ("https://a.example", "灵码"),
        ("https://a.example", "It is fast."),
        ("https://b.example", "It is fast."),
    ]
    assert found[0] == {
        "type": "url_citation",
        "url": "https://a.example",
        "title": "A",
        "start_index": 0,
        "end_index": 2,
    }
    assert found[2]["title"] == "https://b.example"


def test_a_place_that_does_not_fit_is_looked_for() -> None:
    grounding = {
        "groundingChunks": [web("https://a.example")],
        "groundingSupports": [support("fast", 0, start=1, end=5)],
    }
    assert places(annotations(TEXT, grounding, None)) == [("https://a.example", "fast")]
    grounding["groundingSupports"] = [support("not there", 0, start=900, end=901)]
    assert places(annotations(TEXT, grounding, None)) == [("https://a.example", TEXT)]


def test_sources_that_support_nothing_are_named() -> None:
    grounding = {"groundingChunks": [web("https://a.example"), {"retrievedContext": {"uri": "gs://b"}}, {}]}
    assert places(annotations(TEXT, grounding, None)) == [("https://a.example", ""), ("gs://b", "")]


def test_what_is_repeated_is_cited() -> None:
    citations = {
        "citations": [{"startIndex": 0, "endIndex": 6, "uri": "https://a.example"}, {"startIndex": 3}],
        "citationSources": [{"endIndex": 6, "uri": "https://b.example"}],
    }
    assert places(annotations(TEXT, None, citations)) == [
        ("https://a.example", "灵码"),
        ("https://b.example", "灵码"),
    ]


def test_odd_metadata_says_nothing() -> None:
    odd: list[Any] = [None, [], 3, {"groundingChunks": 3}, {"groundingChunks": [None, {"web": {"uri": ""}}]}]
    odd.append({"groundingChunks": [web("x")], "groundingSupports": [{"groundingChunkIndices": ["a", 7]}]})
    for metadata in odd[:-1]:
        assert annotations(TEXT, metadata, metadata) == []
    assert len(annotations(TEXT, odd[-1], None)) == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.integers(0, 20_000))
def test_places_in_long_texts_are_those_of_decoding(text: str, size: int) -> None:
    long = text * 120
    assert _Text(long).characters(size) == len(long.encode()[:size].decode("utf-8", "ignore"))


def test_annotations_are_bounded() -> None:
    sources = [{"web": {"uri": f"https://{n}.example"}} for n in range(2 * MAX_ANNOTATIONS)]
    assert len(annotations("text", {"groundingChunks": sources}, None)) == MAX_ANNOTATIONS
