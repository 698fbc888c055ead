"""How far a quantised file's next-token choices are from its parent's on held-out answers."""

from collections.abc import Sequence

import numpy as np

from lorikeet import statistics
from lorikeet.engine.llamacpp import LlamaCppEngine
from lorikeet.evidence import Measure, measured
from lorikeet.progress import Progress

Row = tuple[list[int], list[bool]]


def measure(parent: LlamaCppEngine, child: LlamaCppEngine, rows: Sequence[Row], subject: str, seed: int, progress: Progress) -> list[Measure]:
    """Mean and 99th percentile of KL(parent || child) in nats, and top-1 agreement, over supervised positions.

    Intervals by bootstrap over conversations.
    """
    divergences, sums, hits, counts = [], [], [], []
    for number, (ids, supervised) in enumerate(rows, 1):
        wanted = np.flatnonzero(np.asarray(supervised[1:]))
        theirs, ours = parent.logits(ids)[wanted], child.logits(ids)[wanted]
        at_each = statistics.kl_divergence(theirs, ours)
        divergences.append(at_each)
        sums.append(float(at_each.sum()))
        hits.append(float((theirs.argmax(-1) == ours.argmax(-1)).sum()))
        counts.append(float(len(wanted)))
        progress.step(f"{subject}: divergence", number, len(rows))
    every = np.concatenate(divergences)
    worst = float(np.percentile(every, 99))
    return [
        measured("divergence.kl", subject, statistics.ratio_of_sums(sums, counts, seed), "nats a token"),
        measured("divergence.kl_p99", subject, statistics.Interval(worst, worst, float(every.max()), len(every), "percentile; high is the maximum"), "nats"),
        measured("divergence.top1_agreement", subject, statistics.ratio_of_sums(hits, counts, seed)),
    ]
