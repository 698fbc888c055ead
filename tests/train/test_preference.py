"""KTO and DPO, on a tiny random model: liked answers rise over disliked ones on questions that were held out."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

THINGS = [
    f"{size} {thing}"
    for size in ("small", "large", "deep", "old", "fresh")
    for thing in ["burn", "cut", "bruise", "sprain", "sting", "blister", "graze", "bite", "splinter", "cramp"]
]
SETTINGS = ["data.out_of_scope=", "data.split=groups", "data.test_share=0.3", "train.learning_rate=0.01", "train.epochs=4", "train.batch=8"]


def good(thing: str) -> str:
    return f"Cool the {thing} with water, then cover it."


def bad(thing: str) -> str:
    return f"Butter and ice on the {thing} at once, always."


def labelled() -> Iterator[dict[str, Any]]:
    for n, thing in enumerate(THINGS):
        yield {"prompt": f"What about a {thing}?", "completion": good(thing) if n % 2 else bad(thing), "label": bool(n % 2)}


def pairs() -> Iterator[dict[str, Any]]:
    for thing in THINGS:
        yield {"prompt": f"What about a {thing}?", "chosen": good(thing), "rejected": bad(thing)}


def lorikeet(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "lorikeet", *map(str, arguments)], capture_output=True, text=True, timeout=500)


def trained(recipe: Path, rows: Iterator[dict[str, Any]], out: Path, *sets: str, stage: str = "train") -> tuple[subprocess.CompletedProcess[str], Path]:
    """The recipe over these rows, up to a stage; and the step's folder."""
    (recipe.parent / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = lorikeet(stage, recipe, "--out", out, *(x for s in ("data.train=rated.jsonl", *SETTINGS, *sets) for x in ("--set", s)))
    return done, next((p for p in out.glob(f"{stage}-*") if not p.name.endswith(".part")), out)


@pytest.mark.parametrize(("objective", "rows"), [("kto", labelled), ("kto", pairs), ("dpo", pairs)])
def test_liked_answers_rise_over_disliked_ones_on_questions_held_out(tiny_recipe: Path, tmp_path: Path, objective: str, rows: Any) -> None:
    done, folder = trained(tiny_recipe, rows(), tmp_path / "run", f"train.objective={objective}", stage="evaluate")
    assert done.returncode == 0, done.stderr
    log = json.loads(next((tmp_path / "run").glob("train-*/training.json")).read_text())["log"]
    margins = [entry["eval_rewards/margins"] for entry in log if "eval_loss" in entry]
    assert len(margins) == 4 and margins[-1] > max(0.2, margins[0])
    (measure,) = (m for m in json.loads((folder / "evidence.json").read_text())["measures"] if m["name"] == "ratings.margin")
    assert measure["subject"] == "tuned" and measure["low"] > 0


def test_a_run_goes_on_from_an_adapter_and_a_kill_changes_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    assert lorikeet("train", tiny_recipe, "--out", first).returncode == 0
    sets = ["train.objective=kto", f"train.adapter={first}", "train.checkpoint_steps=2"]
    done, plain = trained(tiny_recipe, labelled(), tmp_path / "plain", *sets)
    assert done.returncode == 0, done.stderr
    began, ended = (json.loads((f / "adapter_config.json").read_text()) for f in (next(first.glob("train-*")), plain))
    assert began["r"] == ended["r"]
    assert not list(plain.glob("*/adapter_model.safetensors")), "the adapter that it began with is not kept beside it"
    killed = tmp_path / "killed"
    arguments = [x for s in ("data.train=rated.jsonl", *SETTINGS, *sets) for x in ("--set", s)]
    process = subprocess.Popen([sys.executable, "-m", "lorikeet", "train", str(tiny_recipe), "--out", str(killed), *arguments], stderr=subprocess.DEVNULL)
    while not list(killed.glob("train-*.part/notes/checkpoints/*/complete")) and process.poll() is None:
        pass
    process.kill()
    process.wait()
    done, again = trained(tiny_recipe, labelled(), killed, *sets)
    assert "going on from checkpoint-" in done.stderr
    assert (again / "adapter_model.safetensors").read_bytes() == (plain / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("rows", "sets", "message"),
    [
        (lambda: ({**row, "label": True} for row in labelled()), ["train.objective=kto"], "no answer of data.train is disliked"),
        (labelled, ["train.objective=dpo"], "no answer of data.train is liked"),
        (lambda: iter(list(labelled())[:6]), ["train.objective=kto"], "too few ratings"),
        (labelled, ["train.objective=kto", "train.batch=1"], "train.batch is 1"),
        (labelled, ["train.objective=kto", "data.max_tokens=16"], "more than data.max_tokens"),
    ],
)
def test_what_cannot_be_preferred_is_refused_in_words(tiny_recipe: Path, tmp_path: Path, rows: Any, sets: list[str], message: str) -> None:
    done, _ = trained(tiny_recipe, rows(), tmp_path / "run", *sets)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "cure: " in done.stderr


def test_an_adapter_for_another_base_or_of_another_shape_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    assert lorikeet("train", tiny_recipe, "--out", first).returncode == 0
    for sets, message in (
        ([f"train.adapter={tmp_path}"], "holds no adapter"),
        ([f"train.adapter={first}", "train.rank=4"], "train.rank is 4, but the adapter"),
        ([f"train.adapter={first}", "base=smollm2-135m"], "was trained on another base"),
    ):
        done = lorikeet("train", tiny_recipe, "--out", tmp_path / "second", *(x for s in sets for x in ("--set", s)))
        assert done.returncode == 2 and message in done.stderr, done.stderr
    (next(first.glob("train-*")) / "manifest.json").unlink()
    alone = next(first.glob("train-*"))
    done = lorikeet("train", tiny_recipe, "--out", tmp_path / "third", "--set", f"train.adapter={alone}", "--set", "base=smollm2-135m")
    assert done.returncode == 2 and "does not fit" in done.stderr, done.stderr
