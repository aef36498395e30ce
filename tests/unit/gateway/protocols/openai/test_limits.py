import pytest

from gateway.kernel.errors import InvalidRequest
from gateway.protocols.openai.limits import (
    EFFORTS,
    SERVICE_TIERS,
    check_length,
    check_range,
    check_word,
    unsupported,
)


@pytest.mark.parametrize("value", [None, 0, 1, 2, 0.0, 1.5, 2.0])
def test_what_is_in_its_range_is_fine(value: float | None) -> None:
    check_range(value, "p", 0, 2)


@pytest.mark.parametrize(
    ("value", "code", "message"),
    [
        (
            2.1,
            "decimal_above_max_value",
            "Invalid 'p': decimal above maximum value. Expected a value <= 2, but got 2.1 instead.",
        ),
        (
            -0.5,
            "decimal_below_min_value",
            "Invalid 'p': decimal below minimum value. Expected a value >= 0, but got -0.5 instead.",
        ),
        (
            3,
            "integer_above_max_value",
            "Invalid 'p': integer above maximum value. Expected a value <= 2, but got 3 instead.",
        ),
        (
            -1,
            "integer_below_min_value",
            "Invalid 'p': integer below minimum value. Expected a value >= 0, but got -1 instead.",
        ),
    ],
)
def test_what_is_out_of_its_range_is_refused_in_openais_words(value: float, code: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_range(value, "p", 0, 2)
    assert (caught.value.param, caught.value.code, caught.value.message) == ("p", code, message)


def test_a_range_may_be_open_above() -> None:
    check_range(10**18, "p", 1)


@pytest.mark.parametrize(
    ("values", "code", "word"),
    [(["a"] * 5, "array_above_max_length", "an array"), ("a" * 5, "string_above_max_length", "a string")],
)
def test_what_is_too_long_is_refused_in_openais_words(values: list[str] | str, code: str, word: str) -> None:
    check_length(values[:4], "p", 4)
    with pytest.raises(InvalidRequest) as caught:
        check_length(values, "p", 4)
    assert (caught.value.param, caught.value.code) == ("p", code)
    assert f"Expected {word} with maximum length 4, but got {word} with length 5 instead." in str(
        caught.value
    )


@pytest.mark.parametrize("words", [EFFORTS, SERVICE_TIERS])
def test_a_word_is_one_of_those_that_are_known(words: tuple[str, ...]) -> None:
    for word in (None, *words):
        check_word(word, "p", words)
    for wrong in ("", "Low", "x" * 10_000):
        with pytest.raises(InvalidRequest) as caught:
            check_word(wrong, "p", words)
        assert (caught.value.param, caught.value.code) == ("p", "invalid_value")
        assert f"'{words[0]}', '{words[1]}'" in caught.value.message
        assert len(caught.value.message) < 200


def test_what_cannot_be_had_here_is_said_so() -> None:
    error = unsupported("logprobs", "nobody tells them")
    assert (error.param, error.code) == ("logprobs", "unsupported_parameter")
    assert error.message == "Unsupported parameter: 'logprobs' is not supported here: nobody tells them."
