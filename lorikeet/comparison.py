"""Two models over the same items: columns of values, what changed between them, and the sentence that says so.

Base against tuned model, one file against another, one setting against another: all are decided here, in one way.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lorikeet import statistics
from lorikeet.evidence import Finding, Measure, measured
from lorikeet.statistics import Interval

POINTS = 100
"""Shares are told in points."""


@dataclass(frozen=True)
class Column:
    """What one model got, item by item. `name` is the measure's stable name, `title` what people call it.

    clusters: the items that stand and fall together (rephrasings of one question, samples of one answer), each under their name; an item that is not in
    it stands alone. weights: what each value is a sum over (tokens), where the measure is an average over that. more_is_better: False for losses.
    """

    name: str
    title: str
    values: Mapping[str, float]
    clusters: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    unit: str = "share"
    more_is_better: bool = True

    def measure(self, subject: str, seed: int) -> Measure:
        """The column's average with its interval: Wilson's for passes and fails that stand alone, else a bootstrap over clusters."""
        if not self.clusters and not self.weights and {*self.values.values()} <= {0.0, 1.0}:
            return measured(self.name, subject, statistics.share(round(sum(self.values.values())), len(self.values)), self.unit)
        tops, bottoms = statistics.clustered([(self.cluster(i), (v, self.weights.get(i, 1.0))) for i, v in self.values.items()])
        return measured(self.name, subject, _within(statistics.ratio_of_sums(tops, bottoms, seed), self.unit, 0.0), self.unit)

    def cluster(self, item: str) -> str:
        """The cluster of an item: its own, which nothing else has, where it stands alone."""
        return self.clusters.get(item, f"\0{item}")


def column(columns: Sequence[Column], name: str) -> Column | None:
    """The column of that name, or None."""
    return next((c for c in columns if c.name == name), None)


@dataclass(frozen=True)
class Compared:
    """How a column of `second` differs from that of `first` over the items that both have. p is as tested alone; `adjusted` after Holm over its family."""

    column: Column
    first: str
    second: str
    change: statistics.Change
    adjusted: float

    @property
    def shown(self) -> bool:
        """Whether a difference is shown at 5 %, whatever else was tested beside it."""
        return self.adjusted < 0.05

    @property
    def better(self) -> bool:
        """Whether the second is the better one, shown or not."""
        return (self.change.interval.value > 0) == self.column.more_is_better

    def measure(self) -> Measure:
        """The difference as a measure of its own, with the adjusted p."""
        change = _within(self.change.interval, self.column.unit, -1.0)
        return replace(measured(f"{self.column.name}_change", self.second, change, self.column.unit), p=round(self.adjusted, 6))

    def finding(self) -> Finding:
        """The sentence: a note where nothing went wrong, a warning where the second is shown to be worse."""
        worse = self.shown and not self.better
        return Finding("warning" if worse else "note", self.sentence())

    def sentence(self) -> str:
        """What the difference is, how sure, and where none is shown what would have been."""
        unit = self.column.unit
        change = _within(self.change.interval, unit, -1.0)
        scale, word = (POINTS, "points") if unit == "share" else (1, unit)
        low, high = sorted((change.low * scale, change.high * scale))
        digits = 1 if unit == "share" else 3
        rests = f"(95 % interval {low:+.{digits}f} to {high:+.{digits}f}, n {change.n}, p {_p(self.adjusted)})"
        if self.shown:
            way = "above" if change.value > 0 else "below"
            judged = "better" if self.better else "WORSE"
            return f"{self.column.title}: {self.second} is {judged}, {abs(change.value) * scale:.{digits}f} {word} {way} {self.first} {rests}"
        seen = f"; {self.change.smallest * scale:.{digits}f} {word} would have been seen four times out of five"
        if self.change.smallest > (1 if unit == "share" else math.inf) or math.isinf(self.change.smallest):
            seen = "; so few can show none"
        gap = f"{change.value * scale:+.{digits}f} {word}"
        return f"{self.column.title}: no difference shown between {self.first} and {self.second}: {gap} {rests}{seen}"


def _within(interval: Interval, unit: str, least: float) -> Interval:
    """The interval cut to what a share, or a difference of shares, can be: one cluster alone bounds nothing."""
    return interval._replace(low=max(interval.low, least), high=min(interval.high, 1.0)) if unit == "share" else interval


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def compare(first: str, second: str, before: Sequence[Column], after: Sequence[Column], seed: int) -> list[Compared]:
    """Every column that both have, over the items that both have; p-values are adjusted within a family: names that begin alike up to the first dot."""
    found: list[Compared] = []
    for old in before:
        new = column(after, old.name)
        both = [item for item in old.values if new and item in new.values]
        if new is None or not both:
            continue
        # named places are clusters of their own: an item that stands alone is one too
        names = [old.cluster(item) for item in both] if old.clusters else None
        weights = [old.weights.get(item, 1.0) for item in both] if old.weights else None
        change = statistics.paired_change([old.values[i] for i in both], [new.values[i] for i in both], seed, names, weights)
        found.append(Compared(old, first, second, change, change.p))
    families: dict[str, list[int]] = {}
    for n, compared in enumerate(found):
        families.setdefault(compared.column.name.partition(".")[0], []).append(n)
    for members in families.values():
        for n, p in zip(members, statistics.holm([found[n].change.p for n in members]), strict=True):
            found[n] = replace(found[n], adjusted=p)
    return found
