import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs.codec import (
    MAX_BATCH_BYTES,
    MAX_BATCH_FRAMES,
    DecodeProblem,
    decode_command,
    decode_record,
    decode_reply,
    encode,
    encode_record,
    split_batches,
)
from gateway.jobs.messages import (
    Accepted,
    Admin,
    Cancel,
    Command,
    Declined,
    Drain,
    Envelope,
    Finished,
    FrameBatch,
    Heartbeat,
    InstanceRecord,
    ModelInfo,
    Reply,
    Submit,
    ToolReply,
    WorkerRecord,
)

ENVELOPE = Envelope(turn_id="t", attempt=2, epoch=7, tenant="a", traceparent="00-x")

COMMANDS: list[Command] = [
    Submit(instance="inst-0", params=b"{}", upstream_request_id="r", deadline_ms=5),
    Cancel(reason="client_gone"),
    ToolReply(tool_call_id="c", name="n", approve=True, result={"a": [1, None]}),
    Admin(action="login_status"),
    Drain(),
]
REPLIES: list[Reply] = [
    Accepted(worker="w", instance="inst-0"),
    Declined(reason="not ready"),
    FrameBatch(seq_first=1, frames=[b"\x00\xff", b""]),
    Heartbeat(),
    Finished(outcome="failed", error_kind="upstream_eof", error="gone"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_survive_the_wire(command: Command) -> None:
    assert decode_command(encode(ENVELOPE, command)) == (ENVELOPE, command)


@pytest.mark.parametrize("reply", REPLIES)
def test_replies_survive_the_wire(reply: Reply) -> None:
    assert decode_reply(encode(ENVELOPE, reply)) == (ENVELOPE, reply)


def test_fields_of_a_later_release_are_ignored() -> None:
    data = msgspec.msgpack.encode(
        [
            {"v": 1, "turn_id": "t", "attempt": 1, "epoch": 1, "new": 1},
            {"type": "cancel", "reason": "x", "new": 2},
        ]
    )
    assert decode_command(data)[1] == Cancel(reason="x")


def problem_of(data: bytes) -> DecodeProblem:
    with pytest.raises(DecodeProblem) as caught:
        decode_command(data)
    return caught.value


def test_an_unknown_version_is_a_problem_with_its_turn() -> None:
    envelope = msgspec.structs.replace(ENVELOPE, v=2)
    found = problem_of(encode(envelope, Cancel(reason="x")))
    assert (found.reason, found.turn_id) == ("unknown_version", "t")


def test_an_unknown_message_is_a_problem_with_its_turn() -> None:
    data = msgspec.msgpack.encode([ENVELOPE, {"type": "dance"}])
    assert (problem_of(data).reason, problem_of(data).turn_id) == ("unknown_message", "t")


@given(st.binary(max_size=200))
def test_garbage_is_a_problem_and_nothing_else(data: bytes) -> None:
    for decode in (decode_command, decode_reply):
        with pytest.raises(DecodeProblem):
            decode(data)


@given(st.lists(st.binary(max_size=50), max_size=300), st.integers(1, 1000))
def test_batches_keep_every_frame_in_order_without_gaps(frames: list[bytes], first: int) -> None:
    batches = split_batches(first, frames)
    assert [frame for batch in batches for frame in batch.frames] == frames
    for batch in batches:
        assert batch.seq_first == first
        assert 1 <= len(batch.frames) <= MAX_BATCH_FRAMES
        first += len(batch.frames)


def test_a_batch_is_bounded_in_bytes_but_one_large_frame_still_travels() -> None:
    large = b"x" * (MAX_BATCH_BYTES + 1)
    half = b"y" * (MAX_BATCH_BYTES // 2)
    assert [len(b.frames) for b in split_batches(1, [half, half, half, large, half])] == [2, 1, 1, 1]


def test_records_survive_the_wire_and_foreign_ones_are_none() -> None:
    record = WorkerRecord(
        worker="w",
        epoch=3,
        software="1",
        beat_at_ms=9,
        instances=[
            InstanceRecord(
                name="inst-0",
                index=0,
                ready=True,
                state="ready",
                capacity=4,
                models=[ModelInfo(key="org_auto")],
            )
        ],
    )
    assert decode_record(encode_record(record)) == record
    assert decode_record(encode_record(msgspec.structs.replace(record, v=9))) is None
    assert decode_record(b"\xc1") is None
