"""Messages to msgpack and back: `[envelope, message]`. Versioned; what cannot be read is a DecodeProblem.

The caller of `decode_*` acknowledges and sets aside a problem; it never crashes on one.
"""

from typing import TypeAlias

import msgspec

from gateway.jobs.messages import PROTOCOL_VERSION, Command, Envelope, FrameBatch, Reply, WorkerRecord

MAX_BATCH_FRAMES = 64
MAX_BATCH_BYTES = 256 * 1024

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(tuple[Envelope, Command])
_replies = msgspec.msgpack.Decoder(tuple[Envelope, Reply])
_versions = msgspec.msgpack.Decoder(tuple[Envelope, msgspec.Raw])
_records = msgspec.msgpack.Decoder(WorkerRecord)

CommandMessage: TypeAlias = tuple[Envelope, Command]
ReplyMessage: TypeAlias = tuple[Envelope, Reply]


class DecodeProblem(Exception):
    """Bytes that are no message of ours: `reason` for the dead letter, `turn_id` where it could be read."""

    def __init__(self, reason: str, turn_id: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.turn_id = turn_id


def encode(envelope: Envelope, message: Command | Reply) -> bytes:
    return _encoder.encode((envelope, message))


def decode_command(data: bytes) -> CommandMessage:
    """Raises DecodeProblem."""
    try:
        message = _commands.decode(data)
    except msgspec.DecodeError as error:
        raise _problem(data) from error
    if message[0].v != PROTOCOL_VERSION:
        raise DecodeProblem("unknown_version", message[0].turn_id)
    return message


def decode_reply(data: bytes) -> ReplyMessage:
    """Raises DecodeProblem."""
    try:
        message = _replies.decode(data)
    except msgspec.DecodeError as error:
        raise _problem(data) from error
    if message[0].v != PROTOCOL_VERSION:
        raise DecodeProblem("unknown_version", message[0].turn_id)
    return message


def encode_record(record: WorkerRecord) -> bytes:
    return _encoder.encode(record)


def decode_record(data: bytes) -> WorkerRecord | None:
    """None for a record of a version that this process does not know."""
    try:
        record = _records.decode(data)
    except msgspec.DecodeError:
        return None
    return record if record.v == PROTOCOL_VERSION else None


def split_batches(seq_first: int, frames: list[bytes]) -> list[FrameBatch]:
    """Cut waiting frames into entries of at most MAX_BATCH_FRAMES frames and MAX_BATCH_BYTES."""
    batches: list[FrameBatch] = []
    current: list[bytes] = []
    size = 0
    for frame in frames:
        if current and (len(current) == MAX_BATCH_FRAMES or size + len(frame) > MAX_BATCH_BYTES):
            batches.append(FrameBatch(seq_first=seq_first, frames=current))
            seq_first += len(current)
            current, size = [], 0
        current.append(frame)
        size += len(frame)
    if current:
        batches.append(FrameBatch(seq_first=seq_first, frames=current))
    return batches


def _problem(data: bytes) -> DecodeProblem:
    """Say whether the version, the kind of message or the bytes themselves are foreign."""
    try:
        envelope, _ = _versions.decode(data)
    except msgspec.DecodeError:
        return DecodeProblem("undecodable")
    if envelope.v != PROTOCOL_VERSION:
        return DecodeProblem("unknown_version", envelope.turn_id)
    return DecodeProblem("unknown_message", envelope.turn_id)
