"""The four client protocols as plain HTTP, small enough to say the same thing in each of them.

For tests that put one conversation through several protocols. The official SDKs are tested elsewhere.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import httpx2

from gateway.kernel.json import loads
from gateway.wire.sse import SseSplitter

DEFAULT_MODEL = "org_auto"
"""Lingma's."""


class Said(NamedTuple):
    role: Literal["system", "user", "assistant"]
    text: str


End = Literal["", "done", "error"]


class Spoken(Protocol):
    """One protocol: how a conversation is asked, and what an answer says."""

    name: str

    def request(
        self, said: Sequence[Said], *, stream: bool, model: str = DEFAULT_MODEL
    ) -> tuple[str, dict[str, Any]]:
        """Path and body."""
        ...

    def text(self, answer: Any) -> str:
        """Of an answer that was not streamed."""
        ...

    def event(self, data: str) -> tuple[str, End]:
        """New text, and how the stream ended if this event ended it."""
        ...


class Chat:
    name = "chat"

    def request(
        self, said: Sequence[Said], *, stream: bool, model: str = DEFAULT_MODEL
    ) -> tuple[str, dict[str, Any]]:
        messages = [{"role": role, "content": text} for role, text in said]
        return "/v1/chat/completions", {"model": model, "messages": messages, "stream": stream}

    def text(self, answer: Any) -> str:
        return str(answer["choices"][0]["message"]["content"])

    def event(self, data: str) -> tuple[str, End]:
        if data == "[DONE]":
            return "", "done"
        value: Any = loads(data.encode())
        if "error" in value:
            return "", "error"
        return "".join(choice["delta"].get("content") or "" for choice in value["choices"]), ""


class Messages:
    name = "messages"

    def request(
        self, said: Sequence[Said], *, stream: bool, model: str = DEFAULT_MODEL
    ) -> tuple[str, dict[str, Any]]:
        messages = [{"role": role, "content": text} for role, text in said if role != "system"]
        system = "\n".join(text for role, text in said if role == "system")
        body = {"model": model, "max_tokens": 4096, "messages": messages, "stream": stream}
        return "/v1/messages", body | ({"system": system} if system else {})

    def text(self, answer: Any) -> str:
        return "".join(block["text"] for block in answer["content"] if block["type"] == "text")

    def event(self, data: str) -> tuple[str, End]:
        value: Any = loads(data.encode())
        match value["type"]:
            case "content_block_delta" if value["delta"]["type"] == "text_delta":
                return value["delta"]["text"], ""
            case "message_stop":
                return "", "done"
            case "error":
                return "", "error"
            case _:
                return "", ""


class Responses:
    name = "responses"

    def request(
        self, said: Sequence[Said], *, stream: bool, model: str = DEFAULT_MODEL
    ) -> tuple[str, dict[str, Any]]:
        items = [
            {
                "type": "message",
                "role": role,
                "content": [{"type": "output_text" if role == "assistant" else "input_text", "text": text}],
            }
            for role, text in said
        ]
        return "/v1/responses", {"model": model, "input": items, "stream": stream}

    def text(self, answer: Any) -> str:
        messages = [item for item in answer["output"] if item["type"] == "message"]
        return "".join(part["text"] for item in messages for part in item["content"])

    def event(self, data: str) -> tuple[str, End]:
        if data == "[DONE]":
            return "", ""
        value: Any = loads(data.encode())
        match value["type"]:
            case "response.output_text.delta":
                return value["delta"], ""
            case "response.completed" | "response.incomplete":
                return "", "done"
            case "response.failed":
                return "", "error"
            case _:
                return "", ""


class Gemini:
    name = "gemini"

    def request(
        self, said: Sequence[Said], *, stream: bool, model: str = DEFAULT_MODEL
    ) -> tuple[str, dict[str, Any]]:
        contents = [
            {"role": "model" if role == "assistant" else "user", "parts": [{"text": text}]}
            for role, text in said
            if role != "system"
        ]
        system = [{"text": text} for role, text in said if role == "system"]
        body: dict[str, Any] = {"contents": contents}
        if system:
            body["systemInstruction"] = {"parts": system}
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/v1beta/models/{model}:{method}", body

    def text(self, answer: Any) -> str:
        parts = answer["candidates"][0]["content"]["parts"]
        return "".join(part.get("text", "") for part in parts if not part.get("thought"))

    def event(self, data: str) -> tuple[str, End]:
        value: Any = loads(data.encode())
        if "error" in value:
            return "", "error"
        text = ""
        end: End = ""
        for candidate in value.get("candidates", ()):
            text += self.text({"candidates": [{"content": {"parts": []}, **candidate}]})
            if candidate.get("finishReason"):
                end = "done"
        return text, end


SPOKEN: tuple[Spoken, ...] = (Chat(), Messages(), Responses(), Gemini())


class DialectStream:
    """One streamed answer, read in the background: its text so far, its events, and how it ended."""

    def __init__(
        self, client: httpx2.AsyncClient, spoken: Spoken, said: Sequence[Said], *, model: str = DEFAULT_MODEL
    ) -> None:
        self._client = client
        self.spoken = spoken
        self._path, self._body = spoken.request(said, stream=True, model=model)
        self.text = ""
        self.end: End = ""
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.refusal: Any = None
        """The body of an answer that is no stream."""
        self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        splitter = SseSplitter()
        async with self._client.stream("POST", self._path, json=self._body) as response:
            self.status, self.headers = response.status_code, response.headers
            if self.status != 200:
                self.refusal = loads(await response.aread())
                return
            async for chunk in response.aiter_raw():
                for event in splitter.feed(chunk):
                    if event.data is not None:
                        assert self.end == "" or event.data == b"[DONE]", "an event after the end"
                        text, end = self.spoken.event(event.data.decode())
                        self.text += text
                        self.end = end or self.end

    async def done(self, within_s: float = 60.0) -> "DialectStream":
        await asyncio.wait_for(self.task, within_s)
        return self


async def ask(
    client: httpx2.AsyncClient,
    spoken: Spoken,
    said: Sequence[Said],
    *,
    stream: bool,
    model: str = DEFAULT_MODEL,
) -> str:
    """The answer's text; fails unless it ended well."""
    if stream:
        streamed = await DialectStream(client, spoken, said, model=model).done()
        assert (streamed.status, streamed.end) == (200, "done")
        return streamed.text
    path, body = spoken.request(said, stream=False, model=model)
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    return spoken.text(response.json())
