"""What a turn of 200 events is asked and answered with in each client protocol, for the benches."""

from collections.abc import Callable
from typing import NamedTuple

from gateway.kernel.ids import new_turn_id
from gateway.kernel.json import JsonObject, dumps
from gateway.protocols.answers import ClientProtocol
from gateway.protocols.bodies import TurnContext
from gateway.protocols.chat.parse import parse_chat
from gateway.protocols.chat.routes import CHAT
from gateway.protocols.gemini.parse import parse_generate
from gateway.protocols.gemini.routes import GEMINI
from gateway.protocols.messages.parse import parse_messages
from gateway.protocols.messages.routes import MESSAGES
from gateway.protocols.responses.parse import parse_responses
from gateway.protocols.responses.routes import Responses
from gateway.turn.request import Turn

PROMPT = "say something"


class Dialect(NamedTuple):
    name: str
    path: Callable[[int], str]
    """Of a turn whose events wait in groups of that size; the model's name says it."""
    body: Callable[[int], JsonObject]
    parse: Callable[[bytes, TurnContext], Turn]
    protocol: ClientProtocol
    delta: str
    """Stands once in every event with text and in no other."""
    end: str
    """Stands among the last bytes of a stream that ended well."""

    def request(self, burst: int) -> str:
        return dumps(self.body(burst)).decode()

    def turn(self, burst: int) -> Turn:
        path = self.path(burst)
        context = TurnContext(
            id=new_turn_id(1_790_000_000_000),
            tenant="-",
            created_at_ms=1_790_000_000_000,
            path_params={"model": path.rpartition("/")[2].partition(":")[0]},
        )
        return self.parse(self.request(burst).encode(), context)


def _chat(burst: int) -> JsonObject:
    return {"model": f"burst-{burst}", "stream": True, "messages": [{"role": "user", "content": PROMPT}]}


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "chat",
            lambda burst: "/v1/chat/completions",
            _chat,
            parse_chat,
            CHAT,
            '"delta":{"content":"',
            "data: [DONE]\n\n",
        ),
        Dialect(
            "responses",
            lambda burst: "/v1/responses",
            lambda burst: {"model": f"burst-{burst}", "stream": True, "input": PROMPT},
            parse_responses,
            Responses(),
            'data: {"type":"response.output_text.delta"',
            "data: [DONE]\n\n",
        ),
        Dialect(
            "messages",
            lambda burst: "/v1/messages",
            lambda burst: {**_chat(burst), "max_tokens": 1000},
            parse_messages,
            MESSAGES,
            '"type":"text_delta"',
            '"type":"message_stop"',
        ),
        Dialect(
            "gemini",
            lambda burst: f"/v1beta/models/burst-{burst}:streamGenerateContent?alt=sse",
            lambda burst: {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]},
            parse_generate,
            GEMINI,
            '"parts":[{"text":" lorem',
            '"finishReason":"STOP"',
        ),
    )
}
