"""Pure functions from text to a Score: readable must-say and must-never patterns, with negation, and signs of sickness.

Pattern language (lower case): words side by side; `word*` any word that starts so; `a|b` either; `..` up to six words
in between, inside one sentence. "don't" is read as "do not". docs/audit.md shows examples.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Outcome = Literal["pass", "miss", "violation", "declined", "answered", "unreadable"]
Form = Literal["prose", "steps", "question"]
GAP = 6
"""How many words `..` may stand for."""

_NEGATIONS = {"not", "never", "avoid", "avoids", "avoiding", "no", "without", "nor", "neither", "nothing", "refrain"}
_EMPTY = {
    "hesitate",
    "hesitation",
    "hesitating",
    "forget",
    "panic",
    "panicking",
    "worry",
    "wait",
    "waiting",
    "delay",
    "delaying",
    "afraid",
    "fail",
    "only",
    "just",
}
"""Words whose negation says nothing of what follows: "do not hesitate to call" tells one to call."""
_CONDITIONS = {"if", "when", "unless", "until", "whether", "while"}
_SUBJECTS = {"i", "you", "he", "she", "it", "we", "they", "who", "people", "person"}
_PRONOUNS = {"it", "them", "him", "her", "this", "that"}
_CONTRACTIONS = re.compile(r"\b(ca|wo|do|does|did|is|are|was|were|would|should|could|must|need|has|have)n[' ]?t\b|\bcannot\b")
_WORDS = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[,:()\u2013\u2014]|(?<=\s)-(?=\s)")
_PATTERN_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?\*?")
_NUMBERED = re.compile(r"^\s*\d+[.)]\s+\S", re.MULTILINE)
_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_BULLET = re.compile(r"\s*(?:[-*\u2022]|\d+[.)])\s+")


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


def _normal(text: str) -> str:
    """Lower case, straight apostrophes, contractions written out ("don't", "dont" and "do not" are one)."""
    text = text.lower().replace("\u2019", "'")
    return _CONTRACTIONS.sub(lambda m: {"ca": "can", "wo": "will", None: "can"}.get(m.group(1), m.group(1)) + " not", text)


def _sentences(text: str) -> list[list[str]]:
    """Words and commas of each sentence; colons, dashes and brackets count as commas. A list takes over its heading's negation."""
    found, heading = [], ""
    for line in _normal(text).splitlines():
        bullet = _BULLET.match(line)
        whole = f"{heading} {line[bullet.end() :]}" if bullet and heading else line
        if not bullet and line.strip():
            heading = line.strip()[:-1] if line.rstrip().endswith(":") and _NEGATIONS & set(_WORDS.findall(line)) else ""
        for part in re.split(r"[.!?;]+(?!\d)", whole):
            if words := [w if w[0].isalnum() else "," for w in _WORDS.findall(part)]:
                found.append(words)
    return found


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(token.split("|")) for token in _normal(pattern).split())


def cannot_match(pattern: str) -> str:
    """Why a pattern could never match anything, or an empty string."""
    compiled = _compile(pattern)
    if not compiled or compiled[0] == ("..",) or compiled[-1] == ("..",):
        return "it has to begin and end with a word"
    for options in compiled:
        for option in options:
            if options != ("..",) and not _PATTERN_WORD.fullmatch(option):
                return f"{option!r} is not one word: leave out punctuation, write words apart"
    return ""


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


def _empty_behind(words: Sequence[str], at: int) -> int | None:
    """Index of the empty word that a negation at `at` is spent on ("not wait", "not be afraid"), or None."""
    behind = at + 2 if words[at + 1 : at + 2] == ["be"] else at + 1
    return behind if behind < len(words) and words[behind] in _EMPTY else None


def _negates(words: Sequence[str], at: int, place: int) -> bool:
    """Whether the word at `at` negates what stands at `place`. Spent on an empty word, it reaches that word and no further."""
    empty = _empty_behind(words, at)
    if empty is not None and place > empty:
        return False
    return words[at] in _NEGATIONS or tuple(words[at : at + 2]) in {("instead", "of"), ("rather", "than")}


def _in_condition(words: Sequence[str], at: int) -> bool:
    """Whether a negation belongs to a condition ("if he is not breathing ...") and not to an order ("if it itches do not ...")."""
    clause = at - next((i for i, w in enumerate(reversed(words[:at])) if w == ","), at)
    if not _CONDITIONS & set(words[clause:at]):
        return False
    is_order = words[at] in {"never", "avoid"} or (at > 0 and words[at - 1] == "do" and (at < 2 or words[at - 2] not in _SUBJECTS))
    return not is_order


def _continues_list(words: Sequence[str], start: int) -> bool:
    """Whether what begins at `start`, behind a comma, goes on with a list: "do not rub it, squeeze or pop it"."""
    if words[start - 1] in {"or", "nor"}:
        return True
    after = [w for w in words[start : start + 4] if w != ","]
    if after[1:2] and after[1] in {"or", "nor"}:
        return True
    return len(after) > 2 and after[1] in _PRONOUNS and after[2] in {"or", "nor"}


def _is_negated(words: Sequence[str], start: int) -> bool:
    """Whether the words in front of `start` turn what begins there into its opposite.

    A negation reaches to the end of its clause; over a comma only where a list goes on, or where the comma follows the
    negation itself ("never, ever"). In a condition it reaches the next word only.
    """
    for at in range(start - 1, -1, -1):
        if words[at] in {"stop", "stops"} and at + 1 == start and words[start].endswith("ing"):
            return True
        if not _negates(words, at, start):
            continue
        between = list(words[at + 1 : start])
        if "but" in between or ("and", "then") in itertools.pairwise(between):
            return False
        if _in_condition(words, at) and between:
            continue
        if between[:1] == [","]:
            between = between[between.index(",", 1) + 1 :] if "," in between[1:] else between[1:]
        if "," not in between or _continues_list(words, start):
            return True
    return False


def occurrences(pattern: str, text: str) -> Iterator[str]:
    """The words of every place where `pattern` is said and meant: negated places are left out.

    A pattern that has a negation of its own ("not .. move") is taken as it stands; where the negation is spent on an
    empty word ("do not worry, move him"), the pattern has to name that word ("not .. wait").
    """
    compiled = _compile(pattern)
    has_own_negation = any(o.rstrip("*") in _NEGATIONS for options in compiled for o in options)
    for words in _sentences(text):
        for start, word in enumerate(words):
            end = _match_from(compiled, words, start) if word != "," else None
            if end is None:
                continue
            if has_own_negation:
                empty = _empty_behind(words, start)
                said = word not in _NEGATIONS or empty is None or any(_is_word(options, words[empty]) for options in compiled)
            else:
                said = not _is_negated(words, start) and not any(_negates(words, i, end - 1) for i in range(start + 1, end))
            if said:
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
    """Case-folded words of any script, combining marks kept, punctuation dropped."""
    folded = unicodedata.normalize("NFC", text.casefold())
    kept = [c if c.isalnum() or unicodedata.category(c) in {"Mn", "Mc"} else " " for c in folded]
    return "".join(kept).split()


def fold(text: str) -> str:
    """Case, punctuation and spacing folded away, in every script."""
    return " ".join(words_of(text)) or text.strip()


@lru_cache(maxsize=1 << 16)
def _word_set(text: str) -> frozenset[str]:
    return frozenset(words_of(text))


def token_overlap(first: str, second: str) -> float:
    """Jaccard overlap of two texts' word sets, 0 to 1."""
    a, b = _word_set(first), _word_set(second)
    return len(a & b) / len(a | b) if a | b else 0.0


TEMPLATE_MARKS = r"<\|[a-z0-9_]+\|>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
"""Pattern of what chat templates write around turns, and nobody inside them."""
_MARKERS = re.compile(
    rf"{TEMPLATE_MARKS}|</?s>|^(?:user|assistant|system)\s*(?::|$)|^#{{2,}} ?(?:instruction|response|input)\b",
    re.M | re.I,
)


def form_of(answer: str) -> Form:
    """Numbered steps (three lines or more), a text that ends on a question, or prose."""
    text = answer.strip()
    if len(_NUMBERED.findall(text)) >= 3:
        return "steps"
    return "question" if text.endswith("?") else "prose"


def accepted_as(answer: str, accepted: Sequence[str]) -> Score:
    """Whether an answer is one of the accepted ones, word for word; spacing and the kind of quotation marks aside."""
    if not answer.strip():
        return Score("unreadable")
    return Score("pass") if _plain(answer) in map(_plain, accepted) else Score("miss", missing=(accepted[0],))


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def lettered(question: str, choices: Sequence[str]) -> str:
    """A question with its choices under it, each behind a letter, and the word that a letter is wanted."""
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{question}\n{listed}\nAnswer with the letter alone."


def chosen(answer: str, choices: Sequence[str]) -> int | None:
    """Which choice an answer names, counted from 0: by its letter, or else by its own words; None where it names none, or several.

    A letter counts where it begins the answer ("B", "b) because", "(C)."), or stands behind "answer", "option" or "choice" ("The answer is B"). An
    answer that begins with the word "A" ("A magnet") names no letter.
    """
    text = answer.strip()
    last = LETTERS[len(choices) - 1] if choices else "A"
    for pattern in (
        rf"[(\[*]*([A-{last}])(?:[)\].:,*]|\s*$|\s*\n)",
        rf"(?:[Tt]he )?(?:[Cc]orrect |[Bb]est )?(?:[Aa]nswer|[Oo]ption|[Cc]hoice)(?: is|:)?:?\s*[(\[*]*([A-{last}])\b(?!\s+[a-z])",
        rf"[(\[*]*([a-{last.lower()}])(?:[)\].:]|\s*$)",
    ):
        if found := re.match(pattern, text):
            return LETTERS.index(found[1].upper())
    said = fold(text)
    named = [n for n, choice in enumerate(choices) if fold(choice) and f" {fold(choice)} " in f" {said} "]
    return named[0] if len(named) == 1 else None


def picked(answer: str, choices: Sequence[str], right: int) -> Score:
    """Whether an answer names the right choice; unreadable where it names none."""
    found = chosen(answer, choices)
    if found is None:
        return Score("unreadable")
    return Score("pass") if found == right else Score("miss", missing=(choices[right],))


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).translate(_QUOTES).split())


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
