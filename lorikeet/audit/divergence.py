"""How far a quantised file's next-token choices are from its parent's on held-out answers."""

from collections.abc import Sequence

import numpy as np

from lorikeet import statistics
from lorikeet.engine.llamacpp import Floats, LlamaCppEngine
from lorikeet.evidence import Measure, measured

Row = tuple[tuple[int, ...], tuple[bool, ...]]
"""Token ids of a conversation, and which of them got loss."""


def choices(engine: LlamaCppEngine, rows: Sequence[Row]) -> list[Floats]:
    """Logits that every supervised token of each row was chosen from: arrays of shape (supervised tokens, vocabulary)."""
    return [engine.logits(ids[:-1], supervised[1:]) for ids, supervised in rows]


def measure(parent: Sequence[Floats], child: Sequence[Floats], subject: str, seed: int) -> list[Measure]:
    """Mean and 99th percentile of KL(parent || child) in nats, and top-1 agreement, over supervised tokens.

    parent, child: the `choices` of both files over the same rows. Intervals by bootstrap over conversations.
    """
    divergences = [statistics.kl_divergence(theirs, ours) for theirs, ours in zip(parent, child, strict=True)]
    hits = [float((theirs.argmax(-1) == ours.argmax(-1)).sum()) for theirs, ours in zip(parent, child, strict=True)]
    counts = [float(len(at_each)) for at_each in divergences]
    every = np.concatenate(divergences)
    worst = float(np.percentile(every, 99))
    return [
        measured("divergence.kl", subject, statistics.ratio_of_sums([float(d.sum()) for d in divergences], counts, seed), "nats a token"),
        measured("divergence.kl_p99", subject, statistics.Interval(worst, worst, float(every.max()), len(every), "percentile; high is the maximum"), "nats"),
        measured("divergence.top1_agreement", subject, statistics.ratio_of_sums(hits, counts, seed)),
    ]
