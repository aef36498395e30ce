"""Token figures: merging what is reported, and estimating what is not."""

from gateway.turn.usage import Usage, estimate_tokens, merge, sound


def test_lv_52_token_estimates() -> None:
    """Given "", "x" and four Chinese characters. Expected 0, at least 1, 3."""
    assert estimate_tokens("") == 0
    assert estimate_tokens("x") >= 1
    assert estimate_tokens("灵码网关") == 3


def test_text_that_is_no_unicode_is_estimated_all_the_same() -> None:
    assert estimate_tokens("\ud800" * 8) == 6


def test_nothing_reported_is_not_zero() -> None:
    assert Usage().total_tokens is None
    assert Usage(output_tokens=3).total_tokens == 3


def test_later_figures_win_where_they_are_given() -> None:
    earlier = Usage(input_tokens=5, output_tokens=1, cached_tokens=2)
    later = Usage(output_tokens=7, reasoning_tokens=3)
    assert merge(earlier, later) == Usage(
        input_tokens=5, output_tokens=7, cached_tokens=2, reasoning_tokens=3
    )


def test_a_zero_that_is_reported_wins() -> None:
    assert merge(Usage(output_tokens=4), Usage(output_tokens=0)) == Usage(output_tokens=0)


def test_a_report_beats_an_estimate_whichever_came_first() -> None:
    report, estimate = Usage(input_tokens=1), Usage(input_tokens=9, output_tokens=9, estimated=True)
    assert merge(report, estimate) == report
    assert merge(estimate, report) == report


def test_one_alone_is_kept() -> None:
    one = Usage(input_tokens=1)
    assert merge(None, one) == one
    assert merge(one, None) == one
    assert merge(None, None) is None


def test_figures_that_count_no_tokens_are_left_out() -> None:
    usage = Usage(input_tokens=-1, output_tokens=3, cached_tokens=2**53, reasoning_tokens=0)
    assert sound(usage) == Usage(output_tokens=3, reasoning_tokens=0)
    fine = Usage(input_tokens=0, output_tokens=1)
    assert sound(fine) is fine
