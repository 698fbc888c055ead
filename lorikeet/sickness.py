"""Signs of a broken model that an answer shows, whatever was asked: nothing, template fragments, loops, gibberish, another script, and the opposite of what
the model's parent says. Tuned so that healthy answers show none; no suite is needed.
"""

import re
import unicodedata
from collections import Counter

from lorikeet.patterns import polarity, sentences
from lorikeet.scoring import words_of

TEMPLATE_MARKS = r"<\|[a-z0-9_]+\|>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
"""Pattern of what chat templates write around turns, and nobody inside them."""
_MARKERS = re.compile(
    rf"{TEMPLATE_MARKS}|</?s>|^(?:user|assistant|system)\s*(?::|$)|^#{{2,}} ?(?:instruction|response|input)\b",
    re.M | re.I,
)
_REPEATED = re.compile(r"\b([^\W\d_]+)(?:\W+\1\b){4}", re.I)
_RUN = re.compile(r"([^\s\d._=*#-])\1{7}")
_VOWELS = set("aeiouy")
_BROKEN_WORDS, _BROKEN_SHARE = 3, 0.1
"""Gibberish begins at so many words that are none, and at such a share of all."""
_FOREIGN_LETTERS = 3
_SAME_MATTER = 0.75
"""Overlap (Jaccard) of two sentences' words, negations aside, from which they speak of the same thing."""
_SHORTEST = 3
"""Words that a sentence needs to be held against another."""


def sickness(answer: str, question: str = "", parent: str = "") -> str:
    """The first sign of a broken model that an answer shows, in words, or an empty string for a healthy one.

    question: what was asked, whose scripts the answer may use. parent: the answer of the model that this one was made from, whose opposite it must not say.
    """
    if not answer.strip():
        return "empty answer"
    if marker := _MARKERS.search(answer):
        return f"template fragment {marker.group(0).strip()!r}"
    return _loop(answer) or _gibberish(answer) or _other_script(answer, question + parent) or (contradiction(answer, parent) if parent else "")


def _loop(answer: str) -> str:
    words = words_of(answer)
    grams = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
    if grams.total() >= 12 and max(grams.values()) >= 4:
        return "loop: the same four words four times or more"
    if found := _REPEATED.search(answer) or _RUN.search(answer):
        return f"loop: {found[1]!r} over and over"
    return ""


def _gibberish(answer: str) -> str:
    if "\ufffd" in answer:
        return "gibberish: bytes that are no text"
    words = re.findall(r"\w+", answer)
    broken = [word for word in words if _is_broken(word)]
    if len(broken) >= _BROKEN_WORDS and len(broken) >= _BROKEN_SHARE * len(words):
        return f"gibberish: {', '.join(map(repr, broken[:3]))}"
    signs = [c for c in answer if not c.isalnum() and not c.isspace()]
    if len(signs) > 20 and len(signs) > 0.4 * len(answer):
        return "gibberish: more signs than words"
    return ""


def _is_broken(word: str) -> bool:
    """Whether a word is none: capitals inside it, digits among its letters, no vowel, or too long. Abbreviations are words."""
    if not word.isascii() or word.isupper() or word.isdigit():
        return False
    if len(word) > 24 or re.search(r"[a-z][A-Z]", word):
        return True
    letters = re.sub(r"\d+", "", word)
    if letters != word:
        return re.fullmatch(r"\d+[a-z]{1,4}|[A-Za-z]{1,5}\d{1,3}", word) is None
    return len(word) > 3 and not _VOWELS & set(word.lower())


def _other_script(answer: str, allowed: str) -> str:
    known = {_script(c) for c in allowed if c.isalpha()} | {"LATIN"}
    foreign = [c for c in answer if c.isalpha() and _script(c) not in known]
    return f"another script: {''.join(foreign[:8])!r}" if len(foreign) >= _FOREIGN_LETTERS else ""


def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").split()[0]


def contradiction(answer: str, parent: str) -> str:
    """A sentence of the answer that says the opposite of one of its parent's, or an empty string."""
    theirs = [polarity(words) for words in sentences(parent) if len(words) >= _SHORTEST]
    for words in sentences(answer):
        if len(words) < _SHORTEST:
            continue
        matter, negated = polarity(words)
        alike = [(len(matter & other) / len(matter | other), other_negated) for other, other_negated in theirs if matter | other]
        nearest = max((overlap for overlap, _ in alike), default=0.0)
        if nearest >= _SAME_MATTER and all(other_negated != negated for overlap, other_negated in alike if overlap == nearest):
            return f"the opposite of what its parent says: {' '.join(words)!r}"
    return ""
