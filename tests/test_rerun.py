"""A run once more with one thing changed: what is advised, what is asked for, and what is refused since no cause could be named."""

import json
from pathlib import Path
from typing import Any

import pytest
from toy_recipe import write_recipe

from lorikeet import rerun
from lorikeet.artifact import write_json
from lorikeet.cli import main
from lorikeet.diagnosis import log_of, remedies
from lorikeet.errors import RecipeError
from lorikeet.evidence import Finding
from lorikeet.progress import Silent
from lorikeet.recipe import load_recipe, resolved_text
from lorikeet.weights import Base

BASE = Base(Path("/nowhere"), "tiny", "base-print", "here", "unknown", weights=100_000_000, layers=10)
HEALTHY = [{"step": n, "epoch": n / 50, "loss": 4 * 0.97**n + 1, "grad_norm": 0.5, "learning_rate": 1e-3} for n in range(1, 101)]
FLAT = [entry | {"loss": 2.0} for entry in HEALTHY]
OVER = [*HEALTHY, {"step": 50, "epoch": 1.0, "eval_loss": 1.5}, {"step": 100, "epoch": 2.0, "eval_loss": 1.9}]
CLIPPED = [entry | {"grad_norm": 4.0 + entry["step"] / 100} for entry in HEALTHY] + [{"step": 100, "epoch": 2.0, "eval_loss": 1.5}]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder of the toy recipe up to its training, which nothing can be said against."""
    monkeypatch.setattr(rerun.bases, "prepare", lambda source, progress: BASE)
    recipe = load_recipe(write_recipe(tmp_path / "recipe"), ["train.learning_rate=0.001"])
    folder = tmp_path / "first"
    (folder / "train-1").mkdir(parents=True)
    (folder / "recipe.resolved.yaml").write_text(resolved_text(recipe.for_base(BASE), BASE.fingerprint))
    steps = [{"name": "data", "folder": "data-1"}, {"name": "train", "folder": "train-1"}]
    write_json(folder / "run.json", {"recipe": str(recipe.path), "steps": steps})
    logged(folder, HEALTHY)
    return folder


def logged(run: Path, entries: list[dict[str, Any]]) -> None:
    (run / "train-1" / "training.json").write_text(json.dumps({"log": entries}))


def planned(run: Path, *changes: str, out: Path | None = None) -> rerun.Rerun:
    return rerun.plan(run, changes, out, Silent())


def test_one_setting_changes_and_all_others_are_those_of_the_run(run: Path) -> None:
    again = planned(run, "train.rank=64")
    train = again.recipe.recipe.train
    assert (train.rank, train.learning_rate, train.epochs) == (64, 0.001, 2)  # the rate is the run's own, not the recipe's
    assert (again.until, again.directory, again.why) == ("train", run.with_name("first-train.rank-64"), "")


def test_a_run_that_reached_its_release_is_run_as_far(run: Path) -> None:
    told = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**told, "steps": [*told["steps"], {"name": "audit-Q8_0", "folder": "a"}]})
    assert planned(run, "seed=8").until == "audit"
    write_json(run / "run.json", {**told, "steps": [*told["steps"], {"name": "release", "folder": "r"}]})
    assert planned(run, "seed=8").until == "release"


@pytest.mark.parametrize(
    ("entries", "change"),
    [(FLAT, "train.learning_rate=0.003"), (OVER, "train.epochs=1"), (CLIPPED, "train.max_grad_norm=5")],
    ids=["too low a rate", "learned by heart", "clipped"],
)
def test_without_a_change_the_worst_finding_that_names_a_setting_is_followed(run: Path, entries: list[dict[str, Any]], change: str) -> None:
    logged(run, entries)
    again = planned(run)
    assert again.change == change
    assert again.why.startswith("train.")


def test_where_nothing_is_advised_that_is_said(run: Path) -> None:
    with pytest.raises(RecipeError, match="nothing is advised"):
        planned(run)


@pytest.mark.parametrize("code", ["train.rate.high", "train.rate.spikes"])
def test_a_rate_that_is_too_high_is_cut_to_a_third(code: str) -> None:
    (remedy,) = remedies(log_of(HEALTHY), Finding("warning", "", code=code))
    assert (remedy.key, remedy.factor) == ("train.learning_rate", pytest.approx(1 / 3))


def test_after_a_loss_that_is_no_number_fp32_comes_before_a_lower_rate(run: Path) -> None:
    logged(run, [entry | ({"loss": float("nan")} if entry["step"] > 40 else {}) for entry in HEALTHY])
    assert planned(run).change == "train.precision=fp32"
    path = run / "recipe.resolved.yaml"
    path.write_text(path.read_text().replace("precision: auto", "precision: fp32"))
    assert planned(run).change == "train.learning_rate=0.00033"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["train.rank=64", "seed=8"], "2 changes are asked for"),
        (["train={epochs: 5, rank: 64}"], "train.epochs, "),
        (["train.rank=16"], "it is so already"),
        (["train.rnk=16"], "--change train.rnk=16: unknown key"),
        (["train.rank"], "--change train.rank: not of the form"),
    ],
)
def test_more_or_less_than_one_change_is_refused(run: Path, changes: list[str], words: str) -> None:
    with pytest.raises(RecipeError) as raised:
        planned(run, *changes)
    assert words in raised.value.message


@pytest.mark.parametrize(("name", "key"), [("rows.jsonl", "data.train:rows.jsonl"), ("persona.yaml", "persona"), ("suite.yaml", "audit.suite")])
def test_a_file_that_changed_since_is_named(run: Path, name: str, key: str) -> None:
    path = run.parent / "recipe" / name
    path.write_text(path.read_text().replace("burn", "scald").replace("Toy", "Game"))
    with pytest.raises(RecipeError, match=key):
        planned(run, "seed=8")


def test_a_base_that_is_another_now_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rerun.bases, "prepare", lambda source, progress: Base(Path("/nowhere"), "tiny", "other-print", "here", "unknown"))
    with pytest.raises(RecipeError, match="base: not what"):
        planned(run, "seed=8")


def test_the_run_itself_is_no_place_for_it(run: Path) -> None:
    with pytest.raises(RecipeError, match="is compared with"):
        planned(run, "seed=8", out=run)


def test_another_file_may_be_the_one_change(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("title: Toy\nsystem: You help gladly.\n")
    again = planned(run, f"persona={other}")
    assert again.recipe.persona.system == "You help gladly."
    assert again.directory.name == "first-persona-other.yaml"


def test_diagnose_names_the_command_and_the_setting(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logged(run, FLAT)
    assert main(["diagnose", str(run)]) == 0
    assert capsys.readouterr().out.endswith(f"try: lorikeet rerun {run}\n")
    assert main(["diagnose", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {"key": "train.learning_rate", "value": None, "factor": 3.0} in found[0]["remedies"]


@pytest.mark.slow
def test_a_rerun_trains_anew_and_names_the_one_cause(tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "first"
    assert main(["train", str(tiny_recipe), "--out", str(first), "--set", "train.epochs=1", "--set", "train.rank=8"]) == 0
    capsys.readouterr()
    assert main(["rerun", str(first), "--change", "train.learning_rate=0.01", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["diff"]["causes"] == ["train.learning_rate"]
    assert [step["name"] for step in told["run"]["steps"]] == ["data", "train"]
    assert told["held_out"][1] < told["held_out"][0]
    assert main(["rerun", str(first), "--change", "train.learning_rate=0.01"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "one cause: train.learning_rate"
    assert "done in" not in err  # it is done already
