"""What a data set looks like in figures: lengths in tokens, turns, languages, categories, repeated answers, padding against packing."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lorikeet.data.checks import is_wordings
from lorikeet.data.contents import languages, places
from lorikeet.data.split import Row
from lorikeet.evidence import Finding
from lorikeet.recipe import LoadedRecipe
from lorikeet.scoring import fold

BARS = 16
"""Bars of the histogram at most."""
REPEATED = 3
"""Rows from which an answer counts as repeated."""


def figures(recipe: LoadedRecipe, rows: Sequence[Row], lengths: np.ndarray, supervised: np.ndarray) -> dict[str, object]:
    """Everything that data.json holds. `lengths` and `supervised` count each row's tokens, and those with loss, as training sees them."""
    trained = np.array([row.part == "train" for row in rows])
    taught = [row for row in rows if row.kind == "taught"]
    return {
        "rows": len(rows),
        "split": "wordings" if is_wordings(rows) else "groups",
        "parts": dict(Counter(f"{row.kind}/{row.part}" for row in rows)),
        "answers": len({row.group for row in taught}),
        "tokens": int(lengths[trained].sum()),
        "supervised_tokens": int(supervised[trained].sum()),
        "longest": int(lengths.max()),
        "files": sorted({row.conversation.source.file for row in rows}),
        "system": recipe.persona.system,
        **shape(lengths[trained].tolist(), recipe.recipe.train.batch, recipe.recipe.seed),
        **words(rows),
    }


def shape(counts: Sequence[int], batch: int, seed: int) -> dict[str, object]:
    """How long the rows are, and what a batch of so many wastes on padding."""
    return {"lengths": lengths(counts), "padding": padding(counts, batch, seed)}


def words(rows: Sequence[Row]) -> dict[str, object]:
    """What can be counted without a tokenizer: question-answer turns a row, languages, categories, and answers of REPEATED rows or more."""
    answers = Counter(fold(row.conversation.answer) for row in rows)
    first = {fold(row.conversation.answer): row.conversation.answer for row in reversed(rows)}
    return {
        "turns": dict(sorted(Counter(sum(m.role == "assistant" for m in row.conversation.messages) for row in rows).items())),
        "languages": dict(Counter(told.language for told in languages(rows)).most_common()),
        "categories": dict(Counter(row.conversation.category for row in rows if row.conversation.category).most_common()),
        "repeated": [{"answer": first[said][:200], "rows": count} for said, count in answers.most_common(5) if count >= REPEATED],
    }


def lengths(counts: Sequence[int]) -> dict[str, object]:
    """Quantiles of the rows' lengths in tokens, and a histogram: each bar's upper end (included) and its rows."""
    ordered = sorted(counts)
    if not ordered:
        return {"median": 0, "p90": 0, "p99": 0, "longest": 0, "bars": []}
    width = max(1, math.ceil(ordered[-1] / BARS))
    bars = Counter((n - 1) // width for n in ordered)
    at = {name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99))}
    return {**at, "longest": ordered[-1], "bars": [{"to": (n + 1) * width, "rows": bars[n]} for n in range(max(bars) + 1)]}


def padding(counts: Sequence[int], batch: int, seed: int) -> dict[str, float]:
    """Share of a batch's places that hold no token: rows drawn at random, rows of like length together (as training does), and packed."""
    drawn = list(counts)
    random.Random(seed).shuffle(drawn)
    return {"random": _padded(drawn, batch), "by_length": _padded(sorted(counts), batch), "packed": 0.0}


def _padded(counts: Sequence[int], batch: int) -> float:
    batches = [counts[at : at + batch] for at in range(0, len(counts), batch)]
    places = sum(max(rows) * len(rows) for rows in batches)
    return round(1 - sum(counts) / places, 4) if places else 0.0


class LongRow(NamedTuple):
    """A row that is too long: its tokens, and how many with loss a cut would lose."""

    row: Row
    tokens: int
    lost: int


def too_long(long: Sequence[LongRow], limit: int) -> list[Finding]:
    """An `error` where rows have more than `limit` tokens: nothing is cut in silence."""
    if not long:
        return []
    what = f"{len(long)} rows have more than {limit} tokens, the longest {max(r.tokens for r in long)}; cut there they would lose " \
           f"{sum(r.tokens - limit for r in long)}, {sum(r.lost for r in long)} with loss"  # fmt: skip
    return [Finding("error", what, long[0].row.conversation.question[:200], code="data.long", rows=places([r.row for r in long]),
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
