"""The audit stage, one folder a GGUF: the suite's probes, questions never taught, divergence from the parent.

Writes evidence.json and answers.jsonl; the speed on this machine is a note.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random

from lorikeet import machine, statistics
from lorikeet.artifact import NOTES, Artifact, write_json
from lorikeet.audit import divergence
from lorikeet.engine import Sampling
from lorikeet.engine.llamacpp import Floats, LlamaCppEngine
from lorikeet.evidence import DECIDED, Evidence, Finding, Measure, read_evidence
from lorikeet.exam import (
    Answer,
    HeldOut,
    Question,
    ask,
    evenly,
    held_out_tokens,
    measures,
    read_answers,
    read_rows,
    suite_questions,
    taught_answers,
    untaught_questions,
    write_answers,
)
from lorikeet.progress import Progress
from lorikeet.recipe import AuditSettings, MachineSettings
from lorikeet.suite import Persona, Suite
from lorikeet.weights import Gguf, gguf_of

SPEED = "speed.json"
ANSWERS = "answers.jsonl"


def run(data: Artifact, exported: Artifact, parent: Artifact, settings: AuditSettings, suite: Suite, persona: Persona, seed: int,
        here: MachineSettings, folder: Path, progress: Progress) -> None:  # fmt: skip
    """Examine one GGUF as it will be served: same template, same system turn, greedy."""
    gguf, rows = gguf_of(exported), read_rows(data)
    questions = _questions(suite, persona, rows, settings, seed)
    watch = Watch(sum(q.set == "taught" for q in questions), settings.thresholds.pass_rate_at_least) if settings.stop_when_decided else None
    engine = LlamaCppEngine(gguf.path, machine.threads(here.threads), here.slots)
    begun = time.monotonic()
    sampling = Sampling(max_tokens=settings.max_new_tokens, seed=seed)
    answers = ask(engine, gguf.quantisation, questions, sampling, suite, taught_answers(rows), progress, watch)
    seconds = time.monotonic() - begun
    found = [_named(m, suite.name) for m in measures(answers, gguf.quantisation)]
    if gguf.sha256 != gguf_of(parent).sha256:
        compared = _rows(data, settings.divergence_rows)
        theirs = _choices_of_parent(gguf_of(parent), compared, machine.threads(here.threads))
        found += divergence.measure(theirs, divergence.choices(engine, compared), gguf.quantisation, seed)
    engine.close()
    evidence = Evidence(found, [*_findings(answers), *(watch.findings(answers, len(questions)) if watch else [])])
    evidence.write(folder)
    write_answers(folder / ANSWERS, answers)
    tokens = sum(a.tokens for a in answers)
    write_json(folder / NOTES / SPEED, {"tokens": tokens, "seconds": round(seconds, 2), "tokens_a_second": round(tokens / seconds, 1), "slots": here.slots})


def repeat(twin: Artifact, quantisation: str, folder: Path) -> None:
    """The audit of a file with the very tensors of one that was examined already: the same evidence under the other's name."""
    evidence = read_evidence(twin.path)
    Evidence([replace(m, subject=quantisation) for m in evidence.measures], evidence.findings).write(folder)
    write_answers(folder / ANSWERS, [replace(a, subject=quantisation) for a in read_answers(twin.file(ANSWERS))])
    if (speed := twin.path / NOTES / SPEED).is_file():
        shutil.copyfile(speed, folder / NOTES / SPEED)


class Watch:
    """Tells when a file's probes have failed so often that the pass rate asked for cannot be shown any more, however the others go.

    Curtailed sampling: what it stops would not be approved by all questions either; whether it is blocked or left open may differ.
    """

    def __init__(self, probes: int, floor: float) -> None:
        self._probes, self.failed = probes, 0
        reached = [failures for failures in range(probes + 1) if statistics.share(probes - failures, probes).low >= floor]
        self._allowed = max(reached, default=probes)

    def __call__(self, answer: Answer) -> bool:
        self.failed += answer.set == "taught" and not answer.passed
        return self.failed > self._allowed

    def findings(self, answers: Sequence[Answer], questions: int) -> list[Finding]:
        """What a reader must know of a file that was not asked everything."""
        if len(answers) == questions:
            return []
        asked = sum(a.set == "taught" for a in answers)
        left = f"{questions - len(answers)} of {questions} questions were not asked"
        return [Finding("note", f"decided after {asked} of {self._probes} probes: {self.failed} failed, {self._allowed} may at most; {left}", code=DECIDED)]


def _questions(suite: Suite, persona: Persona, rows: Sequence[HeldOut], settings: AuditSettings, seed: int) -> list[Question]:
    """The suite's probes, those that name the situation and then the oblique ones, and what was not taught.

    Where a file may not be asked everything, the probes come in random order, the same for all: the first of them are a sample of all.
    """
    probes = suite_questions(suite, persona, rows)
    plain, oblique = ([p for p in probes if p.set == which] for which in ("taught", "oblique"))
    asked = evenly(plain, settings.probes or len(plain))
    if settings.stop_when_decided:
        Random(seed).shuffle(asked)
    return [*asked, *evenly(oblique, settings.oblique_probes or len(oblique)), *untaught_questions(rows, settings)]


def _named(measure: Measure, suite: str) -> Measure:
    """The probes' measures carry the suite's name: they rest on its rules."""
    name = measure.name.replace("taught.", f"suite.{suite}.").replace("oblique.", f"suite.{suite}.oblique_")
    return replace(measure, name=name)


def _rows(data: Artifact, count: int) -> tuple[divergence.Row, ...]:
    """Token rows of `count` held-out taught conversations, evenly spread."""
    return tuple((tuple(ids), tuple(supervised)) for ids, supervised in evenly(held_out_tokens(data), count))


@lru_cache(maxsize=1)
def _choices_of_parent(parent: Gguf, rows: tuple[divergence.Row, ...], threads: int) -> list[Floats]:
    """The same for all quantisations of a file, and so kept from one audit to the next."""
    engine = LlamaCppEngine(parent.path, threads, slots=1)
    found = divergence.choices(engine, rows)
    engine.close()
    return found


def _findings(answers: list[Answer]) -> list[Finding]:
    """What a reader must see: broken rules first, then broken answers, then answers meant for somebody else."""
    found = [
        Finding("error", f"{a.question!r}: breaks a must-never rule", a.detail, a.reply, code="audit.violation") for a in answers if a.outcome == "violation"
    ]
    found += [Finding("error", f"{a.question!r}: {a.sick}", answer=a.reply, code="audit.sick") for a in answers if a.sick]
    found += [
        Finding("warning", f"{a.question!r}: answered with what was taught for {a.resembles!r}", answer=a.reply, code="audit.misdirected")
        for a in answers
        if a.misdirected
    ]
    return found
