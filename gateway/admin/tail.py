"""`lingma-gateway turns tail`: what the store holds of one turn, and what is added until the turn ends.

Shows what happened and when, not what was said: frames are told by their number and size unless asked for.
"""

import asyncio
from collections.abc import AsyncIterator

from gateway.jobs.codec import DecodeProblem, decode_reply
from gateway.jobs.messages import (
    Accepted,
    Declined,
    Envelope,
    Finished,
    FrameBatch,
    Heartbeat,
    Reply,
)
from gateway.kernel.errors import InvalidRequest
from gateway.store.backends import Stores
from gateway.store.streams import START

POLL_S = 0.2


async def tail(stores: Stores, turn_id: str, *, bodies: bool = False) -> AsyncIterator[str]:
    """Lines for an operator, until the turn has ended. Raises InvalidRequest for a turn nobody knows."""
    record = await stores.turns.get(turn_id)
    if record is None:
        raise InvalidRequest(f"there is no turn {turn_id[:64]!r} in the store; it may have expired")
    yield f"turn {turn_id} tenant={record.tenant} state={record.state} attempt={record.attempt}"
    key, position = stores.keys.frames(turn_id), START
    while True:
        record = await stores.turns.get(turn_id)
        entries = await stores.streams.range(key, after=position)
        for entry_id, payload in entries:
            position = entry_id
            try:
                envelope, reply = decode_reply(payload)
            except DecodeProblem as problem:
                yield f"? {problem.reason}"
                continue
            for line in _lines(envelope, reply, bodies=bodies):
                yield line
        if record is None or (record.state.ended and not entries):
            yield f"ended {record.state if record else 'and expired'}"
            return
        await asyncio.sleep(POLL_S)


def _lines(envelope: Envelope, reply: Reply, *, bodies: bool) -> list[str]:
    head = f"{envelope.sent_at_ms} attempt={envelope.attempt}"
    match reply:
        case Accepted():
            return [f"{head} accepted by {reply.worker}/{reply.instance}"]
        case Declined():
            return [f"{head} declined: {reply.reason}"]
        case Heartbeat():
            return [f"{head} heartbeat"]
        case Finished():
            said = f" {reply.error_kind}: {reply.error}" if reply.error_kind else ""
            return [f"{head} finished {reply.outcome} last_seq={reply.last_seq}{said}"]
        case FrameBatch():
            if not bodies:
                last = reply.seq_first + len(reply.frames) - 1
                size = sum(map(len, reply.frames))
                return [f"{head} frames {reply.seq_first}..{last} {size} bytes"]
            return [
                f"{head} frame {number} {frame.decode(errors='replace')}"
                for number, frame in enumerate(reply.frames, reply.seq_first)
            ]
