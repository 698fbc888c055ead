"""Checks on the rows before anything is trained: each has a stable code, a severity, examples and a cure."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from lorikeet.conversation import Message
from lorikeet.data.split import Row, context
from lorikeet.evidence import Finding
from lorikeet.scoring import fold
from lorikeet.suite import Suite, place_of

FEW_ROWS = 50


def run_checks(rows: Sequence[Row]) -> list[Finding]:
    """All findings on a split data set, the worst first. An `error` must stop training."""
    found = [*_duplicates(rows), *_conflicts(rows), *_leaks(rows), *_too_few(rows)]
    return sorted(found, key=lambda f: ("error", "warning", "note").index(f.severity))


def _places(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(str(row.conversation.source) for row in rows[:10])


def _duplicates(rows: Sequence[Row]) -> list[Finding]:
    """Rows that are the same letter for letter: where capitals and commas are what is taught, a fold would be wrong."""
    seen: dict[tuple[Message, ...], list[Row]] = defaultdict(list)
    for row in rows:
        seen[row.conversation.messages].append(row)
    again = [group for group in seen.values() if len(group) > 1]
    if not again:
        return []
    return [Finding("warning", f"{sum(len(g) - 1 for g in again)} rows stand more than once", again[0][0].conversation.question,
                    code="data.duplicate.exact", rows=_places(again[0]), cure="remove the copies: they count twice in training")]  # fmt: skip


def _conflicts(rows: Sequence[Row]) -> list[Finding]:
    answers: dict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        answers[row.conversation.mode, context(row.conversation)].setdefault(fold(row.conversation.answer), row)
    clashing = [list(given.values()) for given in answers.values() if len(given) > 1]
    if not clashing:
        return []
    return [Finding("warning", f"{len(clashing)} questions have more than one answer", clashing[0][0].conversation.question,
                    code="data.conflict", rows=_places(clashing[0]), cure="keep one answer a question")]  # fmt: skip


def _leaks(rows: Sequence[Row]) -> list[Finding]:
    trained = {context(row.conversation): row for row in rows if row.part == "train"}
    leaked = [row for row in rows if row.part != "train" and context(row.conversation) in trained]
    if not leaked:
        return []
    return [Finding("error", f"{len(leaked)} held-out questions stand in the training rows", leaked[0].conversation.question,
                    code="data.leak.exact", rows=_places(leaked), cure="remove one of the two rows")]  # fmt: skip


def leaked_probes(rows: Sequence[Row], suite: Suite, suite_file: Path) -> list[Finding]:
    """An `error` where a probe of the suite that will judge the assistant is trained on."""
    leaked = suite.trained_on({fold(row.conversation.question): str(row.conversation.source) for row in rows if row.part != "test"})
    if not leaked:
        return []
    probe, place = leaked[0]
    return [Finding("error", f"{len(leaked)} probes of the suite stand in the training rows", probe.question,
                    code="suite.leak", rows=(place_of(suite_file, probe), place), cure="reword the probe, or remove the row")]  # fmt: skip


def _too_few(rows: Sequence[Row]) -> list[Finding]:
    count = sum(row.part == "train" for row in rows)
    if count >= FEW_ROWS:
        return []
    return [Finding("warning", f"only {count} rows to train on", code="data.few", cure=f"{FEW_ROWS} or more teach something; add rows or wordings")]
