"""What stands in rows and should not: marks of templates, placeholders, wrong decoding, other languages, secrets, personal data.

Each is asked of one row at a time, so that all of them are done in one pass and no row is kept.
"""

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lorikeet.data.rows import Row
from lorikeet.evidence import Finding, Severity
from lorikeet.private import personal_kind, secret_kind
from lorikeet.sickness import TEMPLATE_MARKS

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SHOWN = 10
"""Rows that a finding names, at most."""
BLED = 0.01
"""Share of the rows from which names of speakers inside answers are an error."""
ENOUGH_TO_TELL, SURE = 8, 0.9
"""Words of a row from which its language is asked for, and the confidence from which another than the most counts."""


@dataclass
class Tally:
    """Rows in which something was found: how many of how many, what in the first, and where the first ones stand."""

    asked: int = 0
    rows: int = 0
    found: Counter[str] = field(default_factory=Counter)
    first: Row | None = None
    mark: str = ""
    places: list[str] = field(default_factory=list)

    def add(self, row: Row, marks: Sequence[str]) -> None:
        self.asked += 1
        if not marks:
            return
        if self.first is None:
            self.first, self.mark = row, marks[0]
        self.rows += 1
        self.found.update(marks)
        self.places += [str(row.conversation.source)] * (len(self.places) < SHOWN)

    def finding(self, severity: Severity, code: str, what: str, excerpt: str, cure: str) -> list[Finding]:
        return [Finding(severity, what, excerpt, code=code, rows=tuple(self.places), cure=cure)]

    @property
    def question(self) -> str:
        return self.first.conversation.question if self.first else ""

    @property
    def answer(self) -> str:
        return self.first.conversation.answer[:200] if self.first else ""


_MARKERS = re.compile(rf"{TEMPLATE_MARKS}|^#{{2,3}} (?:Instruction|Response|Input):", re.M)
_SPEAKERS = re.compile(r"^(?:user|human|assistant|question|instruction)\s*:", re.M | re.I)


def mark_in(row: Row) -> list[str]:
    """The first mark of a chat template inside a turn: another template's text, or two turns in one."""
    return [m.group() for turn in row.conversation.messages if (m := _MARKERS.search(turn.content))][:1]


def _bled_markers(tally: Tally) -> list[Finding]:
    return tally.finding("error", "data.roles.bleed", f"{tally.rows} rows carry marks of a chat template inside a turn, as {tally.mark!r}", tally.question,
                         "write plain turns: the template is put around them here, and marks inside them end a turn in its midst")  # fmt: skip


def speaker_in(row: Row) -> list[str]:
    """The speaker who is named at the start of a line of an answer: the next turn, taken into this one."""
    return [m.group() for turn in row.conversation.messages if turn.role == "assistant" and (m := _SPEAKERS.search(turn.content))][:1]


def _bled_speakers(tally: Tally) -> list[Finding]:
    return tally.finding("error" if tally.rows >= max(3, BLED * tally.asked) else "warning", "data.roles.bleed",
                         f"{tally.rows} answers name a speaker at the start of a line, as 'User:'", tally.answer,
                         "part them into turns: a model trained so goes on as the user")  # fmt: skip


_PLACEHOLDERS = re.compile(
    r"\{\{ ?\w+ ?\}\}|\[(?:insert|your|name|date|company|todo)\b[^\]\n]{0,40}\]|<(?:name|insert[^>\n]{0,40}|your[^>\n]{0,40})>|\blorem ipsum\b|\bTODO\b", re.I
)


def _placeholder_in(row: Row) -> list[str]:
    return [mark.group()] if (mark := _PLACEHOLDERS.search(row.conversation.answer)) else []


def _placeholders(tally: Tally) -> list[Finding]:
    return tally.finding("warning", "data.placeholder", f"{tally.rows} answers have a placeholder left in, as {tally.mark!r}", tally.answer,
                         "fill it in: the model will say it as it stands")  # fmt: skip


def decoded_wrongly(row: Row) -> list[str]:
    """The beginning of the first text that was decoded as something that it is not, as ftfy judges it."""
    from ftfy.badness import is_bad

    return [turn.content[:200] for turn in row.conversation.messages if is_bad(turn.content)][:1]


def _mojibake(tally: Tally) -> list[Finding]:
    return tally.finding("warning", "data.mojibake", f"{tally.rows} rows hold text decoded wrongly", tally.mark,
                         "read the source in its own encoding, or let `check --fix` mend it")  # fmt: skip


_ALIKE = ("LATIN", "CYRILLIC")
"""Scripts with letters that look like one another's and never stand in one word, as Greek ones may in a science's."""
_OUTSIDE_ASCII = re.compile(r"\w*[^\W\x00-\x7f]\w*")


def _mixed_in(row: Row) -> list[str]:
    """The first word of letters from two scripts that look alike: copied from a page that hides its words so, or typed with the wrong layout."""
    return [word for turn in row.conversation.messages if not turn.content.isascii() for word in _mixed_words(turn.content)][:1]


def _mixed_scripts(tally: Tally) -> list[Finding]:
    return tally.finding("warning", "data.scripts.mixed", f"{tally.rows} rows have words of two scripts, as {tally.mark!r}", tally.question,
                         "retype the word: the model sees other letters than a reader")  # fmt: skip


def _mixed_words(text: str) -> Iterator[str]:
    for word in _OUTSIDE_ASCII.findall(text):
        if len({script for letter in word if letter.isalpha() and (script := unicodedata.name(letter, "").split(" ")[0]) in _ALIKE}) > 1:
            yield word


def secret_in(row: Row) -> list[str]:
    """The kind of the first secret in a row. Asked within `knowing_secrets`."""
    return [kind for turn in row.conversation.messages if (kind := secret_kind(turn.content))][:1]


def _secrets(tally: Tally) -> list[Finding]:
    return tally.finding("error", "data.secret", f"{tally.rows} rows hold a secret ({', '.join(sorted(tally.found))})", "",
                         "remove it from the rows, and change it where it is used: it has been in a file")  # fmt: skip


def personal_in(row: Row) -> list[str]:
    """Mail addresses, telephone numbers with their country, card and account numbers whose check digits are right: the first kind in each turn."""
    return [kind for turn in row.conversation.messages if (kind := personal_kind(turn.content))]


def _personal(tally: Tally) -> list[Finding]:
    kinds = ", ".join(f"{kind} {count}" for kind, count in tally.found.most_common())
    return tally.finding("warning", "data.personal", f"{tally.found.total()} turns hold personal data ({kinds})", "",
                         "put made-up ones in their place: a model can give back what it was trained on")  # fmt: skip


_CHECKS: tuple[tuple[Callable[[Row], list[str]], Callable[[Tally], list[Finding]]], ...] = (
    (mark_in, _bled_markers), (speaker_in, _bled_speakers), (_placeholder_in, _placeholders), (decoded_wrongly, _mojibake),
    (_mixed_in, _mixed_scripts), (secret_in, _secrets), (personal_in, _personal),
)  # fmt: skip
"""What is asked of a row, and what is said of those in which it was found, in the order in which they are told."""


class Contents:
    """What stands in the rows seen so far, seen within `knowing_secrets`."""

    def __init__(self) -> None:
        self._tallies = [Tally() for _ in _CHECKS]
        self.languages = Languages()

    def see(self, row: Row) -> None:
        for (look, _), tally in zip(_CHECKS, self._tallies, strict=True):
            tally.add(row, look(row))
        self.languages.see(row)

    def findings(self, rows: Sequence[Row]) -> list[Finding]:
        """What is to be said; `rows` are those that were seen."""
        found = [tell(tally) for (_, tell), tally in zip(_CHECKS, self._tallies, strict=True) if tally.rows]
        return [finding for findings in [*found, self.languages.findings(rows)] for finding in findings]


class Languages:
    """The taught rows' languages, as py3langid tells them from the whole of a row's words; short rows are left out."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._codes: dict[str, int] = {}
        self._rows, self._language, self._sure = array("q"), array("h"), array("b")
        self._seen = 0

    def see(self, row: Row) -> None:
        self._seen += 1
        if row.kind != "taught":
            return
        text = " ".join(message.content for message in row.conversation.messages if message.role != "system")
        if len(text.split()) >= ENOUGH_TO_TELL:
            language, confidence = _identifier().classify(text)
            self.counts[language] += 1
            self._rows.append(self._seen - 1)
            self._language.append(self._codes.setdefault(language, len(self._codes)))
            self._sure.append(confidence >= SURE)

    def findings(self, rows: Sequence[Row]) -> list[Finding]:
        """Rows that are surely in another language than most."""
        if len(self.counts) < 2:
            return []
        most, languages = self.counts.most_common(1)[0][0], np.array(self._language)
        others = np.flatnonzero((languages != self._codes[most]) & np.array(self._sure, bool))
        if not len(others):
            return []
        names = list(self._codes)
        listed = ", ".join(f"{language} {count}" for language, count in Counter(names[n] for n in languages[others]).most_common(4))
        shown = [rows[self._rows[n]].conversation for n in others[:SHOWN].tolist()]
        return [Finding("warning", f"{len(others)} rows seem to be in another language than the others, which are in {most!r}: {listed}", shown[0].question,
                        code="data.languages", rows=tuple(str(talk.source) for talk in shown),
                        cure="remove them, or see to it that the suite asks in each language that is taught")]  # fmt: skip


@lru_cache(maxsize=1)
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
