import msgspec
import pytest

from gateway.turn.usage import Usage
from gateway.upstreams.codex.shapes import (
    ALIVE,
    DELTAS,
    ENDS,
    ITEMS,
    SILENT,
    decode_response,
    decode_said,
    usage_of,
)


def test_no_event_is_of_two_kinds() -> None:
    kinds = [ALIVE, DELTAS, ENDS, ITEMS, SILENT]
    assert sum(map(len, kinds)) == len(frozenset().union(*kinds))


def test_what_is_unknown_is_skipped_and_what_is_null_is_nothing() -> None:
    said = decode_said(b'{"type":"x","odd":{"delta":1},"delta":"d","item":{"a":[1]}}')
    assert (said.delta, said.output_index, bytes(said.item)) == ("d", -1, b'{"a":[1]}')
    response = decode_response(b'{"status":null,"output":null,"usage":null,"incomplete_details":null}')
    assert (response.status, response.output, usage_of(response.usage)) == (None, None, None)


@pytest.mark.parametrize("usage", [b"{}", b'{"input_tokens_details":null}'])
def test_usage_that_says_nothing_is_not_zero(usage: bytes) -> None:
    response = decode_response(b'{"usage":%b}' % usage)
    assert usage_of(response.usage) == Usage()


def test_a_field_of_another_type_is_no_event_that_is_known() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_said(b'{"type":"x","delta":{}}')
