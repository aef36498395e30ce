"""Wishes in the names of models."""

import pytest

from gateway.kernel.ids import TurnId
from gateway.turn.model_name import split_name, with_named_effort
from gateway.turn.request import RawRequest, ReasoningRequest, Turn


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        (" GPT-5.4(HIGH) ", "gpt-5.4"),
        ("gpt(custom)", "gpt(custom)"),
        ("gpt(2147483648)", "gpt(2147483648)"),
    ],
)
def test_rp_16_canonical_models(name: str, canonical: str) -> None:
    """RP-16. ` GPT-5.4(HIGH) ` is `gpt-5.4`; `gpt(custom)` and `gpt(2147483648)` stay as they are. Names are
    compared without regard to case; see engine/routing.py.
    """
    assert split_name(name)[0].lower() == canonical


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gpt-5.4", ("gpt-5.4", "")),
        ("GPT-5.4 (xHigh)", ("GPT-5.4", "xhigh")),
        ("m(-1)", ("m", "-1")),
        ("m(auto)", ("m", "auto")),
        ("m(2147483647)", ("m", "2147483647")),
        ("m(0000000001)", ("m", "0000000001")),
        ("m(00000000001)", ("m(00000000001)", "")),
        ("m(-2)", ("m(-2)", "")),
        ("m(٣)", ("m(٣)", "")),
        ("m(high)(low)", ("m(high)", "low")),
        ("(high)", ("(high)", "")),
        ("m(high) x", ("m(high) x", "")),
        ("", ("", "")),
    ],
)
def test_the_wish_and_the_name(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


def turn(model: str, reasoning: ReasoningRequest | None = None) -> Turn:
    return Turn(
        id=TurnId("t"),
        tenant="-",
        created_at_ms=0,
        model=model,
        items=(),
        raw=RawRequest("chat", {}),
        reasoning=reasoning,
    )


@pytest.mark.parametrize(
    ("wish", "wanted"),
    [
        ("high", ReasoningRequest(effort="high", summary="auto")),
        ("none", ReasoningRequest(effort="none", summary="auto")),
        ("4096", ReasoningRequest(budget_tokens=4096, summary="auto")),
        ("0", ReasoningRequest(budget_tokens=0, summary="auto")),
        ("auto", ReasoningRequest(summary="auto")),
        ("-1", ReasoningRequest(summary="auto")),
    ],
)
def test_the_name_wins_over_the_body(wish: str, wanted: ReasoningRequest) -> None:
    told = with_named_effort(turn(f"m({wish})", ReasoningRequest(effort="low", summary="auto")))
    assert told.reasoning == wanted
    assert told.effort_named
    assert told.model == f"m({wish})", "answers echo the name as it was written"


def test_other_names_change_nothing() -> None:
    for model in ("m", "m(custom)"):
        given = turn(model, ReasoningRequest(effort="low"))
        assert with_named_effort(given) is given
