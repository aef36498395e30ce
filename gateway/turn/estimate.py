"""What a turn costs to read, counted where no upstream says it. Pure.

Called by the endpoints that count tokens and by upstreams that report no usage, so that both say the same.
"""

from gateway.kernel.json import dumps
from gateway.turn.flatten import flatten_parts
from gateway.turn.items import Item, Message, OpaqueItem, Reasoning, ToolCall, ToolResult
from gateway.turn.request import Turn
from gateway.turn.usage import estimate_tokens

ITEM_TOKENS = 4
"""What a role and the ends of a message take beside its text."""


def input_tokens(turn: Turn) -> int:
    """Tokens of the conversation and of the tools offered; never 0 for a turn that says anything."""
    conversation = sum(ITEM_TOKENS + estimate_tokens(_text(item)) for item in turn.items)
    tools = sum(estimate_tokens(dumps(tool.raw or tool.parameters or {}).decode()) for tool in turn.tools)
    return conversation + tools


def _text(item: Item) -> str:
    match item:
        case Message() | ToolResult():
            return flatten_parts(item.parts)
        case ToolCall():
            return f"{item.name} {item.arguments}"
        case Reasoning():
            return item.text or "\n\n".join(item.summary)
        case OpaqueItem():
            return ""
