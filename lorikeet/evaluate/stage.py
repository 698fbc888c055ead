"""The evaluate stage: held-out loss and perplexity, and answers of base and tuned model side by side.

Writes evidence.json and answers.jsonl. Sets that are never mixed: unseen wordings of what was taught, questions of the kind it
was taught to turn away, near misses among them apart, and situations never taught.
"""

import math
from pathlib import Path

from lorikeet import machine, statistics
from lorikeet.artifact import Artifact
from lorikeet.engine import Sampling
from lorikeet.engine.torch_engine import TorchEngine
from lorikeet.evidence import Evidence, Finding, Measure, measured
from lorikeet.exam import ask, held_out_questions, held_out_ratings, held_out_tokens, measures, read_rows, taught_answers, untaught_questions, write_answers
from lorikeet.progress import Progress
from lorikeet.recipe import EvaluateSettings, MachineSettings
from lorikeet.suite import Suite
from lorikeet.weights import Base


def run(data: Artifact, base: Base, trained: Artifact, began: Path | None, settings: EvaluateSettings, suite: Suite, seed: int,
        here: MachineSettings, folder: Path, progress: Progress) -> None:  # fmt: skip
    """Examine the base, then the tuned model, with the same questions; where it learned from judgements, hold it against what it `began` from."""
    rows = read_rows(data)
    questions = [*held_out_questions(rows, "taught", settings.questions), *untaught_questions(rows, settings)]
    tokens = held_out_tokens(data)
    sampling = Sampling(max_tokens=settings.max_new_tokens, seed=seed)
    evidence, answers, losses = Evidence(), [], {}
    rated, moved = held_out_ratings(data), {}
    for subject, path in (("base", None), ("tuned", trained.path)):
        engine = TorchEngine(base.path, path, machine.threads(here.threads))
        progress.say(f"  {subject}: held-out loss over {len(tokens)} rows, {len(questions)} questions")
        losses[subject] = engine.losses(tokens)
        moved[subject] = [-loss for loss, _ in engine.losses([(ids, answer) for ids, answer, _ in rated])]
        given = ask(engine, subject, questions, sampling, suite, taught_answers(rows), progress)
        engine.close()
        machine.give_back_memory()
        evidence.measures.extend([*_loss_measures(subject, losses[subject], seed), *measures(given, subject)])
        answers += given
    difference = [(t[0] - b[0], b[1]) for b, t in zip(losses["base"], losses["tuned"], strict=True)]
    change = statistics.ratio_of_sums([d for d, _ in difference], [float(n) for _, n in difference], seed)
    evidence.measures.append(measured("holdout.loss_change", "tuned", change, "nats a token"))
    evidence.findings.append(_in_words(change))
    if rated:
        if began is not None:
            engine = TorchEngine(base.path, began, machine.threads(here.threads))
            moved["base"] = [-loss for loss, _ in engine.losses([(ids, answer) for ids, answer, _ in rated])]
            engine.close()
        changes = [tuned - before for before, tuned in zip(moved["base"], moved["tuned"], strict=True)]
        margin = _margin(changes, [liked for *_, liked in rated], seed)
        evidence.measures.append(measured("ratings.margin", "tuned", margin, "nats an answer"))
        evidence.findings.append(_margin_in_words(margin))
    evidence.write(folder)
    write_answers(folder / "answers.jsonl", answers)


def _loss_measures(subject: str, losses: list[tuple[float, int]], seed: int) -> list[Measure]:
    loss = statistics.ratio_of_sums([total for total, _ in losses], [float(n) for _, n in losses], seed)
    value, low, high = (math.exp(x) for x in loss[:3])
    return [
        measured("holdout.loss", subject, loss, "nats a token"),
        measured("holdout.perplexity", subject, statistics.Interval(value, low, high, loss.n, loss.method), "per token"),
    ]


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


def _in_words(change: statistics.Interval) -> Finding:
    if change.high < 0:
        return Finding(
            "note",
            f"training lowered the held-out loss by {-change.value:.2f} nats a token (95 % interval {-change.high:.2f} to {-change.low:.2f}, {change.n} rows)",
        )
    if change.low > 0:
        return Finding(
            "warning", f"training RAISED the held-out loss by {change.value:.2f} nats a token", cure="fewer epochs, a lower learning rate, or more rows"
        )
    return Finding(
        "warning", f"no difference shown between base and tuned model in held-out loss ({change.n} rows)", cure="more held-out rows, or longer training"
    )
