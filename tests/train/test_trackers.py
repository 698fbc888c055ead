"""TensorBoard gets what the trainer logs, in the run folder, and the adapter is none the wiser."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_tensorboard_has_the_losses_of_the_log_in_the_notes(tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from lorikeet.cli import main

    sets = [x for s in ("train.epochs=1", "machine.report_to=[tensorboard]") for x in ("--set", s)]
    assert main(["train", str(tiny_recipe), "--out", str(tmp_path / "run"), "--json", *sets]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "tiny"
    (folder,) = (tmp_path / "run").glob("train-*")
    events = EventAccumulator(str(folder / "notes" / "tensorboard"))
    events.Reload()
    logged = [e for e in json.loads((folder / "training.json").read_text())["log"] if "loss" in e]
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(e["step"], pytest.approx(e["loss"], rel=1e-5)) for e in logged]
    assert len(events.Scalars("eval/loss")) == 1
