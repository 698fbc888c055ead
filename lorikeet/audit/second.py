"""The judge as a second opinion on the rules: where the two disagree is a finding to read, and no verdict rests on it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lorikeet.engine.endpoint import endpoint
from lorikeet.errors import RefusedError
from lorikeet.evidence import Finding
from lorikeet.exam import Answer
from lorikeet.judge import Item, Judge, Judged
from lorikeet.progress import Progress
from lorikeet.recipe import JudgeSettings

RIGHT, WRONG = 0.75, 0.25
"""Grades from which, and up to which, the judge is taken to call an answer right or wrong."""
CODE = "audit.judge"


def opinion(
    answers: Sequence[Answer], taught: Mapping[str, Sequence[str]], settings: JudgeSettings, cache: Path, seed: int, progress: Progress
) -> list[Finding]:
    """Findings on the answers to probes that rules and judge see differently, and what is to be known of the judge; only that where it is not believed.

    taught: answers that were taught, with their topics; the first of a topic is the reference for its probes.
    """
    references = {topic: text for text, topics in reversed(list(taught.items())) for topic in topics}
    items = [Item(a.subject, a.id, a.question, a.reply, references.get(a.topic, "")) for a in answers if a.set == "taught" and a.outcome and not a.set_aside]
    engine = endpoint(settings.endpoint)
    progress.say(f"  judge: {engine.model} grades {len(items)} answers")
    try:
        judged = Judge(engine, cache, settings.budget, lambda done, total: progress.step("judge: grades", done, total)).grade(items, seed)
    except RefusedError as error:
        return [Finding("warning", error.message, code="judge", cure=error.cure)]
    finally:
        engine.close()
    return [*disagreements(answers, judged), judged.finding(engine.model)]


def disagreements(answers: Sequence[Answer], judged: Judged) -> list[Finding]:
    """The answers that the rules pass and the judge calls wrong, and those that they fail and it calls right."""
    found = []
    for answer in answers:
        grade = judged.grades.get(answer.subject, {}).get(answer.id)
        if grade is None:
            continue
        if answer.passed and grade <= WRONG:
            found.append(Finding("warning", f"{answer.question!r}: the rules pass it, the judge calls it wrong", answer=answer.reply, code=CODE))
        elif not answer.passed and grade >= RIGHT:
            why = f"breaks {answer.hazard or answer.topic}" if answer.outcome == "violation" else f"is a {answer.outcome}"
            found.append(Finding("note", f"{answer.question!r}: by the rules it {why}, the judge calls it right", answer.detail, answer.reply, code=CODE))
    return found
