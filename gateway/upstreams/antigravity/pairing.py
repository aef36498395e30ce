"""Calls and their responses in a Gemini history: put in the order the upstream wants, and checked. Pure.

The upstream wants after a model's calls one content with a response for each of them, in the same order,
under the same ids and names. Clients that think of calls otherwise (Claude's, OpenAI's) get there by several
translations; what can be mended is mended here, and what cannot is told before the upstream refuses it in
fewer words.
"""

from typing import NamedTuple

from gateway.kernel.json import Json, JsonObject
from gateway.upstreams.antigravity.history import (
    call_of,
    contents_of,
    contents_path,
    id_of,
    name_of,
    parts_of,
    response_of,
    role_of,
    with_contents,
    with_parts,
)

UNNAMED = ("", "unknown")
"""What translations write for the name of a call that they no longer know."""
RESPONSE_ROLE = "model"
"""Of contents that are all responses, for Code Assist."""


def with_responses_in_place(payload: JsonObject, *, role: str = RESPONSE_ROLE) -> JsonObject:
    """Responses with the names of their calls, in the order of the calls, under `role` where a content holds
    nothing else. The payload itself when nothing has to change.
    """
    contents = contents_of(payload)
    names: dict[str, str] = {}
    pending: list[JsonObject] = []
    placed: list[Json] = []
    for content in contents:
        parts = parts_of(content)
        calls = [call for call in map(call_of, parts) if call is not None]
        for call in calls:
            if (call_id := id_of(call)) and (name := name_of(call)) not in UNNAMED:
                names[call_id] = name
        responses = sum(response_of(part) is not None for part in parts)
        if responses:
            wanted = role if responses == len(parts) else None
            placed.append(_placed(content, names, pending, wanted))
        else:
            placed.append(content)
        if calls or responses:
            pending = calls
    if all(new is old for new, old in zip(placed, contents, strict=True)):
        return payload
    return with_contents(payload, placed)


def _placed(content: Json, names: dict[str, str], calls: list[JsonObject], role: str | None) -> Json:
    parts = parts_of(content)
    named = in_call_order(_identified([_named(part, names) for part in parts], calls), calls)
    if any(new is not old for new, old in zip(named, parts, strict=True)):
        content = with_parts(content, named)
    if role is not None and isinstance(content, dict) and role_of(content) != role:
        content = {**content, "role": role}
    return content


def _named(part: Json, names: dict[str, str]) -> Json:
    response = response_of(part)
    if response is None or not isinstance(part, dict) or name_of(response) not in UNNAMED:
        return part
    name = names.get(id_of(response))
    return part if name is None else {**part, "functionResponse": {**response, "name": name}}


def _identified(parts: list[Json], calls: list[JsonObject]) -> list[Json]:
    """Responses without an id, as Google's SDK for Python sends them, with that of the first call of their
    name which none of the others answers.
    """
    responses = [response for part in parts if (response := response_of(part)) is not None]
    answered = {id_of(response) for response in responses}
    if "" not in answered:
        return parts
    left = [call for call in calls if id_of(call) and id_of(call) not in answered]
    if not left:
        return parts
    done: list[Json] = []
    for part in parts:
        response = response_of(part)
        if response is None or id_of(response) or not isinstance(part, dict):
            done.append(part)
            continue
        name = name_of(response)
        call = next((call for call in left if name in (name_of(call), *UNNAMED)), None)
        if call is None:
            done.append(part)
            continue
        left.remove(call)
        told: JsonObject = {**response, "id": id_of(call), "name": name_of(call)}
        done.append({**part, "functionResponse": told})
    return done


def in_call_order(parts: list[Json], calls: list[JsonObject]) -> list[Json]:
    """The responses among the parts in the order of their calls; as they are where ids do not say which."""
    slots = [index for index, part in enumerate(parts) if response_of(part) is not None]
    if len(slots) < 2 or len(slots) != len(calls):
        return parts
    by_id = {id_of(response): parts[at] for at in slots if (response := response_of(parts[at])) is not None}
    wanted = [id_of(call) for call in calls]
    if len(by_id) != len(slots) or by_id.keys() != set(wanted):
        return parts
    ordered = list(parts)
    for slot, call_id in zip(slots, wanted, strict=True):
        ordered[slot] = by_id[call_id]
    return ordered


class _Step(NamedTuple):
    """A call or a response, and where it is."""

    id: str
    name: str
    path: str


def pairing_fault(payload: JsonObject) -> str | None:
    """What is wrong with the calls of a history; None when nothing is. Calls at its end may be open."""
    open_calls: list[_Step] = []
    for index, content in enumerate(contents_of(payload)):
        where = f"{contents_path(payload)}[{index}]"
        calls, responses = _steps(content, where)
        if calls and responses:
            return f"{where}: calls and responses in one content"
        if fault := next(
            (f"{call.path}: a functionCall without a name" for call in calls if not call.name), ""
        ):
            return fault
        if calls or responses or role_of(content) == "model":
            if open_calls and not responses:
                return f"{where}: {len(open_calls)} functionCall without their functionResponse before it"
            if responses and (fault := _mismatch(where, responses, open_calls)):
                return fault
            open_calls = calls
    return None


def _steps(content: Json, where: str) -> tuple[list[_Step], list[_Step]]:
    calls: list[_Step] = []
    responses: list[_Step] = []
    for number, part in enumerate(parts_of(content)):
        for steps, call in ((calls, call_of(part)), (responses, response_of(part))):
            if call is not None:
                steps.append(_Step(id_of(call), name_of(call), f"{where}.parts[{number}]"))
    return calls, responses


def _mismatch(where: str, responses: list[_Step], calls: list[_Step]) -> str:
    if not calls:
        return f"{where}: a functionResponse without a functionCall before it"
    if len(responses) != len(calls):
        return f"{where}: {len(responses)} functionResponse for {len(calls)} functionCall"
    for response, call in zip(responses, calls, strict=True):
        if call.id and response.id != call.id:
            return f"{response.path}: a functionResponse whose id is not that of {call.path}"
        if response.name != call.name:
            return f"{response.path}: a functionResponse whose name is not that of {call.path}"
    return ""
