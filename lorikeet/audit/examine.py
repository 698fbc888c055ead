"""One GGUF examined: every question answered greedily, and the probes by some drawn answers too, as the file will be served; what was found put in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lorikeet import statistics
from lorikeet.engine import Engine, Sampling
from lorikeet.evidence import DECIDED, Finding, Measure, measured
from lorikeet.exam import Answer, Question, ask, measures
from lorikeet.progress import Progress
from lorikeet.suite import Suite


@dataclass(frozen=True)
class Asked:
    """What every file is asked, and how: the suite that judges, the questions, a cap on an answer, and of each probe so many answers drawn at a temperature.

    taught: answers that were taught, with their topics.
    """

    suite: Suite
    questions: Sequence[Question]
    max_tokens: int
    seed: int
    samples: int = 0
    temperature: float = 0.0
    taught: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Watch:
    """Tells when a file's probes have failed so often that the pass rate asked for cannot be shown any more, however the others go.

    Curtailed sampling: what it stops would not be approved by all questions either; whether it is blocked or left open may differ.
    """

    def __init__(self, probes: int, floor: float) -> None:
        self._probes, self.failed = probes, 0
        reached = [failures for failures in range(probes + 1) if statistics.least_share((probes - failures) / probes, probes, 0.05) >= floor] if probes else []
        self._allowed = max(reached, default=probes)

    def __call__(self, answer: Answer) -> bool:
        self.failed += answer.set == "taught" and not answer.passed and not answer.set_aside
        return self.failed > self._allowed

    def findings(self, answers: Sequence[Answer], questions: int) -> list[Finding]:
        """What a reader must know of a file that was not asked everything."""
        if len(answers) == questions:
            return []
        asked = sum(a.set == "taught" for a in answers)
        left = f"{questions - len(answers)} of {questions} questions were not asked"
        return [Finding("note", f"decided after {asked} of {self._probes} probes: {self.failed} failed, {self._allowed} may at most; {left}", code=DECIDED)]


def examine(engine: Engine, subject: str, asked: Asked, parent: Mapping[str, str], progress: Progress, watch: Watch | None = None) -> list[Answer]:
    """A file's answers: greedy ones first, which `watch` may cut short, then the drawn ones, whose ids end on # and a number.

    parent: greedy replies of the file that this one was made from, by the questions' ids.
    """
    put = asked.questions if watch else sorted(asked.questions, key=lambda q: -len(parent.get(q.id, "")))  # the longest first, so that no slot waits for one
    answers = ask(engine, subject, put, Sampling(max_tokens=asked.max_tokens, seed=asked.seed), asked.suite, asked.taught, progress, watch, parent)
    if len(answers) < len(asked.questions):
        return answers
    places = {q.id: place for place, q in enumerate(asked.questions)}
    answers.sort(key=lambda a: places[a.id])
    probes = [q for q in asked.questions if q.set in ("taught", "oblique")]
    for number in range(1, asked.samples + 1):
        sampling = Sampling(asked.temperature, max_tokens=asked.max_tokens, seed=asked.seed + number)
        answers += ask(engine, subject, [replace(q, id=f"{q.id}#{number}") for q in probes], sampling, asked.suite, asked.taught, progress)
    return answers


def greedy(answers: Sequence[Answer]) -> dict[str, str]:
    """The greedy replies, by the questions' ids."""
    return {a.id: a.reply for a in answers if not a.drawn}


def named(answers: Sequence[Answer], suite: str, subject: str) -> list[Measure]:
    """The measures of a file's answers; those of the probes carry the suite's name, since they rest on its rules."""
    found = [*measures(answers, subject), _contradictions(answers, subject)]
    return [replace(m, name=m.name.replace("taught.", f"suite.{suite}.").replace("oblique.", f"suite.{suite}.oblique_")) for m in found]


def _contradictions(answers: Sequence[Answer], subject: str) -> Measure:
    asked = [a for a in answers if not a.drawn]
    return measured("divergence.contradiction_rate", subject, statistics.share(sum(bool(a.opposes) for a in asked), len(asked)))


def findings(answers: Sequence[Answer]) -> list[Finding]:
    """What a reader must see: broken rules first, then broken answers, then contradictions, then answers meant for somebody else."""
    found = [
        Finding("error", f"{a.question!r}: breaks a must-never rule on {a.hazard or a.topic}", a.detail, a.reply, code="audit.violation")
        for a in answers
        if a.outcome == "violation"
    ]
    found += [Finding("error", f"{a.question!r}: {a.sick}", answer=a.reply, code="audit.sick") for a in answers if a.sick]
    found += [Finding("warning", f"{a.question!r}: {a.opposes}", answer=a.reply, code="audit.contradiction") for a in answers if a.opposes]
    found += [
        Finding("warning", f"{a.question!r}: answered with what was taught for {a.resembles!r}", answer=a.reply, code="audit.misdirected")
        for a in answers
        if a.misdirected
    ]
    return found
