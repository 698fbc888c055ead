"""The loop that runs what changed: with toy steps, and the keys of the real ones."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from toy_recipe import write_recipe

from lorikeet import artifact, machine, pipeline, report
from lorikeet.artifact import MANIFEST, Artifact, Json
from lorikeet.crew import Here
from lorikeet.errors import BusyError, DataError, MachineError, RecipeError
from lorikeet.pipeline import Road, Run
from lorikeet.progress import Progress, Silent
from lorikeet.recipe import LoadedRecipe, load_recipe
from lorikeet.steps import Step, key_of, steps_of
from lorikeet.weights import Base

BASE = Base(Path("/nowhere"), "tiny", "base-print", "here", "unknown")
Work = Callable[[Mapping[str, Artifact], Path, Progress], None]


def writes(text: str) -> Work:
    def work(inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        (folder / "out.txt").write_text(text)

    return work


def breaks(inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
    (folder / "half.txt").write_text("half")
    (folder / "notes" / "checkpoint").write_text("50")
    raise DataError("a bad row", "mend it")


def never(inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
    raise AssertionError("this step was done already")


def step(
    work: Work, settings: dict[str, Json] | None = None, name: str = "data", stage: str = "data", inputs: tuple[str, ...] = ("base",), version: int = 1
) -> Step:
    return Step(name, stage, version, settings if settings is not None else {"x": 1}, inputs, work)


def do(one: Step, directory: Path, walked: Run | None = None, progress: Progress | None = None) -> Artifact:
    walked = walked or Run(directory)
    pipeline._walk([Road(LoadedRecipe.model_construct(), [one], walked)], BASE, Here(), progress or Silent())
    return walked.artifacts[one.name]


@pytest.fixture
def recipe(tmp_path: Path) -> LoadedRecipe:
    return load_recipe(write_recipe(tmp_path / "recipe"))


@pytest.fixture
def walk(recipe: LoadedRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Walk toy steps in tmp_path/run, with neither base nor report."""
    monkeypatch.setattr(pipeline.bases, "prepare", lambda source, progress: BASE)
    monkeypatch.setattr(report, "write", lambda directory: None)

    def run(steps: Sequence[Step], until: str | None = None) -> Run:
        monkeypatch.setattr(pipeline, "steps_of", lambda recipe, base: list(steps))
        return pipeline.run(recipe, tmp_path / "run", Silent(), until)

    return run


def statuses(run: Run) -> list[tuple[str, str]]:
    return [(s.name, s.status) for s in run.steps]


# one step


def test_a_step_is_done_once_and_then_reused(tmp_path: Path) -> None:
    walked = Run(tmp_path)
    made = do(step(writes("one")), tmp_path, walked)
    assert do(step(never), tmp_path, walked) == made
    assert [s.status for s in walked.steps] == ["done", "reused"]


def test_a_finished_step_says_what_it_was_made_of(tmp_path: Path) -> None:
    manifest = do(step(writes("one"), {"x": 3}), tmp_path).manifest
    assert (manifest.step, manifest.inputs, manifest.settings, list(manifest.files)) == ("data", {"base": "base-print"}, {"x": 3}, ["out.txt"])


def test_a_folder_is_named_after_step_and_key(tmp_path: Path) -> None:
    made = do(step(writes("one")), tmp_path)
    assert made.path == tmp_path / f"data-{key_of(step(never), {'base': 'base-print'})[:8]}"


def test_a_step_that_breaks_leaves_a_part_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        do(step(breaks), tmp_path)
    (left,) = tmp_path.iterdir()
    assert left.suffix == ".part"
    assert not (left / MANIFEST).exists()


def test_the_next_try_finds_the_notes_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        do(step(breaks), tmp_path)

    def resumes(inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        (folder / "out.txt").write_text(" ".join(found))

    assert do(step(resumes), tmp_path).file("out.txt").read_text() == "notes/checkpoint"


@pytest.mark.parametrize(("x", "told"), [(1, False), (2, True)])
def test_a_step_that_begins_anew_beside_an_unfinished_one_says_so(x: int, told: bool, tmp_path: Path) -> None:
    said: list[str] = []

    class Told(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    with pytest.raises(DataError):
        do(step(breaks, {"x": 1}), tmp_path)
    do(step(writes("two"), {"x": x}), tmp_path, progress=Told())
    assert any("was not finished" in line for line in said) is told


def test_changed_settings_make_another_folder_and_leave_the_first(tmp_path: Path) -> None:
    first, second = do(step(writes("one"), {"x": 1}), tmp_path), do(step(writes("two"), {"x": 2}), tmp_path)
    assert first.path != second.path
    assert (first.file("out.txt").read_text(), second.file("out.txt").read_text()) == ("one", "two")


@pytest.mark.parametrize("other", [step(never, {"x": 2}), step(never, {"x": 1, "y": 1}), step(never, version=2), step(never, stage="train")])
def test_the_key_changes_with_settings_version_and_stage(other: Step) -> None:
    assert key_of(other, {"base": "f"}) != key_of(step(never), {"base": "f"})


def test_the_key_changes_with_an_inputs_fingerprint_and_no_other() -> None:
    assert key_of(step(never), {"base": "f"}) != key_of(step(never), {"base": "g"})
    assert key_of(step(never), {"base": "f", "train": "a"}) == key_of(step(never), {"base": "f", "train": "b"})


# a walk


def test_a_walk_does_every_step_and_the_next_one_reuses_all(walk: Callable[..., Run]) -> None:
    steps = [step(writes("rows")), step(writes("weights"), name="train", stage="train", inputs=("base", "data"))]
    first, second = walk(steps), walk(steps)
    assert (statuses(first), first.changed) == ([("data", "done"), ("train", "done")], True)
    assert (statuses(second), second.changed) == ([("data", "reused"), ("train", "reused")], False)


def test_a_step_sees_what_earlier_steps_made(walk: Callable[..., Run]) -> None:
    def copies(inputs: Mapping[str, Artifact], folder: Path, progress: Progress) -> None:
        (folder / "out.txt").write_text(inputs["data"].file("out.txt").read_text() + "!")

    run = walk([step(writes("rows")), step(copies, name="train", stage="train", inputs=("data",))])
    assert run.artifacts["train"].file("out.txt").read_text() == "rows!"


def test_a_changed_step_runs_what_rests_on_it(walk: Callable[..., Run]) -> None:
    walk([step(writes("rows"), {"x": 1}), step(writes("w"), name="train", stage="train", inputs=("data",))])
    again = walk([step(writes("other rows"), {"x": 2}), step(writes("w"), name="train", stage="train", inputs=("data",))])
    assert statuses(again) == [("data", "done"), ("train", "done")]


def test_the_same_content_from_a_changed_step_stops_the_ripple(walk: Callable[..., Run]) -> None:
    walk([step(writes("rows"), {"x": 1}), step(writes("w"), name="train", stage="train", inputs=("data",))])
    again = walk([step(writes("rows"), {"x": 2}), step(never, name="train", stage="train", inputs=("data",))])
    assert statuses(again) == [("data", "done"), ("train", "reused")]


def test_a_walk_stops_behind_the_stage_it_is_asked_for(walk: Callable[..., Run]) -> None:
    run = walk([step(writes("rows")), step(never, name="train", stage="train", inputs=("data",))], "data")
    assert statuses(run) == [("data", "done")]


def test_an_unknown_stage_is_said_before_anything_is_done(walk: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no stage 'tarin'"):
        walk([step(never)], "tarin")
    assert not (tmp_path / "run").exists()


def test_a_walk_that_breaks_keeps_what_was_done_and_tells_where(walk: Callable[..., Run], tmp_path: Path) -> None:
    steps = [step(writes("rows")), step(breaks, name="train", stage="train", inputs=("data",))]
    with pytest.raises(DataError, match="a bad row"):
        walk(steps)
    told = json.loads((tmp_path / "run" / pipeline.RUN).read_text())["steps"]
    assert [(s["name"], s["status"]) for s in told] == [("data", "done"), ("train", "failed")]
    assert (tmp_path / "run" / told[1]["folder"] / "notes" / "checkpoint").read_text() == "50"
    assert statuses(walk([step(never), step(writes("w"), name="train", stage="train", inputs=("data",))])) == [("data", "reused"), ("train", "done")]


def test_reused_steps_keep_what_they_cost(walk: Callable[..., Run], tmp_path: Path) -> None:
    made = walk([step(writes("rows"))]).artifacts["data"]
    artifact.write_json(made.path / "notes" / pipeline.COST, {"seconds": 123.0, "peak_rss_mb": 45.0})
    walk([step(never)])
    told = json.loads((tmp_path / "run" / pipeline.RUN).read_text())["steps"]
    assert [(s["status"], s["seconds"], s["peak_rss_mb"]) for s in told] == [("reused", 123.0, 45.0)]


def test_a_step_whose_costs_were_lost_is_reused_all_the_same(walk: Callable[..., Run]) -> None:
    made = walk([step(writes("rows"))]).artifacts["data"]
    (made.path / "notes" / pipeline.COST).unlink()
    (again,) = walk([step(never)]).steps
    assert (again.status, again.seconds) == ("reused", 0.0)


def test_two_walks_in_one_folder_are_refused(walk: Callable[..., Run], tmp_path: Path) -> None:
    with artifact.locked(tmp_path / "run"), pytest.raises(BusyError):
        walk([step(never)])


def test_a_walk_writes_the_resolved_recipe(walk: Callable[..., Run], tmp_path: Path) -> None:
    walk([step(writes("rows"))])
    assert "base: base-print" in (tmp_path / "run" / "recipe.resolved.yaml").read_text()


# the real steps


def keys(recipe: LoadedRecipe) -> dict[str, str]:
    """The keys of a recipe's steps, each over inputs of the same fingerprints."""
    steps = steps_of(recipe, BASE)
    return {s.name: key_of(s, {name: f"print of {name}" for name in ("base", *(t.name for t in steps))}) for s in steps}


def changed(recipe: LoadedRecipe, *overrides: str) -> set[str]:
    """Steps whose own key an override changes."""
    before, after = keys(recipe), keys(load_recipe(recipe.path, overrides))
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_inputs_come_before_what_needs_them(recipe: LoadedRecipe) -> None:
    known = {"base"}
    for one in steps_of(recipe, BASE):
        assert set(one.inputs) <= known
        known.add(one.name)


def test_every_quantisation_has_a_folder_and_an_audit_and_f16_is_always_made(recipe: LoadedRecipe) -> None:
    names = [s.name for s in steps_of(recipe, BASE)]
    assert names == ["data", "train", "evaluate", "export-F16", "export-Q8_0", "audit-F16", "audit-Q8_0", "release"]


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("train.epochs=5", {"train"}),
        ("data.test_share=0.3", {"data"}),
        ("evaluate.questions=9", {"evaluate"}),
        ("evaluate.probes=9", {"evaluate"}),
        ("train.seed=8", {"train"}),
        ("audit.never_taught=9", {"audit-F16", "audit-Q8_0"}),
        ("audit.thresholds.violation_bound=0.1", {"release"}),
        ("export.quantisations=[Q8_0, Q4_0]", {"export-Q4_0", "audit-Q4_0", "release"}),
        ("export.quantisations=[F16, Q8_0]", set()),
        ("seed=8", {"data", "train", "evaluate", "audit-F16", "audit-Q8_0"}),
        ("machine.threads=3", set()),
        ("machine.slots=3", set()),
        ("machine.report_to=[tensorboard, wandb]", set()),
    ],
)
def test_a_setting_changes_the_keys_of_its_own_steps_only(recipe: LoadedRecipe, override: str, steps: set[str]) -> None:
    assert changed(recipe, override) == steps


def test_a_benchmarks_rows_count_and_where_they_lie_does_not(recipe: LoadedRecipe, tmp_path: Path) -> None:
    def key(folder: str, text: str) -> str:
        path = tmp_path / folder / "arc.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return keys(load_recipe(recipe.path, [f"evaluate.benchmarks.arc_challenge={path}"]))["evaluate"]

    assert key("a", "{}") == key("b", "{}") != key("b", '{"id": 1}')


def test_a_changed_suite_is_examined_again_but_not_trained_again(recipe: LoadedRecipe) -> None:
    before = keys(recipe)
    suite = recipe.path.parent / "suite.yaml"
    suite.write_text(suite.read_text().replace("butter", "toothpaste"))
    after = keys(load_recipe(recipe.path))
    assert {name for name in before if before[name] != after[name]} == {"evaluate", "audit-F16", "audit-Q8_0", "release"}


def test_a_changed_system_turn_makes_the_data_anew(recipe: LoadedRecipe) -> None:
    before = keys(recipe)
    persona = recipe.path.parent / "persona.yaml"
    persona.write_text(persona.read_text().replace("You help.", "You help kindly."))
    after = keys(load_recipe(recipe.path))
    assert before["data"] != after["data"]
    assert before["train"] == after["train"]


def test_changed_rows_make_the_data_anew(recipe: LoadedRecipe) -> None:
    before = keys(recipe)
    with (recipe.path.parent / "rows.jsonl").open("a") as file:
        file.write('{"question": "New?", "answer": "Yes."}\n')
    assert keys(load_recipe(recipe.path))["data"] != before["data"]


def test_qlora_without_its_library_is_refused_before_any_work(recipe: LoadedRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.bases, "prepare", lambda source, progress: BASE)
    monkeypatch.setattr(pipeline, "version_of", lambda package: "missing")
    monkeypatch.setattr(pipeline, "steps_of", lambda recipe, base: [step(never)])
    with pytest.raises(MachineError, match="bitsandbytes"):
        pipeline.run(load_recipe(recipe.path, ["train.method=qlora"]), tmp_path / "run", Silent())


def test_a_tracker_that_is_not_installed_is_refused_before_any_work(recipe: LoadedRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.bases, "prepare", lambda source, progress: BASE)
    monkeypatch.setattr(pipeline, "version_of", lambda package: "missing" if package == "wandb" else "1.0")
    monkeypatch.setattr(pipeline, "steps_of", lambda recipe, base: [step(never)])
    with pytest.raises(MachineError, match="wandb, which is not installed") as raised:
        pipeline.run(load_recipe(recipe.path, ["machine.report_to=[tensorboard, wandb]"]), tmp_path / "run", Silent())
    assert raised.value.cure == "run: pip install wandb, or leave it out"


def test_fp16_without_a_gpu_is_refused_before_any_work(recipe: LoadedRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.bases, "prepare", lambda source, progress: BASE)
    monkeypatch.setattr(machine, "gpu_generation", lambda: 0)
    monkeypatch.setattr(pipeline, "steps_of", lambda recipe, base: [step(never)])
    with pytest.raises(MachineError, match="fp16, which trains on a CUDA GPU alone"):
        pipeline.run(load_recipe(recipe.path, ["train.precision=fp16"]), tmp_path / "run", Silent())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("I/O error: No space left on device (os error 28)")])
def test_a_disk_that_fills_up_is_said_in_words(recipe: LoadedRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fills_up(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline.bases, "prepare", lambda source, progress: BASE)
    monkeypatch.setattr(pipeline, "steps_of", lambda recipe, base: [step(fills_up)])
    with pytest.raises(MachineError, match=r"the disk of .* is full") as raised:
        pipeline.run(recipe, tmp_path / "run", Silent())
    assert "it goes on from the last checkpoint" in raised.value.cure
