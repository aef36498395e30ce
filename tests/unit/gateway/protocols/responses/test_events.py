from gateway.protocols.responses.events import DONE, EventWriter


def test_events_are_named_and_numbered_from_0() -> None:
    writer = EventWriter()
    writer.event("response.x", {"a": 1})
    writer.prepared(b'event: y\ndata: {"n":', b',"delta":', b'"t"', b"}\n\n")
    assert writer.take() == (
        b'event: response.x\ndata: {"type":"response.x","sequence_number":0,"a":1}\n\n'
        b'event: y\ndata: {"n":1,"delta":"t"}\n\n'
    )
    assert writer.take() == b""


def test_a_resumed_stream_leaves_out_what_the_client_has() -> None:
    writer = EventWriter(starting_after=0)
    writer.event("x", {})
    writer.event("x", {})
    writer.prepared(b"<", b"", b"", b">")
    writer.done()
    assert writer.take() == b'event: x\ndata: {"type":"x","sequence_number":1}\n\n<2>' + DONE


def test_a_keep_alive_repeats_the_last_number() -> None:
    writer = EventWriter()
    writer.event("x", {})
    writer.event("x", {})
    writer.take()
    writer.keepalive()
    assert writer.take() == b'event: keepalive\ndata: {"type":"keepalive","sequence_number":1}\n\n'
    writer.event("x", {})
    assert b'"sequence_number":2' in writer.take()


def test_the_end_is_not_numbered() -> None:
    writer = EventWriter(starting_after=99)
    writer.done()
    assert writer.take() == b"data: [DONE]\n\n"
