"""Questions that say nearly the same: pairs of texts by the overlap of their words, in every script."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from lorikeet.scoring import words_of

NEAR = 0.8
"""Jaccard overlap of words from which two questions are near duplicates."""


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


def near_pairs(texts: Sequence[str], at_least: float = NEAR) -> list[Pair]:
    """Every pair whose overlap is at least so much, exactly; texts without a word have none. By an exact all-pairs search over word sets."""
    from SetSimilaritySearch import all_pairs

    sets = [tokens_of(text) for text in texts]
    filled = [number for number, words in enumerate(sets) if words]
    found = all_pairs([sets[number] for number in filled], similarity_func_name="jaccard", similarity_threshold=at_least) if len(filled) > 1 else ()
    return sorted(Pair(filled[min(a, b)], filled[max(a, b)], overlap) for a, b, overlap in found)
