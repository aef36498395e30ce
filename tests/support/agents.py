"""Stateless coding agents, one for each client protocol: they keep words and calls, and forget reasoning.

Every next turn asks another replica, as behind a load balancer, and every second pair of turns is streamed.
An agent whose turn fails raises what its SDK raises, or Refused; none of them tries anything twice.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import httpx2
from anthropic import AsyncAnthropic

from gateway.kernel.json import dumps, loads
from gateway.wire.sse import SseSplitter

TOOL = "look"
SCHEMA = {"type": "object", "properties": {"step": {"type": "integer"}}, "required": ["step"]}
DESCRIPTION = "Look into one step"


class Called(NamedTuple):
    id: str
    name: str
    arguments: dict[str, Any]


class Answered(NamedTuple):
    text: str
    calls: tuple[Called, ...] = ()
    reasoned: bool = False
    """Whether the protocol showed reasoning, which was then forgotten."""


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, body: Any, headers: Any = None) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.headers = headers


class Agent(Protocol):
    name: str

    async def say(self, text: str) -> Answered: ...

    async def give(self, results: Sequence[str]) -> Answered:
        """The results of the calls of the last answer, in their order."""
        ...

    def use_key(self, key: str) -> None:
        """From now on."""
        ...

    async def aclose(self) -> None: ...


class ClaudeAgent:
    """The official SDK, with the metadata that Claude Code sends."""

    name = "messages"

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        *,
        session: str = "",
        key: str = "any",
        keeps_reasoning: bool = False,
    ) -> None:
        self._keeps = keeps_reasoning
        self._clients = [AsyncAnthropic(base_url=url, api_key=key, max_retries=0, timeout=60) for url in urls]
        self._model = model
        self._user_id = f"user_0a1b_account__session_{session}"
        self._messages: list[Any] = []
        self._calls: tuple[Called, ...] = ()
        self.turns = 0

    async def say(self, text: str) -> Answered:
        return await self._ask([{"type": "text", "text": text}])

    async def give(self, results: Sequence[str]) -> Answered:
        return await self._ask(
            [
                {"type": "tool_result", "tool_use_id": call.id, "content": result}
                for call, result in zip(self._calls, results, strict=True)
            ]
        )

    async def _ask(self, content: list[Any]) -> Answered:
        client = self._clients[self.turns % len(self._clients)]
        stream = self.turns // 2 % 2 == 0
        messages = [*self._messages, {"role": "user", "content": content}]
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": 4096,
            "messages": messages,
            "tools": [{"name": TOOL, "description": DESCRIPTION, "input_schema": SCHEMA}],
            "metadata": {"user_id": self._user_id},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }
        if stream:
            async with client.messages.stream(**body) as events:
                answer: Any = await events.get_final_message()
        else:
            answer = await client.messages.create(**body)
        kept = [block for block in answer.content if block.type not in ("thinking", "redacted_thinking")]
        given_back = answer.content if self._keeps else kept
        self._messages = [*messages, {"role": "assistant", "content": given_back}]
        self._calls = tuple(Called(b.id, b.name, b.input) for b in kept if b.type == "tool_use")
        self.turns += 1
        text = "".join(block.text for block in kept if block.type == "text")
        return Answered(text, self._calls, len(kept) < len(answer.content))

    def use_key(self, key: str) -> None:
        for client in self._clients:
            client.api_key = key

    async def aclose(self) -> None:
        for client in self._clients:
            await client.close()


class _HttpAgent:
    """Plain HTTP, for protocols whose SDKs would only hide what is sent."""

    def __init__(self, urls: Sequence[str], model: str, *, session: str = "", key: str = "any") -> None:
        """session: what the client calls it, if anything."""
        headers = {**self._auth(key), **({"session-id": session} if session else {})}
        self._clients = [
            httpx2.AsyncClient(base_url=url, timeout=60, headers=headers, verify=False) for url in urls
        ]
        self._model = model
        self._history: list[Any] = []
        self._calls: tuple[Called, ...] = ()
        self.turns = 0

    def _auth(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}

    async def _post(self, path: str, body: dict[str, Any], *, stream: bool) -> list[Any]:
        """The JSON of the answer, or of its events."""
        client = self._clients[self.turns % len(self._clients)]
        response = await client.post(path, json=body)
        if response.status_code != 200:
            raise Refused(response.status_code, response.json(), response.headers)
        if not stream:
            return [response.json()]
        events = SseSplitter().feed(response.content)
        values = [loads(event.data) for event in events if event.data not in (None, b"[DONE]")]
        for value in values:
            if isinstance(value, dict) and value.get("error"):
                raise Refused(200, value)
        return values

    @property
    def _streams(self) -> bool:
        return self.turns // 2 % 2 == 0

    def _answered(self, text: str, calls: Sequence[Called], reasoned: bool) -> Answered:
        self._calls = tuple(calls)
        self.turns += 1
        return Answered(text, self._calls, reasoned)

    def use_key(self, key: str) -> None:
        for client in self._clients:
            client.headers.update(self._auth(key))

    async def aclose(self) -> None:
        for client in self._clients:
            await client.aclose()


class ChatAgent(_HttpAgent):
    name = "chat"

    async def say(self, text: str) -> Answered:
        return await self._ask([{"role": "user", "content": text}])

    async def give(self, results: Sequence[str]) -> Answered:
        return await self._ask(
            [
                {"role": "tool", "tool_call_id": call.id, "content": result}
                for call, result in zip(self._calls, results, strict=True)
            ]
        )

    async def _ask(self, new: list[Any]) -> Answered:
        messages = [*self._history, *new]
        function = {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}
        body = {
            "model": self._model,
            "messages": messages,
            "stream": self._streams,
            "tools": [{"type": "function", "function": function}],
        }
        values = await self._post("/v1/chat/completions", body, stream=self._streams)
        said = [
            value["choices"][0].get("delta") or value["choices"][0].get("message") or {}
            for value in values
            if value["choices"]
        ]
        text = "".join(one.get("content") or "" for one in said)
        calls: dict[int, dict[str, str]] = {}
        for one in said:
            for index, call in enumerate(one.get("tool_calls") or ()):
                known = calls.setdefault(call.get("index", index), {"id": "", "name": "", "arguments": ""})
                known["id"] += call.get("id") or ""
                known["name"] += call["function"].get("name") or ""
                known["arguments"] += call["function"].get("arguments") or ""
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in calls.values()
            ]
        self._history = [*messages, message]
        found = [_called(call["id"], call["name"], call["arguments"]) for call in calls.values()]
        return self._answered(text, found, any(one.get("reasoning_content") for one in said))


class GeminiAgent(_HttpAgent):
    name = "gemini"

    def _auth(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    async def say(self, text: str) -> Answered:
        return await self._ask([{"text": text}])

    async def give(self, results: Sequence[str]) -> Answered:
        return await self._ask(
            [
                {
                    "functionResponse": {
                        **({"id": call.id} if call.id else {}),
                        "name": call.name,
                        "response": {"output": result},
                    }
                }
                for call, result in zip(self._calls, results, strict=True)
            ]
        )

    async def _ask(self, parts: list[Any]) -> Answered:
        contents = [*self._history, {"role": "user", "parts": parts}]
        body = {
            "contents": contents,
            "tools": [
                {"functionDeclarations": [{"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}]}
            ],
            "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
        }
        method = "streamGenerateContent?alt=sse" if self._streams else "generateContent"
        values = await self._post(f"/v1beta/models/{self._model}:{method}", body, stream=self._streams)
        given = [
            part
            for value in values
            for candidate in value.get("candidates", ())
            for part in candidate.get("content", {}).get("parts", ())
        ]
        kept = [
            {name: value for name, value in part.items() if name != "thoughtSignature"}
            for part in given
            if not part.get("thought") and (part.get("text") or "functionCall" in part)
        ]
        text = "".join(part.get("text", "") for part in kept)
        calls = [part["functionCall"] for part in kept if "functionCall" in part]
        joined = [{"text": text}] if text else []
        joined += [part for part in kept if "functionCall" in part]
        self._history = [*contents, {"role": "model", "parts": joined}]
        found = [Called(call.get("id", ""), call["name"], call.get("args", {})) for call in calls]
        return self._answered(text, found, any(part.get("thought") for part in given))


class ResponsesAgent(_HttpAgent):
    """One that keeps no reasoning items, though its protocol could."""

    name = "responses"

    async def say(self, text: str) -> Answered:
        content = [{"type": "input_text", "text": text}]
        return await self._ask([{"type": "message", "role": "user", "content": content}])

    async def give(self, results: Sequence[str]) -> Answered:
        return await self._ask(
            [
                {"type": "function_call_output", "call_id": call.id, "output": result}
                for call, result in zip(self._calls, results, strict=True)
            ]
        )

    async def _ask(self, new: list[Any]) -> Answered:
        items = [*self._history, *new]
        tool = {"type": "function", "name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA}
        body = {
            "model": self._model,
            "input": items,
            "stream": self._streams,
            "store": False,
            "tools": [{**tool, "strict": False}],
        }
        values = await self._post("/v1/responses", body, stream=self._streams)
        response = values[-1]["response"] if self._streams else values[-1]
        if response["status"] != "completed":
            raise Refused(200, response)
        kept = [item for item in response["output"] if item["type"] != "reasoning"]
        self._history = [*items, *kept]
        parts = [part for item in kept if item["type"] == "message" for part in item["content"]]
        found = [
            _called(item["call_id"], item["name"], item["arguments"])
            for item in kept
            if item["type"] == "function_call"
        ]
        text = "".join(part["text"] for part in parts)
        return self._answered(text, found, len(kept) < len(response["output"]))


def _called(call_id: str, name: str, arguments: str) -> Called:
    value = loads(arguments.encode())
    assert isinstance(value, dict), dumps(value)
    return Called(call_id, name, value)
