"""Questions that say nearly the same: pairs of texts by the overlap of their words, in every script."""

import math
import tempfile
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import IO

import numpy as np

from lorikeet.scoring import words_of

NEAR = 0.8
"""Jaccard overlap of words from which two questions are near duplicates."""
_NEAR = Fraction(str(NEAR))
CANDIDATES, COMPARED = 1_000_000, 20_000_000
"""Candidate pairs, and comparisons of words, that are held in memory at a time."""
WORDS = 1 << 20
"""Words that are numbered at a time."""

Wanted = Callable[["np.ndarray", "np.ndarray"], "np.ndarray"]
"""Says of pairs, given as the positions of their first texts and of their second ones, which are wanted."""


def tokens_of(text: str) -> frozenset[str]:
    """The words of a text; in scripts that put no space between words every character is one."""
    return frozenset(token for word in words_of(text) for token in (word if _is_wide(word) else (word,)))


def _is_wide(word: str) -> bool:
    if word.isascii():
        return False
    return any(unicodedata.east_asian_width(character) in "WF" for character in word) or any("\u0e00" <= character <= "\u0eff" for character in word)


def near_pairs(texts: Iterable[str], wanted: Wanted | None = None) -> Iterator["np.ndarray"]:
    """Every pair whose overlap is at least NEAR, exactly, some at a time: an array of two positions a row, the lower first. A pair may come
    twice; texts without a word have none. Pairs that are not `wanted` are not compared, which is asked anew for each lot.

    By prefix filtering (Bayardo, Ma and Srikant 2007; by lengths and places as Xiao et al. 2008): words are put in the order of their rarity,
    and two sets that are near share one of their first few words, since enough has to stand behind it in both. Words are told apart by
    hashes of 64 bits. Memory holds 4 bytes a word.
    """
    by_size = _by_size(texts)
    for size, other in ((size, other) for size in by_size for other in by_size if _NEAR * other <= size <= other):
        enough = math.ceil(_NEAR / (1 + _NEAR) * (size + other))  # words that two near sets of these sizes share, at least
        one, two = by_size[size], by_size[other]
        for pairs in _joined(_first(one, size - enough + 1), _first(two, other - enough + 1)):
            first, second = one[0][pairs[:, 0]], two[0][pairs[:, 1]]
            kept = first != second if wanted is None else (first != second) & wanted(first, second)
            if len(near := pairs[kept][_near(pairs[kept], one[1], two[1], enough)]):
                yield np.unique(np.sort(np.stack([one[0][near[:, 0]], two[0][near[:, 1]]], axis=1), axis=1), axis=0)


_Sets = tuple["np.ndarray", "np.ndarray"]
"""Numbers of texts, ascending, and a matrix of their words, a row a text, rare words first."""


def _by_size(texts: Iterable[str]) -> dict[int, _Sets]:
    """The texts' sets of words by their size, each word as its rank by rarity. Words wait in a file until all of them are known."""
    sizes, waiting = array("i"), array("q")
    with tempfile.TemporaryFile() as file:
        for text in texts:
            tokens = tokens_of(text)
            sizes.append(len(tokens))
            waiting.extend(map(hash, tokens))
            if len(waiting) >= WORDS:
                file.write(waiting)
                waiting = array("q")
        file.write(waiting)
        known, rank = _vocabulary(file)
        return _ranked(np.array(sizes, np.int32), known, rank, file)


def _words(file: IO[bytes], count: int) -> "np.ndarray":
    return np.frombuffer(file.read(8 * count), np.int64)


def _vocabulary(file: IO[bytes]) -> _Sets:
    """All words of the file, sorted, and the rank of each by rarity."""
    known, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    file.seek(0)
    while len(block := _words(file, WORDS)):
        words, times = np.unique(block, return_counts=True)
        merged = np.union1d(known, words)
        summed = np.zeros(len(merged), np.int64)
        summed[np.searchsorted(merged, known)] = counts
        summed[np.searchsorted(merged, words)] += times
        known, counts = merged, summed
    rank = np.empty(len(known), np.int32)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(known), dtype=np.int32)
    return known, rank


def _ranked(sizes: "np.ndarray", known: "np.ndarray", rank: "np.ndarray", file: IO[bytes]) -> dict[int, _Sets]:
    """The file's words, set behind set, as a matrix for each size of set."""
    sets = {int(size): (np.flatnonzero(sizes == size).astype(np.int32), np.empty((count, size), np.int32))
            for size, count in zip(*np.unique(sizes[sizes > 0], return_counts=True), strict=True)}  # fmt: skip
    filled = dict.fromkeys(sets, 0)
    file.seek(0)
    ends = np.cumsum(sizes, dtype=np.int64)
    at = 0
    while at < len(sizes):
        upto = max(at + 1, int(np.searchsorted(ends, (ends[at - 1] if at else 0) + WORDS, side="right")))
        here = sizes[at:upto]
        words = rank[np.searchsorted(known, _words(file, int(here.sum())))]
        begins = np.cumsum(here) - here
        for size in np.unique(here[here > 0]).tolist():
            having = begins[here == size]
            place = filled[size]
            sets[size][1][place : place + len(having)] = np.sort(words[having[:, None] + np.arange(size)], axis=1)
            filled[size] += len(having)
        at = upto
    return sets


def _first(sets: _Sets, count: int) -> _Sets:
    """Row positions and one word, for each of the first words of each set, in the order of the words."""
    words = sets[1][:, :count].ravel()
    order = np.argsort(words, kind="stable")
    return order // count, words[order]


def _joined(one: _Sets, other: _Sets) -> Iterator["np.ndarray"]:
    """Pairs of row positions whose word is the same, some CANDIDATES at a time."""
    starts, ends = (np.searchsorted(other[1], one[1], side) for side in ("left", "right"))
    having = np.flatnonzero(ends > starts)
    counts = (ends - starts)[having]
    for part in np.array_split(having, max(1, math.ceil(counts.sum() / CANDIDATES))) if len(having) else ():
        count = (ends - starts)[part]
        left = np.repeat(part, count)
        right = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(starts[part], count)
        yield np.stack([one[0][left], other[0][right]], axis=1)


def _near(pairs: "np.ndarray", one: "np.ndarray", other: "np.ndarray", enough: int) -> "np.ndarray":
    """Which pairs of rows of two matrices of words share enough of them."""
    step = max(1, COMPARED // (one.shape[1] * other.shape[1]))
    lots = (pairs[n : n + step] for n in range(0, len(pairs), step))
    shared = [(one[lot[:, 0]][:, :, None] == other[lot[:, 1]][:, None, :]).sum((1, 2)) >= enough for lot in lots]
    return np.concatenate(shared) if shared else np.zeros(0, bool)
