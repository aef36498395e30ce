"""Any legal stream of events: what upstreams may say, in every order that the grammar allows.

Items say by their ends what their deltas said, or are said by their ends alone; what cannot hold for every
protocol alike (a text that is taken back) is in the gallery by name.
"""

from itertools import pairwise

from hypothesis import strategies as st

from gateway.kernel.errors import ErrorKind
from gateway.kernel.json import dumps
from gateway.turn.events import (
    AnnotationAdded,
    Heartbeat,
    ItemDone,
    ItemStarted,
    OpaqueEvent,
    ReasoningDelta,
    RefusalDelta,
    SignatureDelta,
    TextDelta,
    TurnCancelled,
    TurnCompleted,
    TurnEvent,
    UsageReported,
)
from gateway.turn.items import Message, RefusalPart, TextPart
from gateway.turn.usage import Usage
from tests.matrix.gallery import CITATION, Events, call, failed, opaque, reasoning

TOOLS = ("get_weather", "search")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
pieces = st.lists(texts, max_size=4)
arguments = st.one_of(
    st.just("{}"),
    st.just(""),
    st.dictionaries(texts, st.one_of(texts, st.integers(-5, 5), st.none()), max_size=3).map(
        lambda value: dumps(value).decode()
    ),
)
counts = st.one_of(st.none(), st.integers(0, 100_000))
usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cached_tokens=counts,
    reasoning_tokens=counts,
    estimated=st.booleans(),
)
noise = st.one_of(
    st.just(Heartbeat()),
    st.builds(UsageReported, usages),
    st.just(OpaqueEvent("lingma", "tool/call/sync", {"method": "tool/call/sync"})),
    st.just(OpaqueEvent("gemini", "groundingMetadata", {"webSearchQueries": ["x"]})),
)


@st.composite
def messages(draw: st.DrawFn, index: int) -> Events:
    said_by_deltas = draw(st.booleans())
    deltas: list[TurnEvent] = []
    parts: list[TextPart | RefusalPart] = []
    for number in range(draw(st.integers(0, 3))):
        said = draw(pieces)
        if draw(st.integers(0, 4)) == 0:
            deltas += [RefusalDelta(index, text, number) for text in said]
            parts.append(RefusalPart("".join(said)))
            continue
        deltas += [TextDelta(index, text, number) for text in said]
        cited = (CITATION,) if said_by_deltas and "".join(said) and draw(st.integers(0, 4)) == 0 else ()
        deltas += [AnnotationAdded(index, number, annotation) for annotation in cited]
        parts.append(TextPart("".join(said), cited))
    item = Message(role="assistant", parts=tuple(parts), id=f"msg_{index}")
    return [
        ItemStarted(index, "message", f"msg_{index}"),
        *(deltas if said_by_deltas else []),
        ItemDone(index, item),
    ]


@st.composite
def thoughts(draw: st.DrawFn, index: int) -> Events:
    """By one channel: which of two a client is shown depends on the protocol."""
    said_by_deltas = draw(st.booleans())
    signature = draw(st.one_of(st.none(), st.just("c2lnbmF0dXJl")))
    if draw(st.booleans()):
        said = draw(pieces)
        deltas = [ReasoningDelta(index, text) for text in said]
        events = reasoning(index, *deltas, text="".join(said), signature=signature)
    else:
        parts = draw(st.lists(pieces.filter(lambda said: any(said)), max_size=3))
        deltas = [
            ReasoningDelta(index, text, number, "summary")
            for number, said in enumerate(parts)
            for text in said
        ]
        summary = tuple("".join(said) for said in parts)
        events = reasoning(index, *deltas, summary=summary, signature=signature)
    if said_by_deltas:
        return events
    return [event for event in events if not isinstance(event, ReasoningDelta | SignatureDelta)]


@st.composite
def calls(draw: st.DrawFn, index: int) -> Events:
    text = draw(arguments)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    borders = [0, *cuts, len(text)]
    fragments = [text[start:end] for start, end in pairwise(borders)]
    return call(
        index,
        draw(st.sampled_from(TOOLS)),
        *(fragments if draw(st.booleans()) else ()),
        whole=text,
        named_at_start=draw(st.booleans()),
    )


def opaques(index: int) -> st.SearchStrategy[Events]:
    return st.sampled_from(
        [
            opaque(index, "gemini", "executableCode", {"executableCode": {"code": "1"}}),
            opaque(index, "chat", "from_the_future", {"x": 1}),
        ]
    )


ends = st.one_of(
    st.builds(
        TurnCompleted,
        st.sampled_from(["stop", "tool_calls", "length", "content_filter", "paused"]),
        st.one_of(st.none(), usages),
    ),
    st.builds(failed, st.sampled_from(ErrorKind), texts.filter(bool)),
    st.builds(TurnCancelled, st.sampled_from(["client_gone", "deadline", "drain", "admin"])),
)


@st.composite
def streams(draw: st.DrawFn) -> Events:
    """What follows TurnStarted."""
    events: Events = []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from([messages, thoughts, calls, messages, opaques]))
        events += draw(kind(index))
    events.append(draw(ends))
    out: Events = []
    for event in events:
        if draw(st.integers(0, 7)) == 0:
            out.append(draw(noise))
        out.append(event)
    return out
