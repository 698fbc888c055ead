"""How far a quantised file's next-token choices are from its parent's on held-out answers."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import log_softmax

from lorikeet import statistics
from lorikeet.engine.llamacpp import Floats, LlamaCppEngine
from lorikeet.evidence import Measure, measured

Row = tuple[tuple[int, ...], tuple[bool, ...]]
"""Token ids of a conversation, and which of them got loss."""


def choices(engine: LlamaCppEngine, rows: Sequence[Row]) -> list[Floats]:
    """Logits that every supervised token of each row was chosen from: arrays of shape (supervised tokens, vocabulary)."""
    return [engine.logits(ids[:-1], supervised[1:]) for ids, supervised in rows]


def measure(rows: Sequence[Row], parent: Sequence[Floats], child: Sequence[Floats], subject: str, seed: int) -> list[Measure]:
    """How far a file is from its parent over supervised tokens: mean and 99th percentile of KL(parent || child) in nats, top-1 agreement, and the ratio of
    their perplexities.

    parent, child: the `choices` of both files over `rows`. Intervals by bootstrap over conversations.
    """
    divergences = [statistics.kl_divergence(theirs, ours) for theirs, ours in zip(parent, child, strict=True)]
    hits = [float((theirs.argmax(-1) == ours.argmax(-1)).sum()) for theirs, ours in zip(parent, child, strict=True)]
    counts = [float(len(at_each)) for at_each in divergences]
    surprise = [_nats(row, ours) - _nats(row, theirs) for row, theirs, ours in zip(rows, parent, child, strict=True)]
    every = np.concatenate(divergences)
    worst = float(np.percentile(every, 99))
    change = statistics.ratio_of_sums(surprise, counts, seed)
    ratio = change._replace(value=_exp(change.value), low=_exp(change.low), high=_exp(change.high))
    return [
        measured("divergence.kl", subject, statistics.ratio_of_sums([float(d.sum()) for d in divergences], counts, seed), "nats a token"),
        measured("divergence.kl_p99", subject, statistics.Interval(worst, worst, float(every.max()), len(every), "percentile; high is the maximum"), "nats"),
        measured("divergence.top1_agreement", subject, statistics.ratio_of_sums(hits, counts, seed)),
        measured("divergence.perplexity_ratio", subject, ratio, "times the parent's"),
    ]


def _nats(row: Row, choices: Floats) -> float:
    """What the supervised tokens of a row cost, in nats."""
    tokens = [token for token, counts in zip(row[0][1:], row[1][1:], strict=True) if counts]
    return float(-log_softmax(choices.astype(np.float64), axis=-1)[np.arange(len(tokens)), tokens].sum())


def _exp(value: float) -> float:
    return float(np.exp(min(value, 700.0)))


def answers(parent: Mapping[str, str], child: Mapping[str, str], subject: str) -> list[Measure]:
    """The share of greedy answers that are others than the parent's, and how far into an answer, in shares of its words, the two part (the median)."""
    both = [(parent[name].split(), child[name].split()) for name in child if name in parent]
    if not both:
        return []
    differ = [one != other for one, other in both]
    found = [measured("divergence.answers_differ", subject, statistics.share(sum(differ), len(differ)))]
    if parts := [_common(one, other) / max(len(one), 1) for one, other in both if one != other]:
        low, middle, high = (float(x) for x in np.percentile(parts, [25, 50, 75]))
        found.append(measured("divergence.parting", subject, statistics.Interval(middle, low, high, len(parts), "median and quartiles"), "share of the answer"))
    return found


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
