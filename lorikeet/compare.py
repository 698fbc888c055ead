"""Two models over the same questions: paired statistics, every answer, and a page on which they stand side by side.

The questions are a suite's probes, judged by its rules, or those of a file of rows, whose answers are held against by chrF. What either model was trained
on is left out and counted.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from lorikeet import comparison, exam, page
from lorikeet.comparison import Compared
from lorikeet.conversation import Message, system_turn
from lorikeet.data.sources import FileRows, read_file, require_all
from lorikeet.engine import Engine, Sampling, Weighing
from lorikeet.engine.remembered import REPLIES, Remembered
from lorikeet.errors import DataError, RecipeError, RefusedError
from lorikeet.evaluate import holdout
from lorikeet.evidence import Evidence, Finding
from lorikeet.exam import Answer, Question, as_question, suite_columns, write_answers
from lorikeet.judge import PROMPTS, Item, Judge
from lorikeet.progress import Progress
from lorikeet.scoring import fold
from lorikeet.subjects import Subject
from lorikeet.suite import Suite, load_suite

if TYPE_CHECKING:
    from lorikeet.evaluate.benchmarks import Benchmark

PAGE = "compare.html"
Won = Literal["first", "second", "both", "neither", "same", "open"]
WON: Mapping[Won, str] = {
    "first": "{first} alone",
    "second": "{second} alone",
    "both": "both",
    "neither": "neither",
    "same": "the same words",
    "open": "not judged",
}
"""Who passed by the rules, or was found better by a judge."""


class Asked(NamedTuple):
    """What both are asked: questions, the suite whose rules judge them, what was left out with the place of each where it is taught, and benchmarks."""

    questions: list[Question]
    suite: Suite
    leaked: dict[str, str]
    benchmarks: "list[Benchmark]"


class Segment(NamedTuple):
    """Words of an answer that stand in the other one too, or do not."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Pair:
    """One question answered by both: the two replies cut where they part, and who won."""

    first: Answer
    second: Answer
    won: Won
    segments: tuple[list[Segment], list[Segment]]


@dataclass(frozen=True)
class Comparison:
    """What came of it, and where the page is."""

    evidence: Evidence
    compared: list[Compared]
    pairs: list[Pair]
    page: Path


def asked(suite: Path | None, questions: Path | None, subjects: Sequence[Subject], system: str | None = None, count: int | None = None,
          wanted: Mapping[str, Path | None] | None = None) -> Asked:  # fmt: skip
    """The questions of a suite or a file, and benchmarks with their files, for two subjects, without what either was trained on.

    system: the system turn for all; by default that of the first subject that has one. count: of each at most so many, evenly spread. Raises
    DataError where nothing is left to ask.
    """
    trained = {question: place for s in subjects for question, place in s.trained_on.items()}
    speaks = next((s.prompt for s in subjects if s.prompt), lambda mode: "")

    def turn(mode: str) -> str:
        return speaks(mode) if system is None else system

    if suite:
        read = load_suite(suite)
        known = {probe.id: place for probe, place in read.trained_on(trained)}
        found = [as_question(probe, turn(probe.mode)) for probe in read.probes if probe.id not in known]
        kept = [replace(q, set="suite") for q in found]
    elif questions is None and wanted:
        read, known, kept = Suite.model_construct(name="benchmarks", probes=[]), {}, []
    elif questions:
        read = Suite.model_construct(name=questions.stem, probes=[])
        rows = _questions(questions, turn(""))
        known = {q.text: trained[fold(q.text)] for q in rows if fold(q.text) in trained}
        kept = [q for q in rows if q.text not in known]
    else:
        raise RecipeError("there is nothing to ask", "name a suite (--suite FILE), a file of questions (--questions FILE) or a benchmark")
    if not kept and not wanted:
        where = suite or questions
        why = f"all {len(known)} questions of {where} stand in the training rows" if known else f"{where} holds no question"
        raise DataError(why, "name others")
    tasks: list[Benchmark] = []
    if wanted:
        from lorikeet.evaluate import benchmarks

        tasks = benchmarks.load(wanted, count, trained)
    return Asked(exam.evenly(kept, count) if count else kept, read, known, tasks)


def _questions(path: Path, system: str) -> list[Question]:
    """The questions of a text file, one a line, or of rows of any format that training reads."""
    if not path.is_file():
        raise RecipeError(f"{path} does not exist", "name a .txt file, one question a line, or a file of rows")
    if path.suffix == ".txt":
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [Question(f"{path.name}:{n}", "taught", "", (*system_turn(system), Message("user", line))) for n, line in enumerate(lines, 1)]
    file = FileRows(path)
    talks = [talk.with_system(system) for talk in read_file(file)]
    require_all([file])
    return [Question(str(t.source), "taught", t.category or t.topic, t.messages[:-1], t.answer, t.mode, group=str(t.source)) for t in talks]


def compare(first: Subject, second: Subject, exam_of: Asked, sampling: Sampling, folder: Path, progress: Progress, judge: str = "",
            budget: int | None = None) -> Comparison:  # fmt: skip
    """Ask both, one after the other, and write evidence.json, answers.jsonl and compare.html into `folder`.

    judge: the address of a model that says of two answers which is better, in both orders; its word decides who won where no rules do.
    """
    if first.name == second.name:
        first, second = replace(first, name=f"{first.name} (first)"), replace(second, name=f"{second.name} (second)")
    given, columns = {}, {}
    folder.mkdir(parents=True, exist_ok=True)
    for subject in (first, second):
        progress.say(f"{subject.name}: {len(exam_of.questions)} questions" + "".join(f", {b.title} ({len(b.asked)})" for b in exam_of.benchmarks))
        engine = subject.open()
        asking = Remembered(engine, subject.identity, folder / REPLIES) if subject.identity else engine
        try:
            given[subject.name] = exam.ask(asking, subject.name, exam_of.questions, sampling, exam_of.suite, {}, progress)
            benched = _bench(engine, subject, exam_of.benchmarks, progress) if exam_of.benchmarks else []
        finally:
            engine.close()
        columns[subject.name] = [*_columns(given[subject.name], exam_of.suite), *benched]
    preferred: dict[str, str] = {}
    word: list[Finding] = []
    if judge:
        cache = folder / "judgements.jsonl"
        preferred, word = _preferred(given[first.name], given[second.name], judge, budget, cache, sampling.seed, progress)
    if preferred:
        for name, which in ((first.name, "first"), (second.name, "second")):
            columns[name].append(
                comparison.Column("judge.preferred", "Answers that the judge finds better", {i: float(w == which) for i, w in preferred.items()})
            )
    compared = comparison.compare(first.name, second.name, columns[first.name], columns[second.name], sampling.seed)
    measures = [c.measure(name, sampling.seed) for name, found in columns.items() for c in found]
    findings = [*(c.finding() for n, c in enumerate(compared) if c.shown or not n), *word]
    if leaked := {**exam_of.leaked, **{q: place for b in exam_of.benchmarks for q, place in b.leaked.items()}}:
        name, place = next(iter(leaked.items()))
        findings.append(Finding("warning", f"{len(leaked)} questions stand in the training rows and were left out", f"{name}: {place}"))
    evidence = Evidence([*measures, *(c.measure() for c in compared)], findings)
    pairs = [_pair(a, b, preferred) for a, b in zip(*given.values(), strict=True)]
    evidence.write(folder)
    write_answers(folder / "answers.jsonl", [a for answers in given.values() for a in answers])
    written = folder / PAGE
    written.write_text(_page(first, second, exam_of, evidence, compared, pairs), encoding="utf-8")
    return Comparison(evidence, compared, pairs, written)


def _bench(engine: Engine, subject: Subject, wanted: "Sequence[Benchmark]", progress: Progress) -> list[comparison.Column]:
    """The benchmarks' columns of one model; ModelError for an endpoint that tells no likelihoods."""
    from lorikeet.engine.endpoint import EndpointEngine
    from lorikeet.evaluate import benchmarks

    weighing = engine.weighing() if isinstance(engine, EndpointEngine) else engine
    if not isinstance(weighing, Weighing):
        raise RecipeError(f"{subject.name} tells no likelihoods, and benchmarks weigh the choices by them", "leave the benchmarks out")
    return benchmarks.ask(weighing, subject.name, wanted, lambda done, total: progress.step(f"{subject.name}: benchmarks", done, total))[0]


def _columns(answers: Sequence[Answer], suite: Suite) -> list[comparison.Column]:
    ended = comparison.Column("generation.stop_rate", "Answers that end by themselves", {a.id: float(a.ended) for a in answers})
    sick = comparison.Column("generation.sick_rate", "Broken answers", {a.id: float(bool(a.sick)) for a in answers}, more_is_better=False)
    return [*suite_columns(answers, suite.name), *holdout.nearness(answers), *([ended, sick] if answers else [])]


def _preferred(first: Sequence[Answer], second: Sequence[Answer], judge: str, budget: int | None, cache: Path, seed: int,
               progress: Progress) -> tuple[dict[str, str], list[Finding]]:  # fmt: skip
    """Which answer to each question a judge finds better, and what a reader has to know of it; nothing where it is not to be believed."""
    from lorikeet.engine.endpoint import endpoint

    engine = endpoint(judge)
    both = list(zip(first, second, strict=True))
    apart = [(a, b) for a, b in both if a.reply != b.reply]
    pairs = [(Item("a", a.id, a.question, a.reply, a.expected), Item("b", b.id, b.question, b.reply, b.expected)) for a, b in apart]
    progress.say(f"judge: {engine.model} compares {len(pairs)} pairs")
    try:
        found, controls = Judge(engine, cache, budget, lambda done, total: progress.step("judge: pairs", done, total)).prefer(pairs, seed)
    except RefusedError as error:
        return {}, [Finding("warning", error.message, code="judge", cure=error.cure)]
    finally:
        engine.close()
    told = f"each pair judged in both orders by {engine.model} with the prompt {PROMPTS['two']}: {controls.value:.0%} of {controls.n} control pairs right"
    return {**{a.id: "neither" for a, _ in both}, **found}, [Finding("note", told, code="judge")]


def _pair(first: Answer, second: Answer, preferred: Mapping[str, str]) -> Pair:
    won: Won = "open"
    if first.reply == second.reply:
        won = "same"
    elif first.outcome:
        won = ("both" if second.passed else "first") if first.passed else "second" if second.passed else "neither"
    elif first.id in preferred:
        won = {"first": "first", "second": "second"}.get(preferred[first.id], "neither")  # type: ignore[assignment]
    return Pair(first, second, won, parted(first.reply, second.reply))


def parted(first: str, second: str) -> tuple[list[Segment], list[Segment]]:
    """Two texts cut into runs of words that both have in the same order, and runs that they have not."""
    words = [_words(text) for text in (first, second)]
    found: tuple[list[Segment], list[Segment]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, words[0], words[1], autojunk=False).get_opcodes():
        for side, run in zip(found, (words[0][a:b], words[1][c:d]), strict=True):
            if run:
                side.append(Segment("".join(run), kind != "equal"))
    return found


def _words(text: str) -> list[str]:
    """Words with the white space behind each, so that joined they are the text."""
    return re.findall(r"\S*\s+|\S+", text)


def _page(first: Subject, second: Subject, exam_of: Asked, evidence: Evidence, compared: Sequence[Compared], pairs: Sequence[Pair]) -> str:
    topics = sorted({p.first.topic for p in pairs if p.first.topic})
    counts = {kind: sum(p.won == kind for p in pairs) for kind in WON}
    names = {"first": first.name, "second": second.name}
    return page.environment().get_template(PAGE).render(
        first=first, second=second, suite=exam_of.suite, findings=evidence.findings, compared=compared, pairs=pairs, topics=topics,
        evidence=evidence, won=[(kind, words.format(**names), counts[kind]) for kind, words in WON.items() if counts[kind]],
    )  # fmt: skip


def document(found: Comparison) -> dict[str, object]:
    """What `lorikeet compare --json` prints."""
    counts = {kind: sum(p.won == kind for p in found.pairs) for kind in WON}
    return {**json.loads(json.dumps(asdict(found.evidence))), "won": counts, "page": str(found.page)}


def told(found: Comparison) -> str:
    """The sentences, who won how often, and where the page is."""
    lines = [f"{'! ' * (f.severity == 'warning')}{f.what}" for f in found.evidence.findings]
    return "\n".join([*lines, f"side by side: {found.page}"])
