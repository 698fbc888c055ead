"""Checks on the rows before anything is trained: each has a stable code, a severity, examples and a cure.

Here is what rows are to one another and to the split; what stands in them is in contents.py.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lorikeet.conversation import Message
from lorikeet.data.contents import CONTENTS, places
from lorikeet.data.similar import NEAR, near_pairs
from lorikeet.data.split import Part, Row, context
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


def run_checks(rows: Sequence[Row]) -> list[Finding]:
    """All findings on a split data set, the worst first. An `error` must stop training."""
    checks: tuple[Callable[[Sequence[Row]], list[Finding]], ...] = (
        _leaks, _near_leaks, _answer_leaks, _concentrated, _duplicates, _conflicts, *CONTENTS, _refusals, _too_few,
    )  # fmt: skip
    found = [finding for check in checks for finding in check(rows)]
    return sorted(found, key=lambda f: ("error", "warning", "note").index(f.severity))


def copies(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that are the same letter for letter, together: where capitals and commas are what is taught, a fold would be wrong."""
    seen: dict[tuple[Message, ...], list[Row]] = defaultdict(list)
    for row in rows:
        seen[row.conversation.messages].append(row)
    return [group for group in seen.values() if len(group) > 1]


def _duplicates(rows: Sequence[Row]) -> list[Finding]:
    again = copies(rows)
    if not again:
        return []
    return [Finding("warning", f"{sum(len(g) - 1 for g in again)} rows stand more than once", again[0][0].conversation.question,
                    code="data.duplicate.exact", rows=places(again[0]), cure="remove the copies: they count twice in training")]  # fmt: skip


def _conflicts(rows: Sequence[Row]) -> list[Finding]:
    answers: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        answers[row.conversation.mode, context(row.conversation)].setdefault(fold(row.conversation.answer), row)
    clashing = [list(given.values()) for given in answers.values() if len(given) > 1]
    if not clashing:
        return []
    return [Finding("warning", f"{len(clashing)} questions have more than one answer", clashing[0][0].conversation.question,
                    code="data.conflict", rows=places(clashing[0]), cure="keep one answer a question")]  # fmt: skip


PARTS: tuple[Part, ...] = ("train", "validation", "test")
"""Parts in the order in which they are used up: what stands in one must not be asked in a later one."""


class Leak(NamedTuple):
    """A row that is held out, and one of an earlier part that asks the same."""

    asked: Row
    used: Row


def leaks(rows: Sequence[Row]) -> list[Leak]:
    """Every held-out row with every row that uses its question before it is asked, capitals and punctuation aside."""
    asking: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        asking[context(row.conversation)].append(row)
    shared = [group for group in asking.values() if len({row.part for row in group}) > 1]
    return [Leak(asked, used) for group in shared for asked in group for used in group if PARTS.index(used.part) < PARTS.index(asked.part)]


def _leaks(rows: Sequence[Row]) -> list[Finding]:
    leaked = list({id(leak.asked): leak.asked for leak in leaks(rows)}.values())
    if not leaked:
        return []
    return [Finding("error", f"{len(leaked)} held-out questions stand in the rows that training uses", leaked[0].conversation.question,
                    code="data.leak.exact", rows=places(leaked), cure="remove one of the two rows")]  # fmt: skip


def untaught_suite(rows: Sequence[Row], suite: Suite) -> list[Finding]:
    """A warning where no probe with rules is about a topic of the rows: the suite was written for other rows, or they name no topics."""
    asked = {probe.topic for probe in suite.probes if not probe.accepted}
    if not asked or asked & {row.conversation.topic for row in rows if row.kind == "taught"}:
        return []
    return [Finding("warning", f"none of the suite's {len(suite.probes)} probes is about a topic of the rows", suite.probes[0].question, code="suite.topics",
                    cure="give the rows a `topic` that the suite has rules for, or write a suite for them")]  # fmt: skip


def near_leaks(rows: Sequence[Row]) -> list[Leak]:
    """Held-out questions that say nearly what a trained one says. In a taught set only those are told that share the trained one's answer: they are
    no leak, as wordings are what is held out, but an easy exam; another answer to nearly the same words is what the exam is about.
    """
    taught, wordings = [row for row in rows if row.kind == "taught"], is_wordings(rows)
    texts = tuple(context(row.conversation) for row in taught)
    found = []
    for pair in near_pairs(texts):
        used, asked = sorted((pair.first, pair.second), key=lambda n: PARTS.index(taught[n].part))
        told = not wordings or (taught[used].group == taught[asked].group and texts[used] != texts[asked])
        if told and taught[used].part != taught[asked].part:
            found.append((asked, used))
    return [Leak(taught[asked], taught[used]) for asked, used in sorted(found)]


def _near_leaks(rows: Sequence[Row]) -> list[Finding]:
    pairs = list({id(leak.asked): leak for leak in reversed(near_leaks(rows))}.values())[::-1]
    if not pairs:
        return []
    near = tuple(f"{asked.conversation.source} like {used.conversation.source}" for asked, used in pairs[:10])
    what, shown = f"{len(pairs)} held-out questions share {NEAR:.0%} or more of their words with one that training uses", pairs[0].asked.conversation.question
    if is_wordings(rows):
        return [Finding("note", f"{what}, and its answer", shown, code="data.wordings.near", rows=near,
                        cure="their figures flatter a little; reword them for a harder exam")]  # fmt: skip
    return [Finding("error", what, shown, code="data.leak.near", rows=near, cure="remove one of the two rows")]


def _answer_leaks(rows: Sequence[Row]) -> list[Finding]:
    """Held-out answers that training uses, under a question that it does not: a model may give them from memory. In a taught set that is meant."""
    if is_wordings(rows):
        return []
    taught = [row for row in rows if row.kind == "taught"]
    used = {fold(row.conversation.answer): row.conversation.source for row in taught if row.part != "test"}
    asked = {context(row.conversation) for row in taught if row.part != "test"}
    held_out = [row.conversation for row in taught if row.part == "test" and len(row.conversation.answer.split()) >= SAID_BY_CHANCE]
    leaked = [(talk, used[fold(talk.answer)]) for talk in held_out if fold(talk.answer) in used and context(talk) not in asked]
    if not leaked:
        return []
    return [Finding("warning", f"{len(leaked)} held-out answers stand, under other questions, in rows that training uses", leaked[0][0].answer[:200],
                    code="data.leak.answer", rows=tuple(f"{talk.source} like {place}" for talk, place in leaked[:10]),
                    cure="split by answer (leave data.test out), or remove one of the two rows")]  # fmt: skip


def is_wordings(rows: Sequence[Row]) -> bool:
    """Whether answers are both trained on and held out, as in a taught set."""
    held_out = {row.group for row in rows if row.kind == "taught" and row.part == "test"}
    return any(row.group in held_out for row in rows if row.kind == "taught" and row.part == "train")


def _concentrated(rows: Sequence[Row]) -> list[Finding]:
    """One answer that many of the rows share; a declared taught set, and refusals declared out of scope, are meant to be so."""
    taught = [row for row in rows if row.kind == "taught" and row.part == "train"]
    if len(taught) < FEW_ROWS or is_wordings(rows):
        return []
    answer, count = Counter(fold(row.conversation.answer) for row in taught).most_common(1)[0]
    if count < CONCENTRATED * len(taught):
        return []
    having = [row for row in taught if fold(row.conversation.answer) == answer]
    severity: Severity = "error" if count >= FAR_TOO_CONCENTRATED * len(taught) else "warning"
    cure = "keep a few of them, name refusals in data.out_of_scope, or set data.split: wordings if the answers are a taught set"
    return [Finding(severity, f"{count} of {len(taught)} rows ({count / len(taught):.0%}) have the same answer", having[0].conversation.answer[:200],
                    code="data.answers.concentrated", rows=places(having), cure=cure)]  # fmt: skip


def _refusals(rows: Sequence[Row]) -> list[Finding]:
    """How much of what is trained on is a refusal, where that is much."""
    trained = [row for row in rows if row.part == "train"]
    refusals = [row for row in trained if row.kind == "out-of-scope"]
    if not refusals or len(refusals) < FAR_TOO_CONCENTRATED * len(trained):
        return []
    return [Finding("note", f"{len(refusals)} of {len(trained)} rows trained on are turned away", refusals[0].conversation.answer, code="data.refusals",
                    cure="questions unlike what is taught will be turned away too; watch how many taught ones are")]  # fmt: skip


def leaked_probes(rows: Sequence[Row], suite: Suite, suite_file: Path) -> list[Finding]:
    """An `error` where a probe of the suite that will judge the assistant is trained on."""
    leaked = suite.trained_on({fold(row.conversation.question): str(row.conversation.source) for row in rows if row.part != "test"})
    if not leaked:
        return []
    probe, place = leaked[0]
    return [Finding("error", f"{len(leaked)} probes of the suite stand in the training rows", probe.question,
                    code="suite.leak", rows=(place_of(suite_file, probe), place), cure="reword the probe, or remove the row")]  # fmt: skip


def read_too_often(rows: Sequence[Row], epochs: float) -> list[Finding]:
    """A warning where few rows are read many times: they are learned by heart. In a taught set that is meant."""
    count = sum(row.part == "train" for row in rows)
    if count >= FEW_FOR_MANY or epochs <= MANY_EPOCHS or is_wordings(rows):
        return []
    return [Finding("warning", f"{count} rows are read {epochs:g} times each: the model will know them by heart and little else", code="data.few.epochs",
                    cure=f"add rows, or lower train.epochs to {MANY_EPOCHS} or less; the held-out loss says where to stop")]  # fmt: skip


def _too_few(rows: Sequence[Row]) -> list[Finding]:
    count = sum(row.part == "train" for row in rows)
    if count >= FEW_ROWS:
        return []
    return [Finding("warning", f"only {count} rows to train on", code="data.few", cure=f"{FEW_ROWS} or more teach something; add rows or wordings")]
