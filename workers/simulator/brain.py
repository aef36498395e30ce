"""What the simulator answers: deterministic, no model. Pure: prompt and session in, plan out.

Commands are obeyed where a sentence begins with one; README.md lists them. `think` and `wait` go in front of
another command. Anything else is echoed with a report of what the session knows.
"""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from workers.simulator.samples import sample

_NUMBER = r"\d+(?:\.\d+)?"

# Name, pattern; at the same place the first one wins.
_COMMANDS: tuple[tuple[str, str], ...] = (
    ("think", r"(?:think\b|思考|想一想|想想)[^\n,.;\uff0c。\uff1b]*"),
    (
        "wait",
        rf"(?:wait|sleep)\s+(?:for\s+)?(?P<wait>{_NUMBER})\s*(?P<unit>ms|milliseconds?|s|sec|seconds?)\b",
    ),
    ("wait", rf"(?:等待|等)\s*(?P<wait_cn>{_NUMBER})\s*(?P<unit_cn>毫秒|秒)"),
    (
        "exact",
        r"(?:reply|respond|answer|return|output|say)\s+(?:with\s+)?(?:exactly|only|just|verbatim)\b"
        r"(?:\s+(?:this|the|one|a single)(?:\s+(?:word|words|text|line|string|message|number))?)?"
        r"(?:\s*[:\uff1a]\s*|\s+)(?P<exact>```.*?\n```|[^\n]+)",
    ),
    ("exact", r"(?:只?回复|只回答|原样输出)\s*[:\uff1a]?\s*(?P<exact_cn>```.*?\n```|[^\n]+)"),
    ("repeat", r"(?:repeat|say)\s+(?P<repeat>[^\n]+?)\s+(?P<times>\d+)\s+times"),
    ("repeat", r"(?:重复|把)\s*[:\uff1a]?\s*(?P<repeat_cn>[^\n]+?)(?:重复)?\s*(?P<times_cn>\d+)\s*[次遍]"),
    (
        "count",
        r"count\s+(?:slowly\s+)?(?:from\s+)?(?:(?P<start>-?\d+)\s+)?(?:up\s+|down\s+)?(?:to|through)\s+"
        r"(?P<end>-?\d+)(?P<tail>\s+slowly)?",
    ),
    ("count", r"(?:慢慢地?)?从\s*(?P<start_cn>-?\d+)\s*(?:开始)?(?:慢慢地?)?数到\s*(?P<end_cn>-?\d+)"),
    ("native", r"(?:call|use)\s+(?:the\s+)?native\s+tool\s+(?P<native>[\w.:-]+)(?:\s+with)?(?!\w)"),
    ("call", r"(?:call|use)\s+(?:the\s+)?tool\s+(?P<call>[\w.:-]+)(?:\s+with)?(?!\w)"),
    ("call", r"调用工具\s*(?P<call_cn>[A-Za-z0-9_.:-]+)"),
    ("say", r"say(?:\s*[:\uff1a]\s*|\s+)(?P<say>[^\n]+)"),
    ("say", r"说(?![明说法到过起])(?:一?[句声])?\s*[:\uff1a]?\s*(?P<say_cn>[^\n]+)"),
)
_PATTERNS = tuple((name, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for name, pattern in _COMMANDS)
# Commands are looked for at these words only, and only where a sentence begins: cheap on long prompts.
_WORDS = re.compile(
    r"\b(?:think|wait|sleep|reply|respond|answer|return|output|say|repeat|count|call|use)\b"
    r"|思考|想一想|想想|等|只?回复|只回答|原样输出|重复|把|慢慢|从|调用工具|说",
    re.IGNORECASE,
)
_BEFORE = re.compile(
    r"(?:^|[\n.!?;:,\uff0c。\uff01\uff1f\uff1b\uff1a、]|\bthen|\band|然后|接着|再)\s*"
    r"(?:(?:please|kindly|now|just|can you|could you|would you)\s+)*(?:请你?|麻烦你?)?\s*$",
    re.IGNORECASE,
)
_BEFORE_WINDOW = 60
_LOOKED_AT = 10_000  # characters at either end of a message

_FIRST = re.compile(
    r"what (?:did i|have i) (?:say|said|ask|asked|tell you|told you|write) (?:at )?first"
    r"|what was (?:my|the) first"
    r"|first (?:thing|message|question) i (?:said|sent|asked|wrote)"
    r"|我(?:最先|最开始|最早|首先|一开始|第一[句次])|我的第一",
    re.I,
)
_KNOWN = re.compile(
    r"what do you (?:know|remember)|\bstatus\b|\breport\b|你(?:知道|记得)什么|状态|报告", re.I
)
_JSON = re.compile(
    r"(?:answer|reply|respond) with exactly one JSON value[^\n]*(?:JSON Schema:\s*(?=\{))?", re.IGNORECASE
)
_ANY = {"type": "object", "properties": {"answer": {"type": "string"}}}
_CJK = re.compile(r"[\u3400-\u9fff]")
_PIECE = re.compile(
    r"\s*(?:[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]{1,2}|[^\s\u3000-\u303f\u3400-\u9fff\uff00-\uffef]+)|\s+"
)
_QUOTES = {'"': '"', "'": "'", "`": "`", "“": "”", "「": "」", "‘": "’"}
_MAX_PIECES = 100_000


@dataclass(frozen=True, slots=True)
class Known:
    """What the session knows when it answers."""

    text: str
    """The newest user message."""
    earlier: tuple[str, ...]
    """User messages before it."""
    is_reply: bool
    session_id: str
    model: str
    tool_result: str | None = None
    turns: int = 1

    @property
    def first(self) -> str:
        return self.earlier[0] if self.earlier else self.text

    def report(self) -> str:
        """The literal line by which tests prove what reached the session."""
        reply = str(self.is_reply).lower()
        return f"turns={self.turns} isReply={reply} session={self.session_id} model={self.model}"


@dataclass(frozen=True, slots=True)
class NativeCall:
    name: str
    parameters: dict[str, Any]


@dataclass(slots=True)
class Plan:
    """An answer before it is sent."""

    deltas: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    wait_s: float = 0.0
    slow: bool = False
    """Use the slow gap between deltas."""
    native: NativeCall | None = None


def plan(known: Known) -> Plan:
    """Decide what to answer."""
    asked = _JSON.search(known.text)
    if asked is None:
        return _plan(known)
    plan = _plan(replace(known, text=known.text[: asked.start()].rstrip() or "JSON"))
    said = "".join(plan.deltas)
    if not _is_json(said):
        value = sample(_object(known.text, asked.end()) or _ANY, said)
        # In a fence, though nobody wants one: such are models.
        plan.deltas = split(f"```json\n{json.dumps(value, ensure_ascii=False)}\n```")
    return plan


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _plan(known: Known) -> Plan:
    plan = Plan()
    text = _ends(known.text)
    if known.tool_result is not None:
        plan.deltas = split(f"The tool said: {_short(known.tool_result)}\n{known.report()}")
        return plan
    if _FIRST.search(text):
        plan.deltas = split(_first(known, text))
        return plan
    position, waited = 0, ""
    while (found := _next_command(text, position)) is not None:
        name, match = found
        position = match.end()
        if name == "think":
            plan.thoughts = [piece for piece in split(f"Thinking: {_short(match[0])}") if piece]
        elif name == "wait":
            seconds, waited = _wait(match)
            plan.wait_s += seconds
        else:
            _obey(name, match, known, plan)
            return plan
    plan.deltas = split(waited or _echo(known, text))
    return plan


def _ends(text: str) -> str:
    if len(text) <= 2 * _LOOKED_AT:
        return text
    return f"{text[:_LOOKED_AT]}\n{text[-_LOOKED_AT:]}"


def _next_command(text: str, position: int) -> tuple[str, re.Match[str]] | None:
    for word in _WORDS.finditer(text, position):
        at = word.start()
        if _BEFORE.search(text[max(0, at - _BEFORE_WINDOW) : at]) is None:
            continue
        for name, pattern in _PATTERNS:
            if (match := pattern.match(text, at)) is not None:
                return name, match
    return None


def _wait(match: re.Match[str]) -> tuple[float, str]:
    groups = match.groupdict()
    if (number := groups.get("wait")) is not None:
        per_second = 1000 if groups["unit"].lower().startswith("m") else 1
        unit = "milliseconds" if per_second == 1000 else "seconds"
        said = f"waited {number} {unit}"
    else:
        number, unit = groups["wait_cn"], groups["unit_cn"]
        per_second = 1000 if unit == "毫秒" else 1
        said = f"等待了{number}{unit}"
    return min(float(number) / per_second, 600.0), said


def _obey(name: str, match: re.Match[str], known: Known, plan: Plan) -> None:
    groups = {key.removesuffix("_cn"): value for key, value in match.groupdict().items() if value is not None}
    match name:
        case "exact":
            plan.deltas = split(
                groups["exact"].strip() if groups["exact"].startswith("```") else unquote(groups["exact"])
            )
        case "say":
            plan.deltas = split(_without_full_stop(groups["say"]))
        case "repeat":
            times = min(int(groups["times"]), _MAX_PIECES)
            plan.deltas = split(" ".join([unquote(groups["repeat"])] * times))
        case "count":
            plan.deltas = _count(int(groups.get("start", "1")), int(groups["end"]))
            plan.slow = "slow" in match[0].lower() or "慢" in match[0]
        case "native":
            plan.native = NativeCall(groups["native"], _object(match.string, match.end()))
            plan.deltas = split(known.report())
        case _:
            plan.deltas = split(_action_blocks(match.string, match.start()))


def _count(start: int, end: int) -> list[str]:
    step = 1 if end >= start else -1
    numbers = range(start, end + step, step)[:_MAX_PIECES]
    return [str(number) if place == 0 else f" {number}" for place, number in enumerate(numbers)]


def _action_blocks(text: str, position: int) -> str:
    """Every `call tool` from here on, in the form that prompts teach to models without tools."""
    calls = sorted(
        (
            match
            for name, pattern in _PATTERNS
            if name == "call"
            for match in pattern.finditer(text, position)
        ),
        key=lambda match: match.start(),
    )
    blocks = []
    for match in calls:
        named = next(value for value in match.groups() if value is not None)
        call = {"tool": named, "parameters": _object(text, match.end())}
        blocks.append(f"```json action\n{json.dumps(call, ensure_ascii=False)}\n```")
    return "\n\n".join(blocks)


def _object(text: str, position: int) -> dict[str, Any]:
    rest = text[position:].lstrip()
    if not rest.startswith("{"):
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode(rest)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _first(known: Known, text: str) -> str:
    lead = "你最先说的是" if _CJK.search(text) else "You said first"
    return f"{lead}: {_short(known.first)}\n{known.report()}"


def _echo(known: Known, text: str) -> str:
    chinese = _CJK.search(text) is not None
    if _KNOWN.search(text):
        lead = "我知道的" if chinese else "What I know"
        previous = known.earlier[-1] if known.earlier else known.text
        return f"{lead}: first={_short(known.first)} | previous={_short(previous)}\n{known.report()}"
    lead = "你说" if chinese else "You said"
    return f"{lead}: {_short(known.text)}\n{known.report()}"


def _short(text: str) -> str:
    """On one line, without its middle when long: clients put context in front of what the user wrote."""
    flat = " ".join(_ends(text).split())
    return flat if len(flat) <= 200 else f"{flat[:100]} … {flat[-100:]}"


def unquote(text: str) -> str:
    """Strip space and one pair of quotes."""
    text = text.strip()
    for opening, closing in _QUOTES.items():
        if len(text) >= 2 and text.startswith(opening) and text.find(closing, 1) == len(text) - 1:
            return text[1:-1]
    return text


def _without_full_stop(text: str) -> str:
    text = text.strip()
    if text[-1:] in {".", "。"} and text[-2:-1] not in {".", "。"}:
        text = text[:-1]
    return unquote(text)


def split(text: str) -> list[str]:
    """Cut text into word-like deltas; joined they are the text again.

    The first delta ends inside a word and an empty one follows, as the real service does.
    """
    pieces = _PIECE.findall(text)
    if not pieces:
        return []
    if len(pieces[0]) > 2:
        return [pieces[0][:2], "", pieces[0][2:], *pieces[1:]]
    return [pieces[0], "", *pieces[1:]] if len(pieces) > 1 else pieces


def filler(tokens: int) -> list[str]:
    """Exactly that many deltas of no meaning, for benches."""
    words = ("lorem", " ipsum", " dolor", " sit", " amet", " consectetur", " adipiscing", " elit")
    return [words[place % len(words)] for place in range(tokens)]
