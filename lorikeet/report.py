"""The report: run.json and the folders of a run in, one self-contained HTML file out.

It reads and arranges; it measures nothing and judges nothing. A section whose step is not done is left out.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lorikeet import artifact, page
from lorikeet.artifact import NOTES, Artifact
from lorikeet.diagnosis import diagnose, read_log
from lorikeet.errors import ModelError
from lorikeet.evidence import DECIDED, RELEASE, Evidence, FileVerdict, Finding, Measure, Release, read_evidence, read_release
from lorikeet.exam import UNTAUGHT, Answer, Set, read_answers
from lorikeet.released import ROUND, ROUNDS
from lorikeet.weights import QUANTISED

RUN, REPORT, TEMPLATE = "run.json", "report.html", "report.html"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TAUGHT_SHOWN, UNTAUGHT_SHOWN, WORST_SHOWN = 12, 6, 3
Tone = Literal["good", "poor", "bad", ""]


class Pair(NamedTuple):
    """One question answered by base and tuned model."""

    base: Answer
    tuned: Answer


@dataclass(frozen=True)
class File:
    """One quantisation: what is inside, how fast it is here, what was measured, and the gate's word."""

    quantisation: str
    inside: Mapping[str, Any]
    same_as: str
    speed: Mapping[str, Any] | None
    passed: Measure | None
    violated: Measure | None
    divergence: Measure | None
    agreement: Measure | None
    judged: FileVerdict | None
    beside: Sequence[str]
    worst: Sequence[Answer]
    notes: Sequence[Finding]

    @property
    def verdict(self) -> str:
        return self.judged.verdict if self.judged else ""


class Curve(NamedTuple):
    """A figure of the training log, in the units of its SVG (420 by 210): polylines, dots and labelled ticks."""

    title: str
    each: str
    mean: str
    held_out: Sequence[tuple[float, float, int, float]]
    rows: Sequence[tuple[float, float]]
    last: int


class Dot(NamedTuple):
    """A file in the chart: its place, the ends of its interval, and the height of its label."""

    file: File
    x: float
    y: float
    low: float
    high: float
    label: float


class Bar(NamedTuple):
    """A file in the chart of all that counts: the lengths of its bars, 0 to 1, by what they tell; None where it was not measured."""

    file: File
    size: float
    speed: float | None
    passed: float | None
    divergence: float | None


class Chart(NamedTuple):
    """Size against pass rate, with labelled ticks and the height of the threshold."""

    dots: Sequence[Dot]
    ticks: Sequence[tuple[float, float]]
    threshold: float | None


class Headline(NamedTuple):
    """The verdict as a sentence, the reasons under it, and its colour."""

    tone: Tone
    sentence: str
    reasons: Sequence[str]


def write(directory: Path) -> Path:
    """Write `directory`/report.html from run.json and the folders it names. ModelError where there is no run.json."""
    if not (directory / RUN).is_file():
        raise ModelError(f"{directory} holds no {RUN}", "name the folder of a run, or make one with: lorikeet run RECIPE")
    run = _json(directory / RUN)
    made = {step["name"]: kept for step in run["steps"] if (kept := artifact.load(directory / step["folder"]))}
    environment = page.environment()
    environment.filters |= {"number": number, "share": share, "duration": duration}
    environment.globals |= {"outcome": outcome}
    environment.tests["search"] = lambda name, pattern: re.search(pattern, name) is not None
    text = environment.get_template(TEMPLATE).render(_sections(run, made, directory))
    target = directory / REPORT
    target.write_text(text, encoding="utf-8")
    return target


def _sections(run: Mapping[str, Any], made: Mapping[str, Artifact], directory: Path) -> dict[str, Any]:
    """Everything the template shows, by section; None for a step that is not done."""
    release = read_release(made["release"].file(RELEASE)) if "release" in made else None
    files = _files(made, run["suite"], release)
    limits: dict[str, Any] = {**made["release"].manifest.settings} if "release" in made else {}
    base = Path(run["base"]["name"])
    return {
        "run": run,
        "made": made,
        "place": "/".join(["runs", *directory.resolve().parts[-3 if directory.resolve().parent.name == ROUNDS else -1 :]]),
        "base": base.name if base.is_absolute() else str(base),
        "headline": _headline(run, files, release),
        "recommended": release.recommended if release else None,
        "data": _data(made["data"]) if "data" in made else None,
        "round": _round(directory / ROUND, made["evaluate"]) if (directory / ROUND).is_file() and "evaluate" in made else None,
        "training": _training(made["train"], run) if "train" in made else None,
        "comparison": _comparison(made["evaluate"]) if "evaluate" in made else None,
        "files": files,
        "limits": limits,
        "chart": _chart(files, limits.get("pass_rate_at_least")),
        "bars": _bars(files) if any(f.passed for f in files) else [],
        "parity": _json(made["export-F16"].file("parity.json")) if "export-F16" in made else None,
    }


def _round(path: Path, evaluated: Artifact) -> dict[str, Any]:
    """The verdict of a round of retraining, with some of the rated questions as they were answered before and are now."""
    answers = [a for a in read_answers(evaluated.file("answers.jsonl")) if a.set == "judged"]
    now = {a.id: a for a in answers if a.subject == "tuned"}
    pairs = [Pair(a, now[a.id]) for a in answers if a.subject == "before" and a.id in now and a.reply != now[a.id].reply]
    return {**_json(path), "pairs": _spread(pairs, TAUGHT_SHOWN)}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _headline(run: Mapping[str, Any], files: Sequence[File], release: Release | None) -> Headline:
    if release is None:
        failed = [step["name"] for step in run["steps"] if step["status"] == "failed"]
        at = f"it failed at {failed[0]}" if failed else f"it went as far as {run['steps'][-1]['name']}" if run["steps"] else "nothing is done"
        return Headline("poor", f"No verdict yet: this run is not finished, {at}.", ["Start the same recipe again and it goes on from there."])
    best = next((f for f in release.files if f.quantisation == release.recommended), None)
    if best:
        others = sum(f.verdict == "approved" for f in release.files) - 1
        also = f"{others} other {'file is' if others == 1 else 'files are'} approved too; this is the smallest." if others else "No other file is approved."
        return Headline("good", f"{best.quantisation}, {best.bytes / 1e6:.0f} MB, is approved: {'; '.join(best.reasons)}.", [also])
    nearest = max((f for f in files if f.judged), key=lambda f: (f.verdict != "blocked", f.passed.value if f.passed else 0.0), default=None)
    blocked = sum(f.verdict == "blocked" for f in release.files)
    doubted = len(release.files) - blocked
    why = (
        f"{blocked} files are blocked, {doubted} have too little evidence." if blocked and doubted else "All are blocked." if blocked else "All lack evidence."
    )
    if nearest is None or nearest.judged is None:
        return Headline("bad", "No file earned approval.", [why])
    return Headline("bad", "No file earned approval.", [f"{why} The nearest was {nearest.quantisation}: {'; '.join(nearest.judged.reasons)}."])


def _data(made: Artifact) -> dict[str, Any]:
    figures = _json(made.file("data.json"))
    parts: dict[str, dict[str, int]] = {}
    for key, count in figures["parts"].items():
        kind, part = key.rsplit("/", 1)
        parts.setdefault(kind, {})[part] = count
    names = [Path(file).name for file in figures["files"]]
    return {**figures, "parts": parts, "files": names, "findings": _json(made.file("findings.json")), "preview": _json(made.file("preview.json"))}


MARGINS = (("loss", "rewards/margins"), ("eval_loss", "eval_rewards/margins"))
"""What the trainers of preferences log beside losses, each in the place of one."""


def _training(made: Artifact, run: Mapping[str, Any]) -> dict[str, Any]:
    told = _json(made.file("training.json"))
    step = next(step for step in run["steps"] if step["name"] == "train")
    held_out = [(int(e["step"]), e["eval_loss"]) for e in told["log"] if "eval_loss" in e]
    if told.get("objective", "sft") == "sft":
        curves = [_curve(told["log"], "Loss a supervised token", float)]
        curves.append(_curve(told["log"], "Perplexity a supervised token", math.exp))
    else:
        curves = [_curve(told["log"], "Loss", float)]
        margins = [{"step": e["step"], kind: e[key]} for e in told["log"] for kind, key in MARGINS if key in e]
        curves.append(_curve(margins, "Margin of liked over disliked answers", float))
    how = _how_trained(made.manifest.settings)
    diagnosis = [asdict(finding) for finding in diagnose(read_log(made.path))]
    return {
        **told,
        "how": how,
        "settings": made.manifest.settings,
        "cost": step,
        "held_out": held_out,
        "curves": [c for c in curves if c],
        "diagnosis": diagnosis,
    }


def _how_trained(settings: Mapping[str, Any]) -> str:
    learned = {"kto": ", from liked and disliked answers (KTO)", "dpo": ", from pairs of answers (DPO)"}.get(settings.get("objective", "sft"), "")
    if settings.get("method") == "full":
        return f"Full training from layer {settings['first_layer']} on, without adapter" if settings.get("first_layer") else "Full training, without adapter"
    return f"LoRA of rank {settings['rank']}" + (" and whole embeddings" if settings.get("embeddings") else "") + learned


def _curve(log: Sequence[Mapping[str, float]], title: str, change: Callable[[float], float]) -> Curve | None:
    """One figure: each step, the mean of the last 15, and the held-out values. The axis ends at the largest mean."""
    steps = [(int(e["step"]), e["loss"]) for e in log if "loss" in e]
    if len(steps) < 2:
        return None
    means = [(s, change(sum(v for _, v in steps[max(0, i - 14) : i + 1]) / min(i + 1, 15))) for i, (s, _) in enumerate(steps)]
    held_out = [(int(e["step"]), change(e["eval_loss"])) for e in log if "eval_loss" in e]
    low, top, last = change(0.0), max(v for _, v in means + held_out), steps[-1][0]

    def at(step: float, value: float) -> tuple[float, float]:
        return round(34 + 376 * step / last, 1), round(184 - 170 * (value - low) / ((top - low) or 1), 1)

    def line(points: Sequence[tuple[int, float]]) -> str:
        return " ".join("{:g},{:g}".format(*at(s, v)) for s, v in points)

    ticks = [(at(0, value)[1], value) for value in _ticks(low, top)]
    return Curve(title, line([(s, min(change(v), 2 * top)) for s, v in steps]), line(means), [(*at(s, v), s, v) for s, v in held_out], ticks, last)


def _ticks(low: float, top: float) -> list[float]:
    """Three to six round numbers from `low` to `top`."""
    rough = (top - low) / 4 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [tick for n in range(int(top / step) + 1) if (tick := round(n * step, 9)) >= low] if low == 0 else [low, *_ticks(0, top)[1:]]


def _comparison(made: Artifact) -> dict[str, Any]:
    answers = read_answers(made.file("answers.jsonl"))
    shown: dict[Set, int] = {"taught": TAUGHT_SHOWN, **dict.fromkeys(UNTAUGHT, UNTAUGHT_SHOWN)}
    return {"evidence": read_evidence(made.path), **{which: _pairs(answers, which, count) for which, count in shown.items()}}


def _pairs(answers: Sequence[Answer], which: Set, count: int) -> tuple[list[Pair], list[Pair]]:
    """Pairs to show and the rest: up to a third are questions on which the tuned model fails, the others evenly spread."""
    tuned = {a.id: a for a in answers if a.subject == "tuned" and a.set == which}
    pairs = [Pair(a, tuned[a.id]) for a in answers if a.subject == "base" and a.set == which and a.id in tuned]
    failed = [p for p in pairs if outcome(p.tuned)[0] in ("poor", "bad")]
    shown = _spread(failed, count // 3)
    shown += _spread([p for p in pairs if p not in failed], count - len(shown))
    return [p for p in pairs if p in shown], [p for p in pairs if p not in shown]


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    step = max(1.0, len(pairs) / max(count, 1))
    return [pairs[int(i * step)] for i in range(min(count, len(pairs)))]


def outcome(answer: Answer) -> tuple[Tone, str]:
    """What the rules make of an answer, as a colour and in words; empty where no rule speaks."""
    if answer.sick:
        return "bad", answer.sick
    untaught = answer.set in UNTAUGHT
    if (answer.misdirected and not answer.passed) or (answer.resembles and untaught):
        return "bad", f"gives the answer for {answer.resembles}"
    if untaught:
        return ("good", "says that it was not taught this") if answer.outcome == "declined" else ("poor", "answers all the same")
    missing = " and ".join(f"“{_readable(thing)}”" for thing in answer.detail.split("; "))
    words: dict[str, tuple[Tone, str]] = {
        "pass": ("good", "passes the rules"),
        "miss": ("poor", f"leaves out {missing} or the like"),
        "violation": ("bad", f"breaks a must-never rule: “{answer.detail}”"),
        "declined": ("poor", "turns a taught question away"),
        "unreadable": ("bad", "nothing to read"),
    }
    return words.get(answer.outcome, ("", ""))


def _readable(thing: str) -> str:
    """The first of several patterns, without the marks of the pattern language."""
    return thing.split(" / ")[0].replace("|", " or ").replace("..", "…").replace("*", "")


def _files(made: Mapping[str, Artifact], suite: str, release: Release | None) -> list[File]:
    """Every export, smallest first."""
    files: list[File] = []
    first: dict[str, str] = {}
    judged = {f.quantisation: f for f in release.files} if release else {}
    for name in (name for name in made if name.startswith("export-")):
        inside = _json(made[name].file(QUANTISED))
        quantisation = str(inside["quantisation"])
        same_as = first.setdefault(inside["tensors_sha256"], quantisation)
        audit = made.get(f"audit-{quantisation}")
        evidence, answers = (read_evidence(audit.path), read_answers(audit.file("answers.jsonl"))) if audit else (Evidence(), [])
        speed = audit.path / NOTES / "speed.json" if audit else None
        files.append(
            File(
                quantisation,
                inside,
                same_as if same_as != quantisation else "",
                _json(speed) if speed and speed.is_file() else None,
                evidence.measure(f"suite.{suite}.pass_rate", quantisation),
                evidence.measure(f"suite.{suite}.violation_rate", quantisation),
                evidence.measure("divergence.kl", quantisation),
                evidence.measure("divergence.top1_agreement", quantisation),
                judged.get(quantisation),
                _beside(evidence, suite, quantisation),
                _worst(answers),
                [f for f in evidence.findings if not f.answer and f.code not in ("audit.sick", DECIDED)],
            )
        )
    return sorted(files, key=lambda f: int(f.inside["bytes"]))


def _beside(evidence: Evidence, suite: str, subject: str) -> list[str]:
    """What was asked beside the probes that the gate rests on, each set in a sentence."""

    def told(name: str) -> str:
        found = evidence.measure(name, subject)
        return f"{round(found.value * found.n)} of {found.n} ({share(found.low)} to {share(found.high)})" if found else ""

    sentences = []
    ratio, differ, parting = (evidence.measure(f"divergence.{name}", subject) for name in ("perplexity_ratio", "answers_differ", "parting"))
    if ratio:
        sentences.append(f"Its perplexity is {ratio.value:.3f} times F16’s ({ratio.low:.3f} to {ratio.high:.3f}).")
    if differ:
        where = f", and part after {share(parting.value)} of the answer (the median)" if parting else ""
        sentences.append(f"{round(differ.value * differ.n)} of {differ.n} greedy answers are in other words than F16’s{where}.")
    if ratio and (against := evidence.measure("divergence.contradiction_rate", subject)):
        sentences.append(f"{round(against.value * against.n)} say the opposite of what F16 says." if against.value else "None says the opposite of F16.")
    if (aside := evidence.measure(f"suite.{suite}.set_aside", subject)) and aside.value:
        sentences.append(f"{round(aside.value * aside.n)} of {aside.n} refuse, or only call for help: neither passed nor failed.")
    if passed := told(f"suite.{suite}.oblique_pass_rate"):
        sentences.append(f"Taught situations told without their name: {passed} of the answers pass the rules.")
    for which, name in (("outside", "Out of scope"), ("near", "Near misses"), ("never", "Situations never taught")):
        if says_so := told(f"{which}.says_so"):
            sentences.append(f"{name}: {says_so} answers say that it was not taught this, {told(f'{which}.misdirected')} give a taught situation’s answer.")
    return sentences


def _worst(answers: Sequence[Answer]) -> list[Answer]:
    """The answers a reader must see: broken rules, then broken answers, then misdirected, then incomplete ones."""

    def rank(answer: Answer) -> int:
        flags = (answer.outcome == "violation", bool(answer.sick), outcome(answer)[0] == "bad", outcome(answer)[0] == "poor")
        return flags.index(True) if True in flags else len(flags)

    return [a for a in sorted(answers, key=rank) if rank(a) < 4][:WORST_SHOWN]


def _chart(files: Sequence[File], threshold: float | None) -> Chart | None:
    """Size (logarithmic) against pass rate, in the units of a 420 by 240 SVG; labels stand in a column on the right."""
    points = [(f, f.passed, math.log(f.inside["bytes"])) for f in files if f.passed and not f.same_as]
    if not points:
        return None
    low, wide = min(size for *_, size in points), (max(size for *_, size in points) - min(size for *_, size in points)) or 1.0
    floor = math.floor(10 * min([p.low for _, p, _ in points] + [threshold or 1.0])) / 10

    def height(rate: float) -> float:
        return round(14 + 192 * (1 - rate) / (1 - floor or 1.0), 1)

    dots, last, room = [], 0.0, 15.0
    for above, (file, passed, size) in enumerate(sorted(points, key=lambda point: (-point[1].value, -point[2]))):
        last = max(last + room, min(height(passed.value), 206 - room * (len(points) - 1 - above)))
        dots.append(Dot(file, round(48 + 206 * (size - low) / wide, 1), height(passed.value), height(passed.low), height(passed.high), round(last, 1)))
    step = 0.1 if floor >= 0.5 else 0.2
    ticks = [(height(1 - n * step), 1 - n * step) for n in range(int(round((1 - floor) / step, 6)) + 1)]
    return Chart(dots, ticks, height(threshold) if threshold else None)


def _bars(files: Sequence[File]) -> list[Bar]:
    """Size, speed, share of probes passed and divergence of every file, each against the largest."""

    def most(values: Sequence[float]) -> float:
        return max(values, default=0.0) or 1.0

    largest = most([float(f.inside["bytes"]) for f in files])
    fastest = most([float(f.speed["tokens_a_second"]) for f in files if f.speed])
    furthest = most([f.divergence.value for f in files if f.divergence])
    return [
        Bar(
            f,
            f.inside["bytes"] / largest,
            f.speed["tokens_a_second"] / fastest if f.speed else None,
            f.passed.value if f.passed else None,
            f.divergence.value / furthest if f.divergence else None,
        )
        for f in files
        if not f.same_as
    ]


def number(value: float) -> str:
    """A count with its thousands set apart, or three significant digits; very small numbers by a power of ten."""
    if isinstance(value, int) or value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 1e-3:
        return f"{value:#.3g}"
    figure, power = f"{value:.1e}".split("e")
    return f"{figure}·10{str(int(power)).translate(_RAISED)}"


def share(value: float) -> str:
    """A share in per cent; one decimal where 100 would hide a miss."""
    return ">99.9%" if 0.9995 <= value < 1 else f"{value:.1%}" if 0.99 < value < 1 else f"{value:.0%}"


def duration(seconds: float) -> str:
    """Seconds, minutes and seconds, or hours and minutes."""
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min"
        if minutes >= 60
        else f"{minutes} min {rest:02d} s"
        if minutes
        else f"{seconds:.{0 if seconds >= 10 else 1}f} s"
    )
