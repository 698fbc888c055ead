"""Runs built to have one known fault each, and healthy ones that must give no alarm."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorikeet.diagnosis import diagnose, log_of, read_log, told
from lorikeet.errors import RecipeError

Entries = list[dict[str, Any]]


def run(steps: int = 300, epochs: float = 3, noise: float = 0.05, seed: int = 1, *, loss: Callable[[float], float] | None = None,
        norm: Callable[[int], float] | None = None, held_out: tuple[float, ...] = (1.8, 1.6, 1.55), peak: float = 2e-4) -> Entries:  # fmt: skip
    """A log: loss over the share of the run done, with multiplicative noise; warm-up over 5 %, then cosine."""
    draw = np.random.default_rng(seed)
    shape = loss or (lambda x: 1.5 + math.exp(-6 * x))
    entries: Entries = []
    each = steps / epochs
    for step in range(1, steps + 1):
        done = step / steps
        rate = peak * min(1, done / 0.05) * (0.5 + 0.5 * math.cos(math.pi * done))
        value = shape(done) * float(np.exp(noise * draw.standard_normal()))
        size = norm(step) if norm else 0.6 * float(np.exp(0.2 * draw.standard_normal()))
        entries.append({"step": step, "epoch": step / each, "loss": value, "grad_norm": size, "learning_rate": rate})
        if step % each < 1 and held_out:
            entries.append({"step": step, "epoch": round(step / each), "eval_loss": held_out[min(round(step / each), len(held_out)) - 1]})
    return entries


def codes(entries: Entries, **more: Any) -> set[str]:
    """Codes of the findings that are more than notes."""
    return {f.code for f in diagnose(log_of(entries, **more)) if f.severity != "note"}


def changed(entries: Entries, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Entries:
    return [change(dict(e)) if "loss" in e else e for e in entries]


def spiky(x: float) -> float:
    return (1.5 + math.exp(-6 * x)) * (6 if any(abs(x - at) < 1e-3 for at in (0.3, 0.5, 0.6, 0.8)) else 1)


HEALTHY = {
    "a usual run": run(),
    "a rough one": run(noise=0.5, seed=2),
    "one short pass over a closed set, from 3.9 to 0.02": run(120, 1, 0.9, 3, loss=lambda x: 3.9 * math.exp(-5.3 * x) + 0.01, held_out=(0.02,)),
    "a base that knows most already": run(400, 2, 0.08, 4, loss=lambda x: 0.8 + 0.15 * math.exp(-4 * x), held_out=(0.85, 0.84)),
    "one in which a loss jumped once": changed(run(seed=5), lambda e: e | ({"loss": e["loss"] * 5, "grad_norm": 9.0} if e["step"] == 150 else {})),
    "held-out losses within a hair": run(seed=6, held_out=(1.6, 1.55, 1.556)),
}
FAULTY = {
    "train.nan": changed(run(), lambda e: e | ({"loss": math.nan, "grad_norm": math.nan} if e["step"] > 140 else {})),
    "train.masked": changed(run(), lambda e: e | {"loss": 0.0, "grad_norm": 0.0}),
    "train.frozen": changed(run(loss=lambda x: 2.0), lambda e: e | {"grad_norm": 0.0}),
    "train.rate.none": changed(run(loss=lambda x: 2.0), lambda e: e | {"learning_rate": 0.0}),
    "train.rate.high": run(loss=lambda x: 1.4 + math.exp(-8 * x) + 2.2 * max(0.0, x - 0.3), held_out=()),
    "train.rate.spikes": run(loss=spiky, norm=lambda n: 8.0 if any(abs(n / 300 - at) < 1e-3 for at in (0.3, 0.5, 0.6, 0.8)) else 0.6),
    "train.rate.low": run(loss=lambda x: 2.6 - 0.01 * x, held_out=(2.6, 2.6, 2.6), peak=1e-7),
    "train.overfit": run(held_out=(1.6, 1.75, 2.1)),
    "train.staircase": run(loss=lambda x: (1.8, 1.1, 0.5)[min(2, int(x * 3 - 1e-9))], held_out=(1.6, 1.75, 2.1)),
    "train.log.backwards": run(150) + run(150, seed=9),
    "train.log.empty": [{"step": 10, "epoch": 1, "eval_loss": 2.0}],
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_gives_no_alarm(name: str) -> None:
    assert codes(HEALTHY[name]) == set()


@pytest.mark.parametrize("seed", range(20))
def test_no_noise_of_a_healthy_run_gives_an_alarm(seed: int) -> None:
    assert codes(run(noise=0.1 + seed / 20, seed=seed + 50)) == set()


@pytest.mark.parametrize("code", FAULTY)
def test_a_run_with_one_fault_gets_that_one_alarm(code: str) -> None:
    assert codes(FAULTY[code]) == {code}


def test_an_adapter_that_hardly_moved_is_told() -> None:
    assert codes(run(), moved=1e-6) == {"train.still"}
    assert codes(run(), moved=0.05) == set()


def notes(entries: Entries, **more: Any) -> dict[str, str]:
    return {f.code: f"{f.what}; {f.cure}" for f in diagnose(log_of(entries, **more)) if f.severity == "note"}


def test_clipping_nearly_always_is_a_note_with_the_norm_to_set() -> None:
    entries = run(norm=lambda n: 4.0 + n / 300)
    assert "set max_grad_norm near 5" in notes(entries)["train.clipped"]
    assert "if it is at transformers' default" in notes(entries)["train.clipped"]
    assert "default" not in notes(entries, clip_known=True)["train.clipped"]
    assert "train.clipped" not in notes(entries, clip=10.0)


def test_what_was_not_measured_and_what_goes_on_are_notes() -> None:
    assert "train.unseen" in notes(run(held_out=()))
    assert "from 1.8 to 1.5" in notes(run(held_out=(2.4, 1.8, 1.5)))["train.unfinished"]
    assert "train.short" in notes(run(5, 1))
    assert notes(run(), scale=2.0)["train.scale"].startswith("alpha over rank is 2: it multiplies the learning rate of 0.0002")


def test_the_step_to_go_back_to_is_named() -> None:
    (finding,) = [f for f in diagnose(log_of(run(held_out=(1.6, 1.61, 2.1)))) if f.code == "train.overfit"]
    assert finding.cure.startswith("keep the checkpoint of step 100 (step 200 is as good)")


def test_any_trainers_state_is_read_from_its_file_its_checkpoint_or_its_output_folder(tmp_path: Path) -> None:
    for step in (9, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": run(step + 100)}))
    (folder / "adapter_config.json").write_text(json.dumps({"r": 16, "lora_alpha": 32, "use_rslora": True}))
    logs = [read_log(path) for path in (tmp_path, folder, folder / "trainer_state.json")]
    assert [len(log.loss) for log in logs] == [200, 200, 200]
    assert logs[0].scale == 8.0


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"log_history": 3}', '{"log_history": [{"loss": "high"}]}', '{"log_history": [7]}'])
def test_what_is_no_log_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "trainer_state.json").write_text(content)
    with pytest.raises(RecipeError, match="is not the log of a training run"):
        read_log(tmp_path)
    with pytest.raises(RecipeError, match="holds no log"):
        read_log(tmp_path / "nowhere")


def test_the_diagnosis_is_told_in_words() -> None:
    log = log_of(FAULTY["train.overfit"])
    text = told(log, diagnose(log))
    assert "300 steps, 300 logged: loss 2.5" in text
    assert "next: keep the checkpoint of step 100" in text
    assert "nothing is wrong" in told(log_of(run()), diagnose(log_of(run())))
