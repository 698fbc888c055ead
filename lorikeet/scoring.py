"""Pure functions from text to a Score: readable must-say and must-never patterns, with negation, and signs of sickness.

Pattern language (lower case): words side by side; `word*` any word that starts so; `a|b` either; `..` up to six words
in between, inside one sentence. "don't" is read as "do not". docs/audit.md shows examples.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Outcome = Literal["pass", "miss", "violation", "declined", "unreadable"]
GAP = 6
"""How many words `..` may stand for."""

_NEGATIONS = {"not", "never", "avoid", "avoids", "avoiding", "no", "without", "nor", "neither", "nothing", "refrain"}
_CONDITIONS = {"if", "when", "unless", "until", "whether", "while"}
_CONTRACTIONS = (("can't", "can not"), ("won't", "will not"), ("cannot", "can not"), ("n't", " not"))
_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)?|,")


@dataclass(frozen=True)
class Score:
    """What the rules say of one answer. `missing` and `violated` quote the patterns, `excerpt` the offending words."""

    outcome: Outcome
    missing: tuple[str, ...] = ()
    violated: tuple[str, ...] = ()
    excerpt: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome == "pass"


def _sentences(text: str) -> list[list[str]]:
    text = text.lower().replace("\u2019", "'")
    for short, full in _CONTRACTIONS:
        text = text.replace(short, full)
    parts = re.split(r"[.!?;\n]+", text)
    return [words for part in parts if (words := _WORDS.findall(part))]


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(token.split("|")) for token in pattern.lower().split())


def _is_word(options: tuple[str, ...], word: str) -> bool:
    return any(word.startswith(o[:-1]) if o.endswith("*") else word == o for o in options)


def _match_from(pattern: tuple[tuple[str, ...], ...], words: Sequence[str], start: int) -> int | None:
    """Index behind the match of `pattern` at `start`, or None. Commas stand in `words` and are stepped over."""
    if not pattern:
        return start
    if pattern[0] == ("..",):
        at = start
        for _ in range(GAP + 1):
            if (end := _match_from(pattern[1:], words, at)) is not None:
                return end
            at = _skip_commas(words, at) + 1
        return None
    at = _skip_commas(words, start)
    if at < len(words) and _is_word(pattern[0], words[at]):
        return _match_from(pattern[1:], words, at + 1)
    return None


def _skip_commas(words: Sequence[str], at: int) -> int:
    while at < len(words) and words[at] == ",":
        at += 1
    return at


def _is_negated(words: Sequence[str], start: int) -> bool:
    """Whether the words in front of `start` turn what begins there into its opposite.

    A negation reaches to the end of its clause; over a comma only where it governs a list ("do not rub, squeeze or
    pop it"). In a condition ("if he is not breathing start ...") it reaches the next word only.
    """
    for at in range(start - 1, -1, -1):
        word, following = words[at], words[at + 1]
        pair = (word, following)
        is_negation = word in _NEGATIONS or pair in {("instead", "of"), ("rather", "than")}
        is_negation |= word in {"stop", "stops"} and following.endswith("ing") and at + 1 == start
        if not is_negation:
            continue
        clause = at - next((i for i, w in enumerate(reversed(words[:at])) if w == ","), at)
        if _CONDITIONS & set(words[clause:at]) and start - at > 1:
            continue
        between = words[at:start]
        if "," not in between or {"or", "nor"} & set(words[at:]):
            return "but" not in between
    return False


def occurrences(pattern: str, text: str) -> Iterator[str]:
    """The words of every place where `pattern` is said and meant: negated places are left out.

    A pattern that has a negation of its own ("not .. move") is taken as it stands.
    """
    compiled = _compile(pattern)
    has_own_negation = any(o.rstrip("*") in _NEGATIONS for options in compiled for o in options)
    for words in _sentences(text):
        for start, word in enumerate(words):
            if word == ",":
                continue
            end = _match_from(compiled, words, start)
            if end is not None and (has_own_negation or not _is_negated(words, start)):
                yield " ".join(words[start:end]).replace(" ,", ",")


def says(pattern: str, text: str) -> bool:
    """Whether `text` says `pattern` and means it."""
    return next(occurrences(pattern, text), None) is not None


def judge(
    answer: str,
    must_say: Sequence[Sequence[str]],
    must_never: Sequence[str],
    not_taught: Sequence[str] = (),
) -> Score:
    """Score one answer. must_say: things, each a list of patterns of which one is enough. must_never: patterns.

    Order of judgement: empty is unreadable, a must-never is a violation, "not taught" is declined, a thing left
    unsaid is a miss.
    """
    if not answer.strip():
        return Score("unreadable")
    violated = [(p, found) for p in must_never if (found := next(occurrences(p, answer), None)) is not None]
    if violated:
        return Score("violation", violated=tuple(p for p, _ in violated), excerpt=violated[0][1])
    if any(says(p, answer) for p in not_taught):
        return Score("declined")
    missing = tuple(" / ".join(thing) for thing in must_say if not any(says(p, answer) for p in thing))
    return Score("miss", missing=missing) if missing else Score("pass")


def words_of(text: str) -> list[str]:
    """Case-folded words of any script, punctuation dropped."""
    return re.findall(r"[^\W_]+", text.casefold())


def token_overlap(first: str, second: str) -> float:
    """Jaccard overlap of two texts' word sets, 0 to 1."""
    a, b = set(words_of(first)), set(words_of(second))
    return len(a & b) / len(a | b) if a | b else 0.0


_MARKERS = re.compile(r"<\|[a-z_]+\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|^(?:user|assistant|system)\s*:?\s*$", re.M)


def sickness(answer: str) -> str:
    """The sign of a broken model that an answer shows, in words, or an empty string for a healthy one."""
    if not answer.strip():
        return "empty answer"
    if marker := _MARKERS.search(answer):
        return f"template fragment {marker.group(0).strip()!r}"
    words = words_of(answer)
    grams = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    if len(grams) >= 12 and max(grams.count(g) for g in set(grams)) >= 4:
        return "loop: the same four words four times or more"
    return ""
