"""What a data set looks like in figures: lengths in tokens, turns, languages, categories, repeated answers, padding against packing."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorikeet.conversation import Source
from lorikeet.data.contents import SHOWN
from lorikeet.data.rows import KINDS, PARTS, TRAIN
from lorikeet.data.survey import Survey
from lorikeet.evidence import Finding
from lorikeet.recipe import LoadedRecipe

BARS = 16
"""Bars of the histogram at most."""
REPEATED = 3
"""Rows from which an answer counts as repeated."""


def figures(recipe: LoadedRecipe, seen: Survey, lengths: np.ndarray, supervised: np.ndarray) -> dict[str, object]:
    """Everything that data.json holds. `lengths` and `supervised` count each row's tokens, and those with loss, as training sees them."""
    trained = seen.part == TRAIN
    return {
        "rows": len(seen.rows),
        "split": "wordings" if seen.wordings else "groups",
        "parts": parts(seen),
        "answers": len(np.unique(seen.group[seen.taught])),
        "tokens": int(lengths[trained].sum()),
        "supervised_tokens": int(supervised[trained].sum()),
        "longest": int(lengths.max()),
        "files": sorted(seen.files),
        "system": recipe.persona.system,
        **shape(lengths[trained], recipe.recipe.train.rows, recipe.recipe.seed),
        **words(seen),
    }


def parts(seen: Survey) -> dict[str, int]:
    """Rows of each kind in each part, under "kind/part"."""
    counts = Counter({f"{kind}/{part}": int((seen.part[seen.kind == k] == p).sum()) for k, kind in enumerate(KINDS) for p, part in enumerate(PARTS)})
    return dict(+counts)


def shape(counts: np.ndarray, batch: int, seed: int) -> dict[str, object]:
    """How long the rows are, and what a batch of so many wastes on padding."""
    return {"lengths": lengths(counts), "padding": padding(counts, batch, seed)}


def words(seen: Survey) -> dict[str, object]:
    """What can be counted without a tokenizer: question-answer turns a row, languages, categories, and answers of REPEATED rows or more."""
    _, first, counts = np.unique(seen.answer, return_index=True, return_counts=True)
    most = sorted(np.flatnonzero(counts >= REPEATED).tolist(), key=lambda n: (-counts[n], first[n]))[:5]
    return {
        "turns": {int(turns): int(count) for turns, count in zip(*np.unique(seen.turns, return_counts=True), strict=True)},
        "languages": dict(seen.contents.languages.counts.most_common()),
        "categories": dict(seen.categories.most_common()),
        "repeated": [{"answer": seen.rows[int(first[n])].conversation.answer[:200], "rows": int(counts[n])} for n in most],
    }


def lengths(counts: np.ndarray) -> dict[str, object]:
    """Quantiles of the rows' lengths in tokens, and a histogram: each bar's upper end (included) and its rows."""
    ordered = np.sort(counts)
    if not len(ordered):
        return {"median": 0, "p90": 0, "p99": 0, "longest": 0, "bars": []}
    width = max(1, math.ceil(ordered[-1] / BARS))
    bars = np.bincount((ordered - 1) // width).tolist()
    at = {name: int(ordered[min(len(ordered) - 1, int(share * len(ordered)))]) for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99))}
    return {**at, "longest": int(ordered[-1]), "bars": [{"to": (n + 1) * width, "rows": rows} for n, rows in enumerate(bars)]}


def padding(counts: np.ndarray, batch: int, seed: int) -> dict[str, float]:
    """Share of a batch's places that hold no token: rows drawn at random, rows of like length together (as training does), and packed."""
    drawn = np.random.default_rng(seed).permutation(counts)
    return {"random": _padded(drawn, batch), "by_length": _padded(np.sort(counts), batch), "packed": 0.0}


def _padded(counts: np.ndarray, batch: int) -> float:
    if not len(counts):
        return 0.0
    begins = np.arange(0, len(counts), batch)
    sizes = np.diff(begins, append=len(counts))
    return round(float(1 - counts.sum() / (np.maximum.reduceat(counts, begins) * sizes).sum()), 4)


class LongRow(NamedTuple):
    """A row that is too long: its place and its question, its tokens, and how many with loss a cut would lose."""

    source: Source
    question: str
    tokens: int
    lost: int


def too_long(long: Sequence[LongRow], limit: int) -> list[Finding]:
    """An `error` where rows have more than `limit` tokens: nothing is cut in silence."""
    if not long:
        return []
    what = f"{len(long)} rows have more than {limit} tokens, the longest {max(r.tokens for r in long)}; cut there they would lose " \
           f"{sum(r.tokens - limit for r in long)}, {sum(r.lost for r in long)} with loss"  # fmt: skip
    return [Finding("error", what, long[0].question, code="data.long", rows=tuple(str(r.source) for r in long[:SHOWN]),
                    cure="raise data.max_tokens (costs memory), or shorten the rows; nothing is cut in silence")]  # fmt: skip


def told(figures: Mapping[str, object]) -> list[str]:
    """The figures for a reader, in lines. Those that need a tokenizer are left out where they were not counted."""
    lines = []
    shape, padded = figures.get("lengths"), figures.get("padding")
    if isinstance(shape, dict) and shape["bars"]:
        lines.append(f"tokens a row: median {shape['median']}, 90 % up to {shape['p90']}, 99 % up to {shape['p99']}, longest {shape['longest']}")
        most = max(bar["rows"] for bar in shape["bars"])
        lines += [f"  up to {bar['to']:5} {'#' * math.ceil(40 * bar['rows'] / most):40} {bar['rows']}" for bar in shape["bars"]]
    if isinstance(padded, dict):
        lines.append(f"of a batch is padding: {padded['random']:.0%} of rows drawn at random, {padded['by_length']:.0%} of rows of like length, 0 % packed")
    for name, unit in (("turns", "answers a row"), ("languages", "languages"), ("categories", "categories")):
        counted = figures.get(name)
        if isinstance(counted, dict) and counted:
            shown = [f"{key} {count}" for key, count in list(counted.items())[:8]]
            lines.append(f"{unit}: {', '.join(shown)}" + f" and {len(counted) - 8} more" * (len(counted) > 8))
    repeated = figures.get("repeated")
    lines += [f"said in {r['rows']} rows: {r['answer'][:100]!r}" for r in repeated] if isinstance(repeated, list) else []
    return lines
