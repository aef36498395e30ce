from typing import Any

from gateway.kernel.json import dumps
from gateway.upstreams.codex.output import Output

REASONING = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}


def call(call_id: str, **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": "ls", "arguments": "{}", **more}


def repaired(done: list[tuple[int, Any]], given: list[Any] | None = None) -> list[bytes]:
    output = Output()
    for index, item in done:
        output.done(index, dumps(item))
    return output.repaired([dumps(item) for item in given or []])


def test_rp_54_an_empty_output_is_made_of_the_items_that_were_done() -> None:
    """RP-54. Given `output_item.done` of index 1 (call) and 0 (reasoning), then `response.completed` with
    `output:[]`, expect reasoning, call.
    """
    assert repaired([(1, call("c")), (0, REASONING)]) == [dumps(REASONING), dumps(call("c"))]


def test_items_without_a_number_come_last_in_order_of_arrival() -> None:
    done = [(-1, call("x")), (2, call("b")), (-1, call("y")), (0, call("a"))]
    assert repaired(done) == [dumps(call(name)) for name in "abxy"]


def test_an_output_gets_only_the_ids_that_it_lacks() -> None:
    done = [(0, {**REASONING, "id": "rs_1"}), (1, call("c", id="fc_1")), (2, {"type": "message", "id": "m"})]
    given = [REASONING, call("c", id="own"), call("d"), "strange"]
    assert repaired(done, given) == [
        dumps({**REASONING, "id": "rs_1"}),
        dumps(call("c", id="own")),
        dumps(call("d")),
        dumps("strange"),
    ]


def test_what_lacks_nothing_keeps_its_bytes() -> None:
    odd = b'{ "id" : "fc_1" , "type": "function_call" }'
    output = Output()
    output.done(0, odd)
    assert output.repaired([]) == [odd]
    assert output.repaired([odd]) == [odd]
