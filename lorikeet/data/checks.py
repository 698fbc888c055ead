"""Checks on the rows before anything is trained: each has a stable code, a severity, examples and a cure.

Here is what rows are to one another and to the split; what stands in them is in contents.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lorikeet.data.contents import SHOWN
from lorikeet.data.rows import KINDS, TEST, TRAIN, alike, context
from lorikeet.data.similar import NEAR, near_pairs
from lorikeet.data.survey import Survey
from lorikeet.evidence import Finding, Severity
from lorikeet.scoring import fold
from lorikeet.suite import Suite, place_of

FEW_ROWS = 50
FEW_FOR_MANY, MANY_EPOCHS = 1000, 5
"""Rows below which more passes than this are a warning."""
CONCENTRATED, FAR_TOO_CONCENTRATED = 0.1, 0.25
"""Shares of the rows from which one answer is a warning, and an error: a model that gives it to everything has a low loss."""
SAID_BY_CHANCE = 4
"""Words from which two answers are not the same by chance."""


def run_checks(seen: Survey) -> list[Finding]:
    """All findings on a split data set, the worst first. An `error` must stop training."""
    checks: tuple[Callable[[Survey], list[Finding]], ...] = (
        _leaks, _near_leaks, _answer_leaks, _concentrated, _duplicates, _conflicts, _contents, _refusals, _too_few,
    )  # fmt: skip
    found = [finding for check in checks for finding in check(seen)]
    return sorted(found, key=lambda f: ("error", "warning", "note").index(f.severity))


def _contents(seen: Survey) -> list[Finding]:
    return seen.contents.findings(seen.rows)


def _several(keys: np.ndarray, among: np.ndarray) -> list[np.ndarray]:
    """The positions of each key that stands more than once where `among` is true, in the order of their first."""
    places = np.flatnonzero(among)
    return sorted((places[group] for group in alike(keys[places], least=2)), key=lambda group: int(group[0]))


def copies(seen: Survey, among: np.ndarray) -> list[np.ndarray]:
    """Positions of rows that are the same letter for letter, together: where capitals and commas are what is taught, a fold would be wrong."""
    return _several(seen.whole, among)


def _duplicates(seen: Survey) -> list[Finding]:
    again = copies(seen, np.ones(len(seen.rows), bool))
    if not again:
        return []
    return [Finding("warning", f"{sum(len(g) - 1 for g in again)} rows stand more than once", seen.rows[int(again[0][0])].conversation.question,
                    code="data.duplicate.exact", rows=seen.places(again[0]), cure="remove the copies: they count twice in training")]  # fmt: skip


def _conflicts(seen: Survey) -> list[Finding]:
    asked = _several(seen.in_mode, np.ones(len(seen.rows), bool))
    clashing = [group for group in asked if (seen.answer[group] != seen.answer[group[0]]).any()]
    if not clashing:
        return []
    _, first = np.unique(seen.answer[clashing[0]], return_index=True)
    shown = clashing[0][np.sort(first)]
    return [Finding("warning", f"{len(clashing)} questions have more than one answer", seen.rows[int(shown[0])].conversation.question,
                    code="data.conflict", rows=seen.places(shown), cure="keep one answer a question")]  # fmt: skip


class Leaks(NamedTuple):
    """Positions, ascending, of rows that are held out although an earlier part asks the same, and of those that ask it there; beside each its partner."""

    asked: np.ndarray
    used_first: np.ndarray
    used: np.ndarray
    asked_first: np.ndarray


class _Found:
    """Leaks as they are found: for each row the first of its partners."""

    def __init__(self, seen: Survey) -> None:
        self._seen = seen
        self._none = len(seen.rows)
        self._used_first, self._asked_first = np.full(self._none, self._none), np.full(self._none, self._none)

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        """Pairs of positions whose parts differ: what is asked is of the later part."""
        later = self._seen.part[one] > self._seen.part[other]
        asked, used = np.where(later, one, other), np.where(later, other, one)
        np.minimum.at(self._used_first, asked, used)
        np.minimum.at(self._asked_first, used, asked)

    def leaks(self) -> Leaks:
        asked, used = np.flatnonzero(self._used_first < self._none), np.flatnonzero(self._asked_first < self._none)
        return Leaks(asked, self._used_first[asked], used, self._asked_first[used])


def leaks(seen: Survey, among: np.ndarray) -> Leaks:
    """Rows that use a question before it is asked, capitals and punctuation aside."""
    found = _Found(seen)
    for group in _several(seen.context, among):
        parts = seen.part[group]
        for part in np.unique(parts)[1:]:
            asked, before = group[parts == part], group[parts < part]
            found.add(asked, np.full(len(asked), before[0]))
            found.add(np.full(len(before), asked[0]), before)
    return found.leaks()


def _leaks(seen: Survey) -> list[Finding]:
    leaked = leaks(seen, np.ones(len(seen.rows), bool)).asked
    if not len(leaked):
        return []
    return [Finding("error", f"{len(leaked)} held-out questions stand in the rows that training uses", seen.rows[int(leaked[0])].conversation.question,
                    code="data.leak.exact", rows=seen.places(leaked), cure="remove one of the two rows")]  # fmt: skip


def untaught_suite(seen: Survey, suite: Suite) -> list[Finding]:
    """A warning where no probe with rules is about a topic of the rows: the suite was written for other rows, or they name no topics."""
    asked = {probe.topic for probe in suite.probes if not probe.accepted}
    if not asked or any(row.conversation.topic in asked and row.kind == "taught" for row in seen.rows):
        return []
    return [Finding("warning", f"none of the suite's {len(suite.probes)} probes is about a topic of the rows", suite.probes[0].question, code="suite.topics",
                    cure="give the rows a `topic` that the suite has rules for, or write a suite for them")]  # fmt: skip


def near_leaks(seen: Survey, among: np.ndarray) -> Leaks:
    """Held-out questions that say nearly what a trained one says. In a taught set only those are told that share the trained one's answer: they are
    no leak, as wordings are what is held out, but an easy exam; another answer to nearly the same words is what the exam is about.
    """
    places = np.flatnonzero(seen.taught & among)
    found = _Found(seen)
    if not len(places) or (seen.part[places] == seen.part[places[0]]).all():
        return found.leaks()
    taken, wordings = np.zeros(len(seen.rows), bool), seen.wordings
    taken[places] = True

    def told(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        one, other = places[first], places[second]
        apart: np.ndarray = seen.part[one] != seen.part[other]
        return apart & (seen.group[one] == seen.group[other]) & (seen.context[one] != seen.context[other]) if wordings else apart

    for pairs in near_pairs((context(row.conversation) for row, taught in zip(seen.rows, taken, strict=True) if taught), told):
        found.add(places[pairs[:, 0]], places[pairs[:, 1]])
    return found.leaks()


def _near_leaks(seen: Survey) -> list[Finding]:
    found = near_leaks(seen, np.ones(len(seen.rows), bool))
    if not len(found.asked):
        return []
    near = tuple(f"{one} like {other}" for one, other in zip(seen.places(found.asked), seen.places(found.used_first), strict=True))
    what, shown = f"{len(found.asked)} held-out questions share {NEAR:.0%} or more of their words with one that training uses", int(found.asked[0])
    excerpt = seen.rows[shown].conversation.question
    if seen.wordings:
        return [Finding("note", f"{what}, and its answer", excerpt, code="data.wordings.near", rows=near,
                        cure="their figures flatter a little; reword them for a harder exam")]  # fmt: skip
    return [Finding("error", what, excerpt, code="data.leak.near", rows=near, cure="remove one of the two rows")]


def _answer_leaks(seen: Survey) -> list[Finding]:
    """Held-out answers that training uses, under a question that it does not: a model may give them from memory. In a taught set that is meant."""
    if seen.wordings:
        return []
    used = np.flatnonzero(seen.taught & (seen.part != TEST))
    held_out = np.flatnonzero(seen.taught & (seen.part == TEST) & (seen.words >= SAID_BY_CHANCE))
    leaked = held_out[np.isin(seen.answer[held_out], seen.answer[used]) & ~np.isin(seen.context[held_out], seen.context[used])]
    if not len(leaked):
        return []
    sources = [used[np.argmax(seen.answer[used] == seen.answer[n])] for n in leaked[:SHOWN]]
    near = tuple(f"{one} like {other}" for one, other in zip(seen.places(leaked), seen.places(np.array(sources)), strict=True))
    return [Finding("warning", f"{len(leaked)} held-out answers stand, under other questions, in rows that training uses",
                    seen.rows[int(leaked[0])].conversation.answer[:200], code="data.leak.answer", rows=near,
                    cure="split by answer (leave data.test out), or remove one of the two rows")]  # fmt: skip


def _concentrated(seen: Survey) -> list[Finding]:
    """One answer that many of the rows share; a declared taught set, and refusals declared out of scope, are meant to be so."""
    trained = np.flatnonzero(seen.taught & (seen.part == TRAIN))
    if len(trained) < FEW_ROWS or seen.wordings:
        return []
    _, first, counts = np.unique(seen.answer[trained], return_index=True, return_counts=True)
    count, share = int(counts.max()), counts.max() / len(trained)
    if share < CONCENTRATED:
        return []
    having = trained[seen.answer[trained] == seen.answer[trained[first[counts == count].min()]]]
    severity: Severity = "error" if share >= FAR_TOO_CONCENTRATED else "warning"
    cure = "keep a few of them, name refusals in data.out_of_scope, or set data.split: wordings if the answers are a taught set"
    return [Finding(severity, f"{count} of {len(trained)} rows ({share:.0%}) have the same answer", seen.rows[int(having[0])].conversation.answer[:200],
                    code="data.answers.concentrated", rows=seen.places(having), cure=cure)]  # fmt: skip


def _refusals(seen: Survey) -> list[Finding]:
    """How much of what is trained on is a refusal, where that is much."""
    trained = seen.part == TRAIN
    refusals = np.flatnonzero(trained & (seen.kind == KINDS.index("out-of-scope")))
    if not len(refusals) or len(refusals) < FAR_TOO_CONCENTRATED * trained.sum():
        return []
    return [Finding("note", f"{len(refusals)} of {trained.sum()} rows trained on are turned away", seen.rows[int(refusals[0])].conversation.answer,
                    code="data.refusals", cure="questions unlike what is taught will be turned away too; watch how many taught ones are")]  # fmt: skip


def leaked_probes(seen: Survey, suite: Suite, suite_file: Path) -> list[Finding]:
    """An `error` where a probe of the suite that will judge the assistant is trained on."""
    used = np.flatnonzero(seen.part != TEST)
    asked = np.array([hash(fold(probe.question)) for probe in suite.probes], np.int64)
    using = [seen.rows[n].conversation for n in used[np.isin(seen.asked[used], asked)].tolist()]
    leaked = suite.trained_on({fold(talk.question): str(talk.source) for talk in using})
    if not leaked:
        return []
    probe, place = leaked[0]
    return [Finding("error", f"{len(leaked)} probes of the suite stand in the training rows", probe.question,
                    code="suite.leak", rows=(place_of(suite_file, probe), place), cure="reword the probe, or remove the row")]  # fmt: skip


def read_too_often(seen: Survey, epochs: float) -> list[Finding]:
    """A warning where few rows are read many times: they are learned by heart. In a taught set that is meant."""
    count = int((seen.part == TRAIN).sum())
    if count >= FEW_FOR_MANY or epochs <= MANY_EPOCHS or seen.wordings:
        return []
    return [Finding("warning", f"{count} rows are read {epochs:g} times each: the model will know them by heart and little else", code="data.few.epochs",
                    cure=f"add rows, or lower train.epochs to {MANY_EPOCHS} or less; the held-out loss says where to stop")]  # fmt: skip


def _too_few(seen: Survey) -> list[Finding]:
    count = int((seen.part == TRAIN).sum())
    if count >= FEW_ROWS:
        return []
    return [Finding("warning", f"only {count} rows to train on", code="data.few", cure=f"{FEW_ROWS} or more teach something; add rows or wordings")]
