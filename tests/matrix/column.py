"""What a column of the matrix is: one client protocol in one form, read as its official SDK reads it.

A Column makes the turns of its protocol, and reads answers back: strictly (every event must be a valid object
of the SDK's types, without fields that nobody knows) and whole (what the client has in hand at the end).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from pydantic import BaseModel

from gateway.kernel.ids import TurnId
from gateway.kernel.json import Json, JsonObject
from gateway.protocols.answers import ClientProtocol
from gateway.protocols.bodies import TurnContext
from gateway.turn.losses import Loss
from gateway.turn.ports import Encoder
from gateway.turn.request import Turn
from tests.matrix.gallery import Offer

TURN_ID = TurnId("01k9matrix0000000000000000")
CREATED_AT_MS = 1_790_000_000_000
MODEL = "org_auto"
SCHEMA: JsonObject = {"type": "object", "properties": {"q": {"type": "string"}}}


class Folded(NamedTuple):
    """What a client has at the end: an answer, or the error that ended it."""

    answer: JsonObject | None = None
    error: JsonObject | None = None


Apart: TypeAlias = Mapping[str, str]


class Column(Protocol):
    name: str
    suffix: str
    """Of its snapshots."""

    @property
    def protocol(self) -> ClientProtocol: ...

    custom_tools: bool
    """Whether its clients can offer them."""
    resumable: bool
    """Whether its streams can go on where a client lost them."""
    takes_back: bool
    """Whether its streams can say that a text is another one than they said."""
    apart: Apart
    """Scenarios whose stream reads otherwise than the whole answer, each with the reason."""

    def turn(self, offers: Sequence[Offer] = (), *, stream: bool = True, resumable: bool = False) -> Turn:
        """A turn as the protocol's own parser makes it, offering these tools."""
        ...

    def read(self, data: bytes, *, rewritten: bool = False) -> Folded:
        """A whole stream. Raises when the SDK could not, or when an event is not of its types.

        rewritten: texts may end as something else than what their deltas added up to.
        """
        ...

    def read_whole(self, turn: Turn, body: bytes) -> JsonObject:
        """An answer that was not streamed, in the form that read() gives."""
        ...

    def read_error(self, body: bytes) -> JsonObject:
        """The body of an error that came instead of an answer, in the form that read() gives."""
        ...

    def resumed(self, turn: Turn, losses: list[Loss], after: int) -> Encoder:
        """The encoder for a client that has the first `after` events."""
        ...

    def events(self, data: bytes) -> list[bytes]:
        """A whole stream cut into what `after` counts."""
        ...


def context(*, resumable: bool = False, **more: Any) -> TurnContext:
    return TurnContext(id=TURN_ID, tenant="tenant", created_at_ms=CREATED_AT_MS, resumable=resumable, **more)


def strict(model: type[BaseModel], value: Json, known: Callable[[str], bool] = lambda _: False) -> None:
    """Raise unless the value is a complete object of the SDK's type.

    Fields that the type does not have are refused unless `known` says that they are ours.
    """
    strange = {path for path in unknown_fields(model.model_validate(value)) if not known(path)}
    assert not strange, f"fields that {model.__name__} does not have: {sorted(strange)}"


def unknown_fields(value: object, path: str = "") -> set[str]:
    """Paths of fields below an object of an SDK that its types do not have; indices are left out."""
    found: set[str] = set()
    if isinstance(value, BaseModel):
        found |= {f"{path}{name}" for name in value.model_extra or ()}
        for name in type(value).model_fields:
            found |= unknown_fields(getattr(value, name), f"{path}{name}.")
    elif isinstance(value, list | tuple):
        for item in value:
            found |= unknown_fields(item, path)
    elif isinstance(value, dict):
        for item in value.values():
            found |= unknown_fields(item, path)
    return found
