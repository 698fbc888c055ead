"""Intervals and paired tests, by scipy and statsmodels. Every function takes plain numbers; docs/evaluate.md tells which is used where.

That they keep their word (intervals that cover 95 % of the time, tests that reject 5 % where there is nothing) is simulated in tests/test_coverage.py.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]


SWAPS = 9999
"""Random swaps of a permutation test."""


class Interval(NamedTuple):
    """A value with its 95 % interval and the number of independent units it rests on."""

    value: float
    low: float
    high: float
    n: int
    method: str


def share(hits: int, n: int) -> Interval:
    """A proportion with the Wilson score interval (Wilson 1927). n = 0 gives the whole range 0 to 1."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0, 0, "wilson")
    from scipy.stats import binomtest

    ci = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return Interval(hits / n, float(ci.low), float(ci.high), n, "wilson")


def clustered_share(hits: Sequence[bool], clusters: Sequence[Hashable]) -> tuple[Interval, float]:
    """A proportion over items that stand and fall together in clusters, and the number of independent items that they are worth.

    Wilson's interval with the effective sample size, n over the design effect (Korn and Graubard 1998), which is never above n. Clusters that all hold alike
    show no design effect.
    """
    n = len(hits)
    if n == 0:
        return share(0, 0), 0.0
    tops, sizes = clustered(zip(clusters, ((float(hit), 1.0) for hit in hits), strict=True))
    value, count = sum(tops) / n, len(tops)
    spread = value * (1 - value) / n
    worth = float(n)
    if spread and count > 1:
        variance = count / (count - 1) * sum((top - value * size) ** 2 for top, size in zip(tops, sizes, strict=True)) / n**2
        worth = n / max(variance / spread, 1.0)
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(value * worth, worth, method="wilson")
    return Interval(value, float(low), float(high), n, f"wilson, {count} clusters"), worth


def least_share(value: float, n: float, alpha: float) -> float:
    """One-sided lower bound of a proportion at level alpha (Wilson 1927); n may be an effective number."""
    from statsmodels.stats.proportion import proportion_confint

    return float(proportion_confint(value * n, n, alpha=2 * alpha, method="wilson")[0]) if n else 0.0


def above_p(value: float, n: float, floor: float) -> float:
    """One-sided p-value of the hypothesis that a proportion is not above `floor` (score test, the counterpart of Wilson's interval)."""
    from scipy.stats import norm

    if not n or not 0 < floor < 1:
        return 0.0 if n and floor <= 0 else 1.0
    return float(norm.sf((value - floor) / (floor * (1 - floor) / n) ** 0.5))


def upper_bound(hits: int, n: int, alpha: float = 0.05) -> float:
    """One-sided upper bound of a rate at level alpha (Clopper and Pearson 1934): 0 of 59 bounds it at 5 %."""
    if n == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(hits, n, alternative="less").proportion_ci(1 - alpha, method="exact").high)


def ratio_of_sums(tops: Sequence[float], bottoms: Sequence[float], seed: int) -> Interval:
    """sum(tops) / sum(bottoms) with a percentile bootstrap over the pairs (Efron 1979, 2,000 resamples).

    For a loss a token, give each row's summed loss and its number of tokens: rows, not tokens, are independent. The percentiles are
    widened for small n as by Student's t (Hesterberg 2015, section 5.3): plain ones cover less than 95 %. One pair alone bounds nothing.
    """
    import numpy as np

    top, bottom = np.asarray(tops, dtype=float), np.asarray(bottoms, dtype=float)
    if len(top) == 0:
        return Interval(0.0, 0.0, 0.0, 0, "bootstrap")
    value = float(top.sum() / bottom.sum())
    if len(top) == 1:
        return Interval(value, float("-inf"), float("inf"), 1, "bootstrap")
    picks = np.random.default_rng(seed).integers(0, len(top), size=(2000, len(top)))
    tail = _widened_tail(len(top))
    low, high = np.percentile(top[picks].sum(1) / bottom[picks].sum(1), [100 * tail, 100 * (1 - tail)])
    return Interval(value, float(low), float(high), len(top), "bootstrap")


def _widened_tail(n: int) -> float:
    """The share below a percentile interval's lower end: 2.5 % for large n, less for small n (Hesterberg 2015)."""
    from scipy.stats import norm, t

    return float(norm.cdf(t.ppf(0.025, n - 1) * (n / (n - 1)) ** 0.5))


class Change(NamedTuple):
    """What changed between two columns over the same questions.

    p: two-sided, of the hypothesis that nothing changed. smallest: the smallest true difference that a study of this size shows four times out of five.
    """

    interval: Interval
    p: float
    smallest: float


def clustered(items: Iterable[tuple[Hashable, Sequence[float]]]) -> list[list[float]]:
    """Columns of sums by cluster, from (cluster, values) of every item; as many columns as an item has values."""
    sums: dict[Hashable, list[float]] = {}
    for name, values in items:
        held = sums.get(name)
        sums[name] = list(values) if held is None else [a + b for a, b in zip(held, values, strict=True)]
    return [list(column) for column in zip(*sums.values(), strict=True)] or [[], [], []]


def paired_change(first: Sequence[float], second: Sequence[float], seed: int, clusters: Sequence[Hashable] | None = None,
                  weights: Sequence[float] | None = None) -> Change:  # fmt: skip
    """How much the mean of `second` is above that of `first` over the same questions, with its interval and test.

    clusters: which questions stand and fall together (rephrasings of one, samples of one), a name each; they are drawn and swapped whole. weights: what each
    value is a sum over (tokens), where the mean is over that. The interval is a bootstrap over clusters; the test McNemar's exact one for pass and
    fail without clusters, else the permutation test that swaps the two columns within clusters (Good 2005, 9,999 draws, or all where they are fewer).
    smallest: 2.8 standard errors (80 % power at 5 %), and for pass and fail at least the six questions all one way that McNemar's test needs.
    """
    names = range(len(first)) if clusters is None else clusters
    over = [1.0] * len(first) if weights is None else weights
    before, after, sizes = clustered(zip(names, zip(first, second, over, strict=True), strict=True))
    interval = ratio_of_sums([a - b for b, a in zip(before, after, strict=True)], sizes, seed)
    pass_or_fail = weights is None and {*first, *second} <= {0.0, 1.0}
    alone = clusters is None and pass_or_fail
    p = paired_p([bool(x) for x in first], [bool(x) for x in second]) if alone else _swapped_p(before, after, seed)
    error = (interval.high - interval.low) / (2 * 1.96)
    return Change(interval, p, max(2.8 * error, 6 / max(len(before), 1) if pass_or_fail else 0.0))


def crossed_change(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], weights: Sequence[float]) -> Change:
    """How much the weighted mean of `second` is above that of `first`: arrays of shape (seeds, units), seeds and units crossed (every seed has every unit).

    Both vary: another seed would have trained another model, other units (rows, or groups of rows) would have been held out. The variance is that of the
    seeds' means plus that of the units' means over seeds, and Student's t has seeds - 1 degrees of freedom (conservative: Owen 2007 for the crossed
    design). Two seeds or more; with one the interval is unbounded and p is 1.
    """
    import numpy as np
    from scipy.stats import t

    over = np.asarray(weights, dtype=float)
    gaps = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    seeds, units = gaps.shape
    by_seed = gaps.sum(1) / over.sum()
    value = float(by_seed.mean())
    if seeds < 2 or units < 2:
        return Change(Interval(value, float("-inf"), float("inf"), seeds, "crossed"), 1.0, float("inf"))
    left = gaps.mean(0) - value * over
    error = float(np.sqrt(by_seed.var(ddof=1) / seeds + units / (units - 1) * (left**2).sum() / over.sum() ** 2))
    reach = float(t.ppf(0.975, seeds - 1))
    p = float(2 * t.sf(abs(value) / error, seeds - 1)) if error else float(value == 0)
    return Change(Interval(value, value - reach * error, value + reach * error, seeds, "crossed"), p, (reach + 0.84) * error)


def _swapped_p(first: Sequence[float], second: Sequence[float], seed: int) -> float:
    """Two-sided p-value of the paired permutation test."""
    import numpy as np
    from scipy.stats import permutation_test

    if len(first) < 2 or list(first) == list(second):
        return 1.0

    def gap(one: "Floats", other: "Floats", axis: int = -1) -> "Floats":
        return np.asarray(np.sum(one - other, axis=axis))

    draws = {"permutation_type": "samples", "vectorized": True, "n_resamples": SWAPS, "rng": np.random.default_rng(seed)}
    return float(permutation_test((np.asarray(first), np.asarray(second)), gap, **draws).pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of one family of tests, adjusted so that any false alarm among them stays at 5 % (Holm 1979)."""
    if not ps:
        return []
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(ps, method="holm")[1]]


def difference_of_means(first: Sequence[float], second: Sequence[float], seed: int) -> Interval:
    """mean(first) - mean(second) of two groups of independent units, with a percentile bootstrap over each (Efron 1979, 2,000 resamples); n counts both."""
    import numpy as np
    from scipy.stats import bootstrap

    def gap(one: "Floats", other: "Floats", axis: int = -1) -> "Floats":
        return np.asarray(np.mean(one, axis=axis) - np.mean(other, axis=axis))

    value = float(np.mean(first) - np.mean(second))
    n = len(first) + len(second)
    if min(len(first), len(second)) < 2:
        return Interval(value, float("-inf"), float("inf"), n, "bootstrap")
    found = bootstrap((first, second), gap, n_resamples=2000, method="percentile", rng=np.random.default_rng(seed))
    return Interval(value, float(found.confidence_interval.low), float(found.confidence_interval.high), n, "bootstrap")


def paired_p(first: Sequence[bool], second: Sequence[bool]) -> float:
    """McNemar's exact test (1947) for two pass/fail columns over the same questions: the two-sided p-value."""
    from scipy.stats import binomtest

    gained = sum(b and not a for a, b in zip(first, second, strict=True))
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def kl_divergence(parent: "Floats", child: "Floats") -> "Floats":
    """KL(parent || child) in nats (Kullback and Leibler 1951) at each row of two logit arrays of shape (positions, vocabulary), in float64."""
    import numpy as np
    from scipy.special import log_softmax

    p, q = log_softmax(parent.astype(np.float64), axis=-1), log_softmax(child.astype(np.float64), axis=-1)
    divergence: Floats = np.maximum((np.exp(p) * (p - q)).sum(-1), 0.0)
    return divergence
