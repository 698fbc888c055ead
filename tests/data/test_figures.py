"""Figures of a data set: bars hold every row, and padding is what batches of that size would hold."""

from typing import Any

import numpy as np
import pytest

from lorikeet.conversation import Source, conversation
from lorikeet.data import figures
from lorikeet.data.figures import BARS, LongRow, told, too_long
from lorikeet.data.rows import Row
from lorikeet.data.survey import survey
from lorikeet.progress import Silent


def lengths(counts: list[int]) -> dict[str, Any]:
    return figures.lengths(np.array(counts))


def padding(counts: list[int], batch: int, seed: int) -> dict[str, float]:
    return figures.padding(np.array(counts), batch, seed)


def words(rows: list[Row]) -> dict[str, object]:
    return figures.words(survey(rows, Silent()))


def row(question: str, answer: str, category: str = "", *more: tuple[str, str]) -> Row:
    return Row(conversation([("user", question), ("assistant", answer), *more], Source("rows.jsonl", 1), category=category), "train", "g", "taught")


@pytest.mark.parametrize("counts", [[1], [1, 1, 2], list(range(1, 17)), list(range(1, 18)), [3, 1000], [5] * 40])
def test_bars_hold_every_row_in_its_place(counts: list[int]) -> None:
    bars = lengths(counts)["bars"]
    assert isinstance(bars, list)
    assert len(bars) <= BARS
    assert sum(bar["rows"] for bar in bars) == len(counts)
    below = [sum(b["rows"] for b in bars[: n + 1]) for n in range(len(bars))]
    assert below == [sum(count <= bar["to"] for count in counts) for bar in bars]


def test_quantiles_are_of_the_rows() -> None:
    shape = lengths([*range(1, 101)])
    assert (shape["median"], shape["p90"], shape["p99"], shape["longest"]) == (51, 91, 100, 100)


def test_padding_is_the_share_of_places_without_a_token() -> None:
    assert padding([10, 10, 10, 10], 2, 7) == {"random": 0.0, "by_length": 0.0, "packed": 0.0}
    found = padding([1, 9] * 50, 2, 7)
    assert found["by_length"] == 0.0
    assert 0.1 < found["random"] < 0.4
    assert padding([2, 4], 2, 7)["random"] == 0.25


def test_what_needs_no_tokenizer_is_counted() -> None:
    rows = [row(f"Question number {n} of the long list of them?", "Say it.", "b" if n else "a") for n in range(3)]
    rows.append(row("q", "a", "b", ("user", "more"), ("assistant", "yes")))
    assert words(rows) == {"turns": {1: 3, 2: 1}, "languages": {"en": 3}, "categories": {"b": 3, "a": 1}, "repeated": [{"answer": "Say it.", "rows": 3}]}


def test_long_rows_are_an_error_that_says_what_a_cut_would_cost() -> None:
    (found,) = too_long([LongRow(Source("rows.jsonl", 1), "long q", 14, 4)], 10)
    assert (found.code, found.severity, found.excerpt) == ("data.long", "error", "long q")
    assert found.what == "1 rows have more than 10 tokens, the longest 14; cut there they would lose 4, 4 with loss"
    assert too_long([], 10) == []


def test_figures_are_told_with_a_bar_a_line() -> None:
    text = "\n".join(told({"lengths": lengths([3, 3, 40]), "padding": padding([3, 3, 40], 2, 7), **words([row("q", "a", "c")])}))
    assert "median 3, 90 % up to 40, 99 % up to 40, longest 40" in text
    assert text.count("#" * 40) == 1
    assert "categories: c 1" in text
