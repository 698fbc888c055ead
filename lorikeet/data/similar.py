"""Questions that say nearly the same: pairs of texts by the overlap of their words, in every script."""

import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from lorikeet.scoring import words_of

NEAR = 0.8
"""Jaccard overlap of words from which two questions are near duplicates."""
_NEAR = Fraction(str(NEAR))
CANDIDATES, COMPARED = 1_000_000, 20_000_000
"""Candidate pairs, and comparisons of words, that are held in memory at a time."""


class Pair(NamedTuple):
    """Positions of two texts, the first before the second, and their overlap."""

    first: int
    second: int
    overlap: float


def tokens_of(text: str) -> frozenset[str]:
    """The words of a text; in scripts that put no space between words every character is one."""
    return frozenset(token for word in words_of(text) for token in (word if _is_wide(word) else (word,)))


def _is_wide(word: str) -> bool:
    return any(unicodedata.east_asian_width(character) in "WF" for character in word) or any("\u0e00" <= character <= "\u0eff" for character in word)


@lru_cache(maxsize=1)
def near_pairs(texts: tuple[str, ...]) -> list[Pair]:
    """Every pair whose overlap is at least NEAR, exactly, in order; texts without a word have none.

    By prefix filtering (Bayardo, Ma and Srikant 2007; by lengths and places as Xiao et al. 2008): words are put in the order of their rarity,
    and two sets that are near share one of their first few words, since enough has to stand behind it in both. The last result is
    kept: a split and the checks on it ask for the same texts.
    """
    by_size = _by_size(texts)
    found = []
    for size, other in ((size, other) for size in by_size for other in by_size if _NEAR * other <= size <= other):
        wanted = math.ceil(_NEAR / (1 + _NEAR) * (size + other))  # words that two near sets of these sizes share, at least
        one, two = by_size[size], by_size[other]
        found += [_verified(pairs, one, two, wanted) for pairs in _joined(_first(one, size - wanted + 1), _first(two, other - wanted + 1))]
    if not found:
        return []
    unique = np.unique(np.concatenate(found), axis=0)
    return [Pair(int(first), int(second), float(overlap)) for first, second, overlap in unique]


_Sets = tuple["np.ndarray", "np.ndarray"]
"""Numbers of texts, ascending, and a matrix of their words, a row a text, rare words first."""


def _by_size(texts: Sequence[str]) -> dict[int, _Sets]:
    """The texts' sets of words by their size, each word as its rank by rarity."""
    numbers: dict[int, list[int]] = defaultdict(list)
    words: dict[int, list[int]] = defaultdict(list)
    known: dict[str, int] = {}
    for number, text in enumerate(texts):
        if tokens := tokens_of(text):
            numbers[len(tokens)].append(number)
            words[len(tokens)] += [known.setdefault(token, len(known)) for token in tokens]
    if not known:
        return {}
    flat = {size: np.array(ids, np.int32) for size, ids in words.items()}
    count = sum(np.bincount(ids, minlength=len(known)) for ids in flat.values())
    rank = np.empty(len(known), np.int32)
    rank[np.argsort(count, kind="stable")] = np.arange(len(known), dtype=np.int32)
    return {size: (np.array(numbers[size]), np.sort(rank[ids].reshape(-1, size), axis=1)) for size, ids in sorted(flat.items())}


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


def _verified(pairs: "np.ndarray", one: _Sets, other: _Sets, wanted: int) -> "np.ndarray":
    """Of candidates those that share the words wanted, as rows of: first text, second text, overlap."""
    if one is other:
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    first, second = one[0][pairs[:, 0]], other[0][pairs[:, 1]]
    size, with_size = one[1].shape[1], other[1].shape[1]
    step = max(1, COMPARED // (size * with_size))
    shared = [(one[1][p[:, 0]][:, :, None] == other[1][p[:, 1]][:, None, :]).sum((1, 2)) for p in (pairs[n : n + step] for n in range(0, len(pairs), step))]
    common = np.concatenate(shared) if shared else np.zeros(0, int)
    near = common >= wanted
    low, high = np.minimum(first, second)[near], np.maximum(first, second)[near]
    return np.stack([low, high, common[near] / (size + with_size - common[near])], axis=1)
