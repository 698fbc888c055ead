"""Questions that say nearly the same: pairs of texts by the overlap of their words, in every script."""

import unicodedata
from functools import lru_cache
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


@lru_cache(maxsize=1)
def near_pairs(texts: tuple[str, ...]) -> list[Pair]:
    """Every pair whose overlap is at least NEAR, exactly; texts without a word have none. By an exact all-pairs search over word sets.

    The last result is kept: a split and the checks on it ask for the same texts.
    """
    from SetSimilaritySearch import all_pairs

    sets = [tokens_of(text) for text in texts]
    filled = [number for number, words in enumerate(sets) if words]
    found = all_pairs([sets[number] for number in filled], similarity_func_name="jaccard", similarity_threshold=NEAR) if len(filled) > 1 else ()
    return sorted(Pair(filled[min(a, b)], filled[max(a, b)], overlap) for a, b, overlap in found)
