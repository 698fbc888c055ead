"""Intervals and paired tests, by scipy. Every function takes plain numbers and returns an interval with its n."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]


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


def upper_bound(hits: int, n: int) -> float:
    """One-sided 95 % upper bound of a rate (Clopper and Pearson 1934): 0 of 59 bounds it at 5 %."""
    if n == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(hits, n, alternative="less").proportion_ci(0.95, method="exact").high)


def ratio_of_sums(tops: Sequence[float], bottoms: Sequence[float], seed: int) -> Interval:
    """sum(tops) / sum(bottoms) with a percentile bootstrap over the pairs (Efron 1979, 2,000 resamples).

    For a loss a token, give each row's summed loss and its number of tokens: rows, not tokens, are independent.
    """
    import numpy as np

    top, bottom = np.asarray(tops, dtype=float), np.asarray(bottoms, dtype=float)
    if len(top) == 0:
        return Interval(0.0, 0.0, 0.0, 0, "bootstrap")
    picks = np.random.default_rng(seed).integers(0, len(top), size=(2000, len(top)))
    low, high = np.percentile(top[picks].sum(1) / bottom[picks].sum(1), [2.5, 97.5])
    return Interval(float(top.sum() / bottom.sum()), float(low), float(high), len(top), "bootstrap")


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
