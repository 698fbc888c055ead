"""KTO and DPO, on a tiny random model: liked answers rise over disliked ones on questions that were held out."""

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lorikeet.cli import main

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


def rambling() -> Iterator[dict[str, Any]]:
    for row in labelled():
        yield row if row["label"] else {**row, "completion": 9 * row["completion"]}


def pairs() -> Iterator[dict[str, Any]]:
    for thing in THINGS:
        yield {"prompt": f"What about a {thing}?", "chosen": good(thing), "rejected": bad(thing)}


def sets(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def rated(recipe: Path, rows: Iterable[dict[str, Any]]) -> list[str]:
    """What to tell a command so that the recipe learns from these rows."""
    (recipe.parent / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(recipe), *sets(f"data.train={recipe.parent / 'rated.jsonl'}", *SETTINGS)]


def only(out: Path, step: str) -> Path:
    """The finished folder of a step."""
    (folder,) = (p for p in out.glob(f"{step}-*") if not p.name.endswith(".part"))
    return folder


@pytest.mark.parametrize(("objective", "rows"), [("kto", labelled), ("dpo", pairs)])
def test_liked_answers_rise_over_disliked_ones_on_questions_held_out(tiny_recipe: Path, tmp_path: Path, objective: str, rows: Any) -> None:
    out = tmp_path / "run"
    assert main(["evaluate", *rated(tiny_recipe, rows()), "--out", str(out), *sets(f"train.objective={objective}")]) == 0
    log = json.loads((only(out, "train") / "training.json").read_text())["log"]
    margins = [entry["eval_rewards/margins"] for entry in log if "eval_loss" in entry]
    assert len(margins) == 4 and margins[-1] > max(0.2, margins[0])
    (measure,) = (m for m in json.loads((only(out, "evaluate") / "evidence.json").read_text())["measures"] if m["name"] == "ratings.margin")
    assert measure["subject"] == "tuned" and measure["low"] > 0


def test_a_run_goes_on_from_an_adapter_and_a_kill_changes_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    first, plain, killed = (tmp_path / name for name in ("first", "plain", "killed"))
    assert main(["train", str(tiny_recipe), "--out", str(first), *sets("train.rank=4", "train.alpha=4")]) == 0
    told = [*rated(tiny_recipe, labelled()), *sets("train.objective=kto", f"train.adapter={first}", "train.checkpoint_steps=2")]
    assert main(["train", *told, "--out", str(plain)]) == 0
    assert json.loads((only(plain, "train") / "adapter_config.json").read_text())["r"] == 4
    assert json.loads((only(plain, "train") / "training.json").read_text())["scale"] == 1
    assert not list(only(plain, "train").glob("*/adapter_model.safetensors")), "the adapter that it began with is not kept beside it"
    command = [sys.executable, "-m", "lorikeet", "train", *told, "--out", str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(killed.glob("train-*.part/notes/checkpoints/*/complete")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    last = subprocess.run(command, capture_output=True, text=True, check=True, timeout=500)
    assert "going on from checkpoint-" in last.stderr
    assert (only(killed, "train") / "adapter_model.safetensors").read_bytes() == (only(plain, "train") / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        (lambda: ({**row, "label": True} for row in labelled()), ["train.objective=kto"], "no answer of data.train is disliked"),
        (labelled, ["train.objective=dpo"], "no answer of data.train is liked"),
        (lambda: list(labelled())[:6], ["train.objective=kto"], "too few ratings"),
        (labelled, ["train.objective=kto", "train.batch=1"], "train.batch is 1"),
        (rambling, ["train.objective=kto", "data.max_tokens=64"], "more than data.max_tokens"),
    ],
)
def test_what_cannot_be_preferred_is_refused_in_words(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: Any, changes: list[str], message: str
) -> None:
    assert main(["train", *rated(tiny_recipe, rows()), "--out", str(tmp_path / "run"), *sets(*changes)]) == 2
    told = capsys.readouterr().err
    assert message in told and "cure: " in told


def test_an_adapter_for_another_base_or_of_another_shape_is_refused(tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = tmp_path / "first"
    assert main(["train", str(tiny_recipe), "--out", str(first)]) == 0

    def refused(*changes: str) -> str:
        capsys.readouterr()
        assert main(["train", str(tiny_recipe), "--out", str(tmp_path / "second"), *sets(*changes)]) == 2
        return capsys.readouterr().err

    assert "holds no adapter" in refused(f"train.adapter={tmp_path}")
    assert "train.rank is 8, but the adapter" in refused(f"train.adapter={first}", "train.rank=8")
    assert "was trained on another base" in refused(f"train.adapter={first}", "base=smollm2-135m")
    (only(first, "train") / "manifest.json").unlink()
    assert "does not fit" in refused(f"train.adapter={next(first.glob('train-*'))}", "base=smollm2-135m")
