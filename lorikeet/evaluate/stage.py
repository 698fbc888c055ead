"""The evaluate stage: held-out loss, answers, the suite's probes, a general panel and benchmarks, base and tuned model side by side.

Writes evidence.json, answers.jsonl and, with benchmarks, benchmarks.jsonl. Sets that are never mixed: unseen wordings of what was taught, questions of the
kind it was taught to turn away, near misses among them apart, situations never taught, and the suite's probes.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorikeet import comparison, machine, statistics
from lorikeet.artifact import NOTES, Artifact
from lorikeet.comparison import Column, Compared
from lorikeet.engine import Sampling
from lorikeet.engine.torch_engine import TorchEngine
from lorikeet.errors import RefusedError
from lorikeet.evaluate import holdout, judged, panel
from lorikeet.evidence import SINCE, Evidence, Finding, Measure, measured
from lorikeet.exam import (
    Answer,
    HeldOut,
    Question,
    as_question,
    ask,
    evenly,
    held_out_questions,
    held_out_ratings,
    held_out_tokens,
    measures,
    read_rows,
    suite_columns,
    taught_answers,
    trained_questions,
    untaught_questions,
    write_answers,
)
from lorikeet.progress import Progress
from lorikeet.recipe import EvaluateSettings, JudgeSettings, MachineSettings
from lorikeet.suite import Persona, Suite
from lorikeet.weights import Base

RESULTS, JUDGEMENTS = "benchmarks.jsonl", "judgements.jsonl"


@dataclass
class _Given:
    """What one model gave."""

    columns: list[Column]
    answers: list[Answer]
    rated: list[float]
    results: list[dict[str, object]] = field(default_factory=list)


def run(data: Artifact, base: Base, trained: Artifact, began: Path | None, settings: EvaluateSettings, suite: Suite, persona: Persona, seed: int,
        here: MachineSettings, folder: Path, progress: Progress) -> None:  # fmt: skip
    """Examine the base, what the tuned model `began` from where that is an adapter, and the tuned model, with the same questions."""
    examiner = _Examiner(data, settings, suite, persona, seed, progress)
    evidence, given = Evidence(), {}
    for subject, path in (("base", None), *([("before", began)] if began else []), ("tuned", trained.path)):
        engine = TorchEngine(base.path, path, machine.threads(here.threads))
        given[subject] = examiner.examine(engine, subject, rated=not began or subject != "base")
        engine.close()
        machine.give_back_memory()
        held_out = [a for a in given[subject].answers if a.set not in ("suite", "judged")]
        evidence.measures.extend([*_told(given[subject].columns, subject, seed), *measures(held_out, subject)])
    if settings.judge:
        evidence.findings.append(_judged(given, settings.judge, folder / NOTES / JUDGEMENTS, seed, progress))
        evidence.measures.extend(m for subject, g in given.items() for m in _told([c for c in g.columns if c.name.startswith("judge.")], subject, seed))
    compared = comparison.compare("base", "tuned", given["base"].columns, given["tuned"].columns, seed)
    evidence.measures.extend(c.measure() for c in compared)
    evidence.findings.extend([*_in_words(compared), *examiner.left_out])
    if began:
        since = comparison.compare("before", "tuned", given["before"].columns, given["tuned"].columns, seed)
        evidence.measures.extend(replace(c.measure(), name=f"{c.column.name}_since") for c in since)
        evidence.findings.extend(replace(c.finding(), code=SINCE + c.column.name) for c in since if c.shown or c.column.name.startswith("ratings."))
    if examiner.rated:
        before = given["before" if began else "base"].rated
        changes = [tuned - was for was, tuned in zip(before, given["tuned"].rated, strict=True)]
        margin = _margin(changes, [liked for *_, liked in examiner.rated], seed)
        evidence.measures.append(measured("ratings.margin", "tuned", margin, "nats an answer"))
        evidence.findings.append(_margin_in_words(margin))
    evidence.write(folder)
    write_answers(folder / "answers.jsonl", [a for g in given.values() for a in g.answers])
    if results := [r for g in given.values() for r in g.results]:
        (folder / RESULTS).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in results), encoding="utf-8")


def _judged(given: dict[str, _Given], settings: JudgeSettings, cache: Path, seed: int, progress: Progress) -> Finding:
    """Have the answers to held-out taught questions graded, as columns of both; where the judge is not to be believed, only the finding that says so."""
    from lorikeet.engine.endpoint import endpoint
    from lorikeet.judge import Item, Judge

    asked = [Item(s, a.id, a.question, a.reply, a.expected) for s, g in given.items() for a in g.answers if a.set == "taught" and a.expected]
    engine = endpoint(settings.endpoint)
    progress.say(f"  judge: {engine.model} grades {len(asked)} answers")
    try:
        found = Judge(engine, cache, settings.budget, lambda done, total: progress.step("judge: grades", done, total)).grade(asked, seed)
    except RefusedError as error:
        return Finding("warning", error.message, code="judge", cure=error.cure)
    finally:
        engine.close()
    for subject, g in given.items():
        g.columns += found.columns(subject)
    return found.finding(engine.model)


class _Examiner:
    """What both models are asked, and how. left_out: findings on what was not asked since the model was trained on it."""

    def __init__(self, data: Artifact, settings: EvaluateSettings, suite: Suite, persona: Persona, seed: int, progress: Progress) -> None:
        self._settings, self._suite, self._seed, self._progress = settings, suite, seed, progress
        rows = read_rows(data)
        self._taught = taught_answers(rows)
        self._held_out: list[HeldOut] = [r for r in rows if r.part == "test" and r.kind == "taught"]
        self._tokens, self.rated = held_out_tokens(data), held_out_ratings(data)
        self._judged = judged.read(data, settings.rated)
        self._questions = [*held_out_questions(rows, "taught", settings.questions), *untaught_questions(rows, settings)]
        trained = trained_questions(rows)
        leaked = {probe.id: place for probe, place in suite.trained_on(trained)}
        probes = [as_question(probe, persona.prompt(probe.mode)) for probe in suite.probes if probe.id not in leaked]
        self._probes = [replace(probe, set="suite") for probe in evenly(probes, settings.probes)] if settings.probes else []
        self.left_out = _left_out(f"probes of {suite.name}", leaked)
        self._benchmarks = []
        if settings.benchmarks:
            from lorikeet.evaluate import benchmarks

            self._benchmarks = benchmarks.load(settings.benchmarks, settings.benchmark_rows, trained)
            for benchmark in self._benchmarks:
                self.left_out += _left_out(f"questions of {benchmark.title}", benchmark.leaked)

    def examine(self, engine: TorchEngine, subject: str, *, rated: bool) -> _Given:
        """Everything that is asked of one model. rated: the questions whose answers were judged too."""
        questions = [*self._questions, *((j.question for j in self._judged) if rated else ())]
        seen = f"{len(self._tokens)} rows, {len(questions)} questions, {len(self._probes)} probes"
        self._progress.say(f"  {subject}: held-out loss over {seen}")
        columns = holdout.losses(self._held_out, engine.losses(self._tokens))
        sampling = Sampling(max_tokens=self._settings.max_new_tokens, seed=self._seed)
        answers = ask(engine, subject, questions, sampling, self._suite, self._taught, self._progress)
        columns += [*holdout.nearness(answers), *judged.columns(self._judged, answers)]
        if self._settings.embedding:
            columns += holdout.similarity(answers, self._settings.embedding)
        probed = [answer for sample in range(self._settings.samples) for answer in self._sample(engine, subject, sample)]
        given = _Given(columns + suite_columns(probed, self._suite.name), answers + probed, self.log_likelihoods(engine))
        if self._settings.panel:
            self._progress.say(f"  {subject}: general panel")
            given.columns += panel.ask(engine, panel.questions(), panel.texts())
        if self._benchmarks:
            self._bench(engine, subject, given)
        return given

    def log_likelihoods(self, engine: TorchEngine) -> list[float]:
        """Of every rated answer that was held out, in nats."""
        return [-loss for loss, *_ in engine.losses([(ids, answer) for ids, answer, _ in self.rated])]

    def _sample(self, engine: TorchEngine, subject: str, number: int) -> list[Answer]:
        """Answers to the probes, of which a question may get several: they differ by seed, and by what is behind # in their id."""
        sampling = Sampling(self._settings.temperature, max_tokens=self._settings.max_new_tokens, seed=self._seed + number)
        asked: list[Question] = [replace(q, id=f"{q.id}#{number + 1}") for q in self._probes] if self._settings.samples > 1 else self._probes
        return ask(engine, subject, asked, sampling, self._suite, self._taught, self._progress)

    def _bench(self, engine: TorchEngine, subject: str, given: _Given) -> None:
        from lorikeet.evaluate import benchmarks, letters

        self._progress.say(f"  {subject}: " + ", ".join(f"{b.title} ({len(b.asked)})" for b in self._benchmarks))

        def told(done: int, total: int) -> None:
            self._progress.step(f"{subject}: benchmarks", done, total)

        columns, results = benchmarks.ask(engine, subject, self._benchmarks, told)
        if self._settings.letters:
            more, also = letters.ask(engine, subject, self._benchmarks, self._seed, told)
            columns, results = columns + more, results + also
        given.columns += columns
        given.results += [r._asdict() for r in results]


def _left_out(what: str, leaked: dict[str, str]) -> list[Finding]:
    """What a reader must know of questions that the model was trained on: they say nothing, and were not asked."""
    if not leaked:
        return []
    name, place = next(iter(leaked.items()))
    return [Finding("warning", f"{len(leaked)} {what} stand in the training rows and were left out", f"{name}: {place}", code="suite.leak",
                    cure="reword them, or remove the rows")]  # fmt: skip


def _told(columns: Sequence[Column], subject: str, seed: int) -> list[Measure]:
    """A measure for every column, and the perplexity beside the loss."""
    found = []
    for column in columns:
        measure = column.measure(subject, seed)
        found.append(measure)
        if column.name == "holdout.loss":
            value, low, high = (round(math.exp(x), 6) for x in (measure.value, measure.low, measure.high))
            found.append(replace(measure, name="holdout.perplexity", value=value, low=low, high=high, unit="per token"))
    return found


def _in_words(compared: Sequence[Compared]) -> list[Finding]:
    """The held-out loss first; of the others what is shown, and what the reader asks about all the same: whether it forgot, and the benchmarks."""
    found = [_loss_in_words(c.change.interval, shown=c.shown) for c in compared if c.column.name == "holdout.loss"]
    for c in compared:
        name = c.column.name
        if name != "holdout.loss" and (c.shown or name.startswith(("general.", "benchmark.", "judge.")) or name.endswith(".pass_rate")):
            cure = "fewer epochs, a lower learning rate, a smaller rank, or general rows among those taught" if name.startswith("general.") else ""
            finding = c.finding()
            found.append(replace(finding, cure=cure) if finding.severity == "warning" else finding)
    return found


def _margin(changes: list[float], liked: list[bool], seed: int) -> statistics.Interval:
    """How much more the logarithm of a liked answer's probability rose than that of a disliked one: what the odds of one over the other gained."""
    rose, fell = ([change for change, is_liked in zip(changes, liked, strict=True) if is_liked == kind] for kind in (True, False))
    return statistics.difference_of_means(rose, fell, seed)


def _margin_in_words(margin: statistics.Interval) -> Finding:
    on = f"(95 % interval {margin.low:.2f} to {margin.high:.2f}, {margin.n} held-out ratings)"
    if margin.low > 0:
        return Finding("note", f"a liked answer's odds over a disliked one rose by {margin.value:.2f} nats {on}")
    if margin.high < 0:
        return Finding(
            "warning", f"a liked answer's odds over a disliked one FELL by {-margin.value:.2f} nats {on}", cure="a lower learning rate, or more ratings"
        )
    return Finding(
        "warning", f"no difference shown in a liked answer's odds over a disliked one {on}", cure="more ratings, more epochs, or a smaller train.beta"
    )


def _loss_in_words(change: statistics.Interval, *, shown: bool) -> Finding:
    if shown and change.value < 0:
        return Finding(
            "note",
            f"training lowered the held-out loss by {-change.value:.2f} nats a token (95 % interval {-change.high:.2f} to {-change.low:.2f}, {change.n} rows)",
        )
    if shown:
        return Finding(
            "warning", f"training RAISED the held-out loss by {change.value:.2f} nats a token", cure="fewer epochs, a lower learning rate, or more rows"
        )
    return Finding(
        "warning", f"no difference shown between base and tuned model in held-out loss ({change.n} rows)", cure="more held-out rows, or longer training"
    )
