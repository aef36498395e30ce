"""The load: conversations in every protocol, over Lingma and over codex, streamed and whole, until it is told
to stop; what began then still ends. A process of its own, on the host of the clients:

    python -m tests.rehearsal.load URL FILE     one record a line; SIGTERM ends it

A conversation that failed begins anew. Of a turn each client knows what the answer has to be.
"""

import asyncio
import re
import signal
import sys
import time
import uuid
from pathlib import Path

import msgspec

from tests.fakes.codex_server import PLAIN_MODEL, REASONING_MODEL
from tests.rehearsal.records import Outcome, Record
from tests.rehearsal.voices import VOICES, Clients, Heard, Question, said_by_the_gateway
from tests.support.dialects import DEFAULT_MODEL, Said

KINDS = frozenset(
    f"{upstream} {protocol} {way}"
    for upstream in ("lingma", "codex")
    for protocol in VOICES
    for way in ("stream", "whole")
)
TURNS = 8
"""Of a conversation."""
PAUSE_S = 0.4
"""Between two turns: people read."""
NUMBERS = (25, 60, 25, 220)
"""How far answers count; the last one goes on for some seconds."""
_REPORT = re.compile(r"turns=(\d+) isReply=(true|false)")


def words_of(upstream: str, name: str, turn: int) -> str:
    """What is asked. First something that no other conversation says; every other turn of Lingma's is about
    what was said before.
    """
    if turn == 1:
        return f"say {name}"
    if upstream == "lingma" and turn % 2 == 0:
        return "report"
    last = NUMBERS[(turn // 2) % len(NUMBERS)]
    return f"count from 1 to {last} slowly" if upstream == "lingma" else f"count from 1 to {last}"


def judge(words: str, turn: int, text: str) -> tuple[str, bool | None]:
    """What is wrong with an answer, and whether Lingma went on in its session."""
    if words == "report":
        found = _REPORT.search(text)
        if found is None or int(found[1]) != turn:
            return f"turn {turn} was answered {text[:200]!r}", None
        return "", found[2] == "true"
    if words.startswith("say "):
        return ("" if text == words[4:] else f"{words!r} gave {text[:200]!r}"), None
    last = int(words.split()[4])
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if numbers == list(range(1, last + 1)):
        return "", None
    return f"counting to {last} gave {text[:40]!r}...{text[-40:]!r}", None


class Conversation:
    """One after the other, on a connection pool of its own."""

    def __init__(self, url: str, kind: str) -> None:
        self._clients = Clients(url)
        self._kind = kind
        upstream, protocol, way = kind.split()
        self._upstream, self._protocol, self._stream = upstream, protocol, way == "stream"
        # Reasoning that a Claude client never sees comes back from the store.
        codex = REASONING_MODEL if protocol == "messages" else PLAIN_MODEL
        self._model = DEFAULT_MODEL if upstream == "lingma" else codex

    async def run(self, stop: asyncio.Event, keep: "Keeper") -> None:
        while not stop.is_set():
            name = str(uuid.uuid4())
            said: list[Said] = []
            for turn in range(1, TURNS + 1):
                words = words_of(self._upstream, name, turn)
                said.append(Said("user", words))
                record, text = await self._turn(name, turn, words, said)
                keep(record)
                await _pause(stop)
                if record.outcome != "ok" or stop.is_set():
                    break
                said.append(Said("assistant", text))
        await self._clients.aclose()

    async def _turn(self, name: str, turn: int, words: str, said: list[Said]) -> tuple[Record, str]:
        heard, began, before = Heard(), time.monotonic(), self._clients.retries
        outcome: Outcome = "ok"
        detail, reply = "", None
        try:
            question = Question(name, self._model, said, self._stream)
            await VOICES[self._protocol](self._clients, question, heard)
        except Exception as error:
            detail = f"{type(error).__name__}: {error}"[:500]
            if said_by_the_gateway(error):
                outcome = "told" if heard.begun else "refused"
            else:
                outcome = "cut" if heard.begun else "unreached"
        else:
            if heard.failed:
                outcome, detail = "told", heard.failed[:500]
            elif not heard.ended:
                outcome, detail = "cut", "the stream ended without its last event"
            else:
                detail, reply = judge(words, turn, heard.text)
                outcome = "wrong" if detail else "ok"
        record = Record(
            kind=self._kind,
            conversation=name,
            turn=turn,
            began=began,
            first_s=heard.first_at - began if heard.first_at else 0.0,
            whole_s=time.monotonic() - began,
            outcome=outcome,
            retries=self._clients.retries - before,
            detail=detail,
            reply=reply,
        )
        return record, heard.text


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(PAUSE_S):
            await stop.wait()
    except TimeoutError:
        return


class Keeper:
    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __call__(self, record: Record) -> None:
        self._file.write(msgspec.json.encode(record) + b"\n")


async def main(url: str, path: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    keep = Keeper(path)
    async with asyncio.TaskGroup() as group:
        for kind in sorted(KINDS):
            group.create_task(Conversation(url, kind).run(stop, keep))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
