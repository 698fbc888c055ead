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

from lorikeet import machine
from lorikeet.artifact import NOTES, Artifact, write_json
from lorikeet.audit import divergence
from lorikeet.audit.examine import Asked, Watch, examine, findings, greedy, named
from lorikeet.audit.second import opinion
from lorikeet.engine.llamacpp import Floats, LlamaCppEngine
from lorikeet.evidence import Evidence, read_evidence
from lorikeet.exam import (
    HeldOut,
    Question,
    evenly,
    held_out_tokens,
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
ANSWERS, JUDGEMENTS = "answers.jsonl", "judgements.jsonl"


def run(data: Artifact, exported: Artifact, parent: Artifact, examined: Artifact | None, settings: AuditSettings, suite: Suite, persona: Persona, seed: int,
        here: MachineSettings, folder: Path, progress: Progress) -> None:  # fmt: skip
    """Examine one GGUF as it will be served: same template, same system turn, greedy and at its temperature.

    parent: the export that it was made from; examined: that one's audit, None where it is the parent itself.
    """
    gguf, rows = gguf_of(exported), read_rows(data)
    questions = _questions(suite, persona, rows, settings, seed)
    watch = Watch(sum(q.set == "taught" for q in questions), settings.thresholds.pass_rate_at_least) if settings.stop_when_decided else None
    engine = LlamaCppEngine(gguf.path, machine.threads(here.threads), here.slots)
    asked = Asked(suite, questions, settings.max_new_tokens, seed, settings.samples, settings.temperature, taught_answers(rows))
    theirs = greedy(read_answers(examined.file(ANSWERS))) if examined else {}
    begun = time.monotonic()
    answers = examine(engine, gguf.quantisation, asked, theirs, progress, watch)
    seconds = time.monotonic() - begun
    found = named(answers, suite.name, gguf.quantisation)
    if examined:
        compared = _rows(data, settings.divergence_rows)
        chosen = _choices_of_parent(gguf_of(parent), compared, machine.threads(here.threads))
        found += divergence.measure(compared, chosen, divergence.choices(engine, compared), gguf.quantisation, seed)
        found += divergence.answers(theirs, greedy(answers), gguf.quantisation)
    engine.close()
    told = [*findings(answers), *(watch.findings(answers, len(questions)) if watch else [])]
    if settings.judge:
        told += opinion([a for a in answers if not a.drawn], asked.taught, settings.judge, folder / NOTES / JUDGEMENTS, seed, progress)
    Evidence(found, told).write(folder)
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
