"""The conversations one process remembers; with `persist` also over a restart of its work directory."""

import contextlib
import json
import time
import uuid
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_MOST = 4096
_TEXT_LIMIT = 20_000


class UnknownSession(LookupError):
    """A follow-up names a session this process does not have, and the knob says that is an error."""


@dataclass(slots=True)
class Record:
    request_id: str
    question: str
    answer: str = ""


@dataclass(slots=True)
class Session:
    id: str
    title: str = ""
    created_ms: int = 0
    modified_ms: int = 0
    session_type: str = "chat"
    users: list[str] = field(default_factory=list)
    """User messages of the conversation, those of an initial transcript included."""
    records: list[Record] = field(default_factory=list)
    """Asks answered in this process."""
    aliases: list[str] = field(default_factory=list)


class Sessions:
    """Sessions by id, least recently used ones forgotten beyond 4096."""

    def __init__(self, path: Path, *, load: bool) -> None:
        self._path = path
        self._by_id: OrderedDict[str, Session] = OrderedDict()
        self._current: Session | None = None
        if load:
            self._load()

    def begin(
        self, asked_id: str, *, is_reply: bool, users: tuple[str, ...], request_id: str, unknown: str
    ) -> Session:
        """Start a turn: a follow-up adds its message, anything else begins the conversation anew.

        Raises UnknownSession for a follow-up to an id not known when unknown is "error".
        """
        session = self._by_id.get(asked_id) if is_reply else None
        if session is None:
            session = self._fresh(asked_id, is_reply=is_reply, unknown=unknown)
        else:
            users = users[-1:]
        session.users.extend(said[:_TEXT_LIMIT] for said in users)
        session.records.append(Record(request_id, users[-1][:_TEXT_LIMIT]))
        session.modified_ms = _now_ms()
        for key in (session.id, *session.aliases):
            if key in self._by_id:
                self._by_id.move_to_end(key)
        self._current = session
        return session

    def _fresh(self, asked_id: str, *, is_reply: bool, unknown: str) -> Session:
        if is_reply and asked_id:
            if unknown == "error":
                raise UnknownSession(asked_id)
            session_id = asked_id if unknown == "silent" else str(uuid.uuid4())
        else:
            session_id = asked_id or str(uuid.uuid4())
        session = Session(id=session_id, created_ms=_now_ms())
        self.delete(session_id)
        self._by_id[session_id] = session
        while len(self._by_id) > _MOST:
            self.delete(next(iter(self._by_id)))
        return session

    def alias(self, session: Session, other_id: str) -> None:
        """Go on under the id that the finish reports; the one before stays known."""
        if other_id and self._by_id.get(other_id) is not session:
            self._by_id[other_id] = session
            session.aliases.append(session.id)
            session.id = other_id

    def get(self, session_id: str) -> Session | None:
        return self._by_id.get(session_id)

    def all(self) -> list[Session]:
        return [session for key, session in self._by_id.items() if key == session.id]

    @property
    def current(self) -> Session | None:
        """The session of the latest turn."""
        return self._current

    def delete(self, session_id: str) -> bool:
        session = self._by_id.pop(session_id, None)
        if session is None:
            return False
        for key in (session.id, *session.aliases):
            self._by_id.pop(key, None)
        return True

    def clear(self) -> None:
        self._by_id.clear()
        self._current = None

    def save(self) -> None:
        """Write all sessions, atomically."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text(json.dumps([asdict(session) for session in self.all()]))
        fresh.replace(self._path)

    def _load(self) -> None:
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            for stored in json.loads(self._path.read_text()):
                records = [Record(**record) for record in stored.pop("records")]
                session = Session(**stored, records=records)
                for key in (session.id, *session.aliases):
                    self._by_id[key] = session


def describe(session: Session) -> dict[str, Any]:
    """A session in the shape of chat/getSessionById."""
    return {
        "sessionId": session.id,
        "sessionTitle": session.title,
        "chatRecords": [
            {"requestId": record.request_id, "question": record.question, "answer": record.answer}
            for record in session.records
        ],
        "gmtCreate": session.created_ms,
        "gmtModified": session.modified_ms,
        "sessionType": session.session_type,
        "userId": "600100200300",
        "userName": "dev-17",
        "projectId": "",
        "projectUri": "",
        "projectName": "",
    }


def _now_ms() -> int:
    return int(time.time() * 1000)
