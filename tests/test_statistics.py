"""Intervals and tests against values worked out elsewhere."""

import pytest

from lorikeet import statistics
from lorikeet.statistics import Interval


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(8, 10, 0.490162, 0.943318), (0, 10, 0.0, 0.277533), (10, 10, 0.722467, 1.0), (50, 100, 0.403832, 0.596168), (1, 1, 0.206549, 1.0)],
)
def test_a_share_has_the_wilson_interval(hits: int, n: int, low: float, high: float) -> None:
    found = statistics.share(hits, n)
    assert found.value == hits / n
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)
    assert (found.n, found.method) == (n, "wilson")


def test_a_share_of_nothing_says_nothing() -> None:
    assert statistics.share(0, 0) == Interval(0.0, 0.0, 1.0, 0, "wilson")


def test_more_hits_than_questions_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="k"):
        statistics.share(3, 2)


def test_none_of_59_bounds_a_rate_at_five_percent_and_none_of_58_does_not() -> None:
    assert statistics.upper_bound(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59), abs=1e-9)
    assert statistics.upper_bound(0, 59) < 0.05 < statistics.upper_bound(0, 58)


def test_one_of_ten_bounds_a_rate_as_the_binomial_tail_says() -> None:
    bound = statistics.upper_bound(1, 10)
    assert (1 - bound) ** 10 + 10 * bound * (1 - bound) ** 9 == pytest.approx(0.05, abs=1e-6)


def test_without_probes_nothing_is_bounded() -> None:
    assert statistics.upper_bound(0, 0) == 1.0


def test_all_of_n_bounds_nothing() -> None:
    assert statistics.upper_bound(5, 5) == 1.0


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [(0, 5, 0.0625), (5, 0, 0.0625), (1, 9, 22 / 1024), (3, 3, 1.0), (0, 10, 2 / 1024), (0, 0, 1.0)],
)
def test_the_paired_test_is_mcnemars_exact_one(gained: int, lost: int, p: float) -> None:
    first = [False] * gained + [True] * lost + [True, False, True]
    second = [True] * gained + [False] * lost + [True, False, True]
    assert statistics.paired_p(first, second) == pytest.approx(p)


def test_questions_that_both_models_answer_alike_change_no_p_value() -> None:
    first, second = [True] * 6 + [False], [False] * 6 + [True]
    assert statistics.paired_p(first, second) == statistics.paired_p(first + [True] * 90, second + [True] * 90)


def test_columns_of_different_length_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        statistics.paired_p([True, False], [True])


def test_a_ratio_weighs_rows_by_their_tokens() -> None:
    assert statistics.ratio_of_sums([1.0, 30.0], [1.0, 10.0], 0).value == pytest.approx(31 / 11)


def test_a_ratio_counts_rows_not_tokens() -> None:
    assert statistics.ratio_of_sums([10.0, 20.0, 30.0], [100, 200, 300], 0).n == 3


def test_rows_with_one_ratio_have_no_spread() -> None:
    found = statistics.ratio_of_sums([2.0, 4.0, 8.0], [1.0, 2.0, 4.0], 0)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2.0, 2.0))


def test_the_bootstrap_is_the_same_for_the_same_seed_only() -> None:
    tops, bottoms = [n**1.5 for n in range(30)], [n + 2.0 for n in range(30)]
    assert statistics.ratio_of_sums(tops, bottoms, 3) == statistics.ratio_of_sums(tops, bottoms, 3)
    assert statistics.ratio_of_sums(tops, bottoms, 3)[1:3] != statistics.ratio_of_sums(tops, bottoms, 4)[1:3]


def test_the_bootstrap_of_a_mean_is_as_wide_as_theory_says() -> None:
    tops = [float(n % 2) for n in range(400)]
    found = statistics.ratio_of_sums(tops, [1.0] * 400, 0)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * 0.5 / 20, rel=0.12)


def test_a_ratio_of_nothing_has_n_zero() -> None:
    assert statistics.ratio_of_sums([], [], 0).n == 0
