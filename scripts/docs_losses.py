"""The page of losses: every reason in the source, with what it means. Used by render_docs.py.

A reason that the source has and MEANING has not is shown without a meaning; the house test asks for it.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

INTRO = """
What a request asked for and could not get is a *loss*: the turn goes on without it, and the answer says so
in its header `x-gateway-losses`, as `place:reason` with commas between, such as
`max_output_tokens:unsupported, messages.2.content.1:placeholder`. There is no header when nothing was lost,
and none over a WebSocket.
What is longer than 1,024 bytes ends in `and 3 more`. A stream's header tells what was known when it began;
what was left out of the answer itself (`not-in-…`, `only-one-…`, `cut-short` and the like) is known later
and stands, with all others, in the attribute `gateway.losses` of the attempt's span.
"""
PLACES = """
A place is a field of the request. What the client's own protocol lost has the name that the client gave it
(`generationConfig.responseModalities`, `system.0`); what an upstream cannot do has the gateway's name for
it, the same for all protocols: `max_output_tokens`, `temperature`, `top_p`, `top_k`, `stop`, `seed`,
`presence_penalty`, `frequency_penalty`, `response_format` or `output_format`, `reasoning` with its `_effort`
and `_budget`, `tools`, `tools.<name>`, `tool_choice`, `messages.<n>` for the n-th entry of the conversation,
counted from 0, and `model`. A loss of the answer names what was left out: a kind of item or event,
`annotation`, `signature`, `tool_call.<name>`.
"""
STRICT = """
Nothing is lost that would change what a request means: that is an error (400). To refuse a model that is
not there instead of being served by another one, set `MODEL_FALLBACK=strict`.
"""

MEANING = {
    "as-text": "code, or what running it gave, of an earlier turn went to the model as text",
    "asked-in-prompt": "JSON was asked for in the prompt; nothing holds the model to it or to the schema",
    "billing-marker": "a line for Anthropic's accounting at the head of the system prompt was cut off",
    "calls-not-returned": "Lingma was told of the tools, but its calls do not come back as calls",
    "cut-short": "a tool call that the length limit cut in the middle was left out",
    "encrypted": "what only its own vendor can open was left out of the conversation",
    "foreign-compaction": "somebody else's compacted conversation: the model is told that context is gone",
    "hosted-elsewhere": "a tool that a vendor runs itself, such as web search, was not offered",
    "media-in-an-answer": "an image, audio or file in an earlier answer of the assistant was left out",
    "more-than-…": "so many are taken, the others were left out",
    "not-base64": "a signature that the protocol has no form for was left out of the answer",
    "not-beside-tools": "the model cannot be held to JSON while it is offered tools; the tools won",
    "not-forwarded": "by `TOOL_MODE`, `TOOL_FORWARD_ENABLED` or `TOOL_ALLOWLIST` no tools were offered",
    "not-in-chat": "part of the answer has no form in Chat Completions and was left out",
    "not-in-gemini": "part of the answer has no form in Gemini and was left out",
    "not-in-gemini-…": "an entry of that kind has no form in Gemini and did not reach the upstream",
    "not-in-messages": "part of the answer has no form in Messages and was left out",
    "not-in-responses": "part of the answer has no form in Responses and was left out",
    "not-in-responses-…": "an entry of that kind has no form in Responses and did not reach the upstream",
    "not-stored": "`store: true` was asked for; answers are not kept",
    "only-one-in-chat": "a client that sends `functions` knows one call an answer; others were left out",
    "placeholder": "an image, audio or file became `[image]` and the like; the model never saw it",
    "prefill-not-continued": "the last message is the assistant's: it is answered, not continued",
    "raised-to-…": "a limit below what the upstream takes was raised to it",
    "run-by-upstream": "a tool that the upstream ran itself has no form in Gemini and was left out",
    "served-by-…": "nothing maps the name; that model answered (`MODEL_FALLBACK=default`)",
    "unknown-block": "a block of unknown type in the conversation did not reach the model",
    "unknown-item": "an item of unknown type in the conversation; only text in it reached the model",
    "unknown-member": "a field that nothing here knows, beside others; what it holds did not reach the model",
    "unknown-part": "a piece of content of unknown type; only an upstream of the same dialect gets it",
    "unsupported": "the setting was ignored",
}


def told_by() -> dict[str, set[str]]:
    """Every reason in the source, by who tells it: a protocol, an upstream, routing."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sorted(ROOT.glob("gateway/**/*.py")):
        parts = path.relative_to(ROOT / "gateway").parts
        teller = parts[1] if parts[0] in ("protocols", "upstreams") else parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for reason in _reasons(node):
                found[reason].add(_TELLERS.get(teller, teller))
    return dict(found)


_TELLERS = {
    "chat": "Chat",
    "responses": "Responses",
    "openai": "Chat, Responses",
    "messages": "Messages",
    "gemini": "Gemini",
    "lingma": "*Lingma*",
    "codex": "*codex*",
    "antigravity": "*antigravity*",
    "turn": "*Lingma*",  # flattening, which no other upstream needs
    "engine": "routing",
}


def _reasons(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id="Loss") | ast.Attribute(attr="_lose"), args=[_, reason, *detail]):
            yield from (f"{text}-…" if detail else text for text in _texts(reason))


def _texts(value: ast.expr) -> Iterator[str]:
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from _texts(one)
            yield from _texts(other)
        case ast.JoinedStr():
            yield ast.unparse(value)  # it would be counted by what it is put together of: MEANING has no such


def losses_page(intro: list[str], places: list[str], strict: list[str]) -> str:
    lines = ["# Losses", "", *intro, "", *places, "", *strict, ""]
    lines += ["| reason | told by (*upstreams* in italics) | meaning |", "|---|---|---|"]
    for reason, tellers in sorted(told_by().items()):
        lines.append(f"| `{reason}` | {', '.join(sorted(tellers))} | {MEANING.get(reason, '')} |")
    return "\n".join(lines) + "\n"
