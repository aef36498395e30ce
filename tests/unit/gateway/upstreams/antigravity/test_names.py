from gateway.turn.tools import ToolSpec
from gateway.upstreams.antigravity.names import (
    MAX_CHARS,
    ClientTools,
    is_made_id,
    made_call_id,
    upstream_name,
)
from tests.fakes.antigravity_fields import FUNCTION_NAME

ODD = ["", "1st", "-x", "a b", "灵码", "x" * 65, "x" * 66, "mcp__s" * 20, "a/b", "a.b:c-d_e"]


def test_legal_names_are_kept() -> None:
    for name in ("f", "_f", "get_weather", "a.b:c-d", "x" * MAX_CHARS):
        assert upstream_name(name) == name


def test_other_names_become_legal_and_stay_apart() -> None:
    names = [upstream_name(name) for name in ODD]
    assert all(FUNCTION_NAME.fullmatch(name) for name in names)
    assert len(set(names)) == len(ODD)
    assert names == [upstream_name(name) for name in ODD], "they depend on nothing else"


def test_clients_get_their_own_names_back() -> None:
    tools = ClientTools([ToolSpec(name=name) for name in ODD] + [ToolSpec(name="patch", kind="custom")])
    assert [tools.name(upstream_name(name)) for name in ODD] == ODD
    assert tools.name("made_up") == "made_up"
    assert [tools.is_custom(name) for name in ("patch", upstream_name("1st"), "made_up")] == [
        True,
        False,
        False,
    ]


def test_ids_that_are_made_here_are_known_again() -> None:
    made = made_call_id("t", 1)
    assert made == made_call_id("t", 1) != made_call_id("t", 2)
    assert is_made_id(made)
    assert not any(is_made_id(other) for other in ("", "call_gem_", made + "0", f"x{made}", "call_1"))
