"""Two runs side by side: what differs in what they were made of, what differs in what they answer, and whether a cause can be named."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from lorikeet import artifact, statistics
from lorikeet.artifact import RUN, Artifact
from lorikeet.errors import RecipeError
from lorikeet.exam import Answer, Set, read_answers
from lorikeet.recipe import LORA_ONLY, PATHS
from lorikeet.statistics import Interval

RESOLVED, ANSWERS = "recipe.resolved.yaml", "answers.jsonl"
_MODEL, _EXAM = ("base", "seed", "persona", "data", "train"), ("evaluate", "audit")
_PATHS = {*PATHS} - {"evaluate.embedding"}
"""Keys that name files or a base: what they hold is compared, not what it is called."""
_ADAPTERS = {f"train.{key}" for key in LORA_ONLY}
ASKED: tuple[tuple[Set, str], ...] = (
    ("taught", "probes that pass"), ("oblique", "oblique probes that pass"), ("outside", "other matters turned away"),
    ("near", "near misses turned away"), ("never", "never taught, turned away"),
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """A key, with its value in either run; rows and other files by the beginning of their sha256."""

    key: str
    first: object
    second: object


@dataclass(frozen=True)
class Compared:
    """Shares of the same questions answered rightly by both runs, and the paired difference with its 95 % interval."""

    what: str
    subject: str
    first: float
    second: float
    difference: Interval


@dataclass(frozen=True)
class Diff:
    """Differences in the model's making, in the exam, and in package versions; and what both were asked."""

    model: list[Difference]
    exam: list[Difference]
    versions: list[Difference]
    compared: list[Compared]

    @property
    def causes(self) -> list[str]:
        """What may be the cause of a difference in the answers. Rank and alpha that change together by one factor are one, and what the method of one run
        alone has a setting for is the method.
        """
        keys = {d.key: d for d in self.model}
        if "train.method" in keys:
            keys = {key: d for key, d in keys.items() if key not in _ADAPTERS or None not in (d.first, d.second)}
        both = keys.get("train.rank"), keys.get("train.alpha")
        if both[0] and both[1] and _ratio(both[0]) == _ratio(both[1]):
            del keys["train.alpha"]
        return list(dict.fromkeys("rows" if key.startswith("rows of ") else key for key in keys)) + (["package versions"] if self.versions else [])

    def document(self) -> dict[str, object]:
        compared = [{**asdict(c), "difference": c.difference._asdict()} for c in self.compared]
        return {**{name: [asdict(d) for d in getattr(self, name)] for name in ("model", "exam", "versions")}, "compared": compared, "causes": self.causes}


def _ratio(difference: Difference) -> float | None:
    first, second = difference.first, difference.second
    return second / first if isinstance(first, int | float) and isinstance(second, int | float) and first else None


def diff(first: Path, second: Path) -> Diff:
    """Hold two run folders against each other; RecipeError where one is none."""
    runs = [run_of(path) for path in (first, second)]
    differing = _differing(_keys(first), _keys(second))
    return Diff(
        [d for d in differing if d.key.split(".")[0] in _MODEL or d.key.startswith("rows of ") or d.key in ("the base", "the persona", "the adapter")],
        [d for d in differing if d.key.split(".")[0] in _EXAM or d.key == "the suite"],
        _differing(*(run.get("versions", {}) for run in runs)),
        list(_compared(_answers(first, runs[0]), _answers(second, runs[1]))),
    )


def _differing(one: Mapping[str, object], other: Mapping[str, object]) -> list[Difference]:
    return [Difference(key, one.get(key), other.get(key)) for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]


def run_of(path: Path) -> Mapping[str, Any]:
    """What run.json of a run folder says; RecipeError where it is none."""
    if not (path / RUN).is_file() or not (path / RESOLVED).is_file():
        raise RecipeError(f"{path} is not a run folder: it has no {RUN if not (path / RUN).is_file() else RESOLVED}", "name a folder made by `lorikeet run`")
    try:
        run: Mapping[str, Any] = json.loads((path / RUN).read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecipeError(f"{path / RUN} cannot be read: {error}", "run the recipe again: what is done is not done twice") from error
    return run


def made_in(path: Path) -> dict[str, Artifact]:
    """What the last walk of a run made or used again, by step; RecipeError where it is no run."""
    return {step["name"]: made for step in run_of(path)["steps"] if (made := artifact.load(path / step["folder"]))}


def _keys(path: Path) -> dict[str, object]:
    """The resolved recipe, flat: settings by their dotted key, and what files hold in place of what they are called."""
    tree = yaml.safe_load((path / RESOLVED).read_text(encoding="utf-8"))
    pinned = {str(key): str(value)[:12] for key, value in tree.pop("pinned", {}).items()}
    flat = {key: value for key, value in _flat(tree) if key not in _PATHS and not key.startswith(("name", "machine", "export"))}
    held = {"base": "the base", "persona": "the persona", "train.adapter": "the adapter", "audit.suite": "the suite"}
    for key, value in pinned.items():
        name = held.get(key) or f"rows of {key.partition(':')[0]}"
        flat[name] = f"{flat[name]} {value}" if name in flat else value
    return flat


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _answers(path: Path, run: Mapping[str, Any]) -> dict[str, list[Answer]]:
    """What each file of a run answered in its audit, by quantisation; the tuned model of the evaluation where nothing was audited."""
    files = {step["name"]: file for step in run["steps"] if (file := path / step["folder"] / ANSWERS).is_file()}
    audited = {name.removeprefix("audit-"): read_answers(file) for name, file in files.items() if name.startswith("audit-")}
    if audited or "evaluate" not in files:
        return audited
    return {"tuned": [answer for answer in read_answers(files["evaluate"]) if answer.subject == "tuned"]}


def _compared(first: Mapping[str, Sequence[Answer]], second: Mapping[str, Sequence[Answer]]) -> Iterator[Compared]:
    for subject in first:
        if subject not in second:
            continue
        for which, what in ASKED:
            one, other = _right(first[subject], which), _right(second[subject], which)
            if both := [question for question in one if question in other]:
                a, b = ([answers[question] for question in both] for answers in (one, other))
                gap = statistics.ratio_of_sums([y - x for x, y in zip(a, b, strict=True)], [1.0] * len(both), 7)
                yield Compared(what, subject, sum(a) / len(a), sum(b) / len(b), gap)


def _right(answers: Sequence[Answer], which: Set) -> dict[tuple[str, str], float]:
    """Whether each question of a set was answered as it should be, by its words and mode."""
    taught = which in ("taught", "oblique")
    return {(a.question, a.mode): float(a.passed if taught else a.outcome == "declined") for a in answers if a.set == which}


def told(found: Diff, first: str, second: str) -> str:
    """The comparison for a reader."""
    lines = []
    for title, differences in (("model", found.model), ("exam", found.exam), ("versions", found.versions)):
        lines += [f"{title}: {d.key}: {_short(d.first)} -> {_short(d.second)}" for d in differences]
    if not lines:
        lines.append("nothing differs in what they were made of")
    for c in found.compared:
        gap = c.difference
        sure = "" if gap.low > 0 or gap.high < 0 else "; no difference shown"
        lines.append(
            f"{c.subject}: {c.what}: {c.first:.0%} -> {c.second:.0%} ({100 * gap.value:+.0f}: {100 * gap.low:+.0f} to {100 * gap.high:+.0f}, n {gap.n}){sure}"
        )
    lines.append(_verdict(found, first, second))
    return "\n".join(lines)


def _short(value: object) -> str:
    return "-" if value is None else str(value)


def _verdict(found: Diff, first: str, second: str) -> str:
    causes = found.causes
    if not causes:
        return "one model, examined in two ways" if found.exam else "one model, examined alike"
    if len(causes) == 1:
        aside = "; the exam differs too: only questions asked of both are compared" if found.exam else ""
        return f"one cause: {causes[0]}{aside}" + (" (a seed shows what chance does)" if causes == ["seed"] else "")
    changes = {d.key: d.second for d in found.model}
    one = next((key for key in causes if key in changes and "." in key), "")
    how = f"; to tell them apart run {first} once more with one of them changed" + (f": --set {one}={changes[one]}" if one else "")
    return f"{len(causes)} things differ ({', '.join(causes)}): no cause can be named{how}"
